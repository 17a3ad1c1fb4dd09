//! G4 over several daemons: one timer and one instant give one instance, whoever lives.

use std::time::Duration;

use petrel::model::time::Timestamp;
use petrel::store::events::InstanceFilter;
use petrel::store::rows::Page;

use crate::cluster::harness::{Cluster, Servers};
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::site::Site;

const ALL: Page = Page { limit: 10_000, offset: 0 };

const EVERY_SECOND: &str = "name: every_second\nenabled: true\ntrigger:\n  type: core.st2.IntervalTimer\n  \
                            parameters: {unit: seconds, delta: 1, misfire: all}\naction: {ref: core.noop}\n";

async fn instants(cluster: &Cluster) -> Vec<Timestamp> {
    let (all, _) = cluster.store().await.events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
    let mut instants: Vec<Timestamp> = all.iter().map(|instance| instance.occurred_at).collect();
    instants.sort_unstable();
    instants
}

async fn until_fired(cluster: &Cluster, by: usize, times: usize) {
    eventually("the timer fires", async || {
        (cluster.door(by).count("/v1/triggerinstances?limit=1").await >= times).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g04_three_daemons_fire_each_instant_once_also_while_one_is_killed_or_stopped() {
    let servers = Servers { database: fresh_database().await, broker: None };
    let mut cluster = Cluster::start(Site::new().file("rules/e.yaml", EVERY_SECOND), &servers, 3).await;
    until_fired(&cluster, 0, 3).await;
    cluster.members[0].kill_9().await;
    until_fired(&cluster, 1, 6).await;
    cluster.members[0].spawn();
    cluster.members[1].stop().await;
    until_fired(&cluster, 2, 10).await;
    cluster.members[1].go_on().await;
    cluster.members[0].until_ready().await;
    cluster.members[2].kill_9().await;
    until_fired(&cluster, 1, 14).await;
    cluster.members[2].spawn();
    cluster.members[2].until_ready().await;
    until_fired(&cluster, 2, 16).await;
    cluster.assert_alive();
    let instants = instants(&cluster).await;
    let gaps: Vec<Duration> = instants.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let off_beat = gaps.iter().filter(|gap| **gap != Duration::from_secs(1));
    assert_eq!(off_beat.count(), 0, "none is missing and none is there twice: {gaps:?}");
}
