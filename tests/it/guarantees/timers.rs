//! G4: one timer and one instant give one instance, across restarts; downtime is made up for as the timer says.

use std::collections::BTreeSet;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use petrel::model::time::Timestamp;
use petrel::store::events::InstanceFilter;
use petrel::store::rows::Page;

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

fn timer(misfire: &str, seconds: u32) -> String {
    format!(
        "name: every_{seconds}_{misfire}\nenabled: true\ntrigger:\n  type: core.st2.IntervalTimer\n  parameters: \
         {{unit: seconds, delta: {seconds}, misfire: {misfire}}}\naction: {{ref: core.noop}}\n"
    )
}

/// When the timer with this policy and interval fired, by the schedule, oldest first.
async fn instants(daemon: &Daemon<'_>, misfire: &str, seconds: u32) -> Vec<Timestamp> {
    let page = Page { limit: 1000, offset: 0 };
    let (all, _) = daemon.store().events().instance_list(&InstanceFilter::default(), page).await.unwrap();
    let (policy, delta) = (format!("misfire=\"{misfire}\""), format!("delta={seconds},"));
    let own = all.iter().filter(|one| one.trigger.contains(&policy) && one.trigger.contains(&delta));
    let mut found: Vec<Timestamp> = own.map(|one| one.occurred_at).collect();
    found.sort();
    found
}

async fn until_fired(daemon: &Daemon<'_>, times: usize) {
    eventually("timers fire", async || (daemon.count("/v1/triggerinstances?limit=1").await >= times).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g04_each_instant_gives_one_instance_and_all_makes_up_for_every_one() {
    let site = Site::new().file("rules/all.yaml", &timer("all", 1)).file("rules/once.yaml", &timer("once", 1));
    let mut daemon = Daemon::start(&site).await;
    let clock = SystemClock::new();
    for round in 1..=3 {
        until_fired(&daemon, 6 * round).await;
        daemon.kill9().await;
        clock.sleep_for(Duration::from_secs(3)).await;
        daemon.restart().await;
    }
    until_fired(&daemon, 24).await;
    daemon.kill9().await;
    let all = instants(&daemon, "all", 1).await;
    for pair in all.windows(2) {
        assert_eq!(pair[1].since(pair[0]), Duration::from_secs(1), "no instant is missing and none is there twice");
    }
    let once = instants(&daemon, "once", 1).await;
    assert_eq!(once.len(), once.iter().collect::<BTreeSet<_>>().len(), "{once:?}");
    let off_beat = once.windows(2).map(|pair| pair[1].since(pair[0])).filter(|gap| gap.subsec_nanos() != 0);
    assert_eq!(off_beat.count(), 0, "instants keep their beat across restarts: {once:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g04_after_downtime_once_fires_the_last_missed_instant_and_skip_none() {
    let site = Site::new().file("rules/once.yaml", &timer("once", 10)).file("rules/skip.yaml", &timer("skip", 10));
    let mut daemon = Daemon::start(&site).await;
    until_fired(&daemon, 2).await;
    daemon.kill9().await;
    let (once, skip) = (instants(&daemon, "once", 10).await, instants(&daemon, "skip", 10).await);
    assert_eq!((once.len(), skip.len()), (1, 1));
    let clock = SystemClock::new();
    clock.sleep_until(once[0].max(skip[0]).plus(Duration::from_millis(12_300))).await;
    daemon.restart().await;
    until_fired(&daemon, 4).await;
    daemon.kill9().await;
    let gaps =
        |fired: Vec<Timestamp>| fired.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect::<Vec<_>>();
    assert_eq!(gaps(instants(&daemon, "once", 10).await)[0], 10, "the missed one was made up for");
    let skipped = gaps(instants(&daemon, "skip", 10).await);
    assert!(skipped.iter().all(|gap| *gap == 20), "the missed one was passed over: {skipped:?}");
}
