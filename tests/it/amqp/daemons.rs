//! G1 and G2 with a broker in front of the store: whole daemons, real deliveries, brokers that are killed.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::servers::{self, Proxy, RabbitMq};
use crate::support::daemon::{Daemon, Delivered};
use crate::support::eventually;
use crate::support::site::Site;

/// A rule waits for the webhook `e`; the broker's queue is trusted after `grace`.
pub(super) fn site(url: &str, grace: &str) -> Site {
    let rule = "name: on_e\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: e}}\n\
                action: {ref: core.noop}\n";
    Site::new().file("rules/on_e.yaml", rule).setting("bus.url", url).setting("bus.fresh_queue_grace", grace)
}

/// Whoever writes first writes alone: nothing can be written to the daemon's store until this is dropped.
struct StoreAway(rusqlite::Connection);

impl StoreAway {
    fn of(daemon: &Daemon<'_>) -> Self {
        let connection = rusqlite::Connection::open(daemon.data_dir().join("petrel.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn comes_back(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

pub(super) async fn deliver(daemon: &Daemon<'_>, number: usize) -> Delivered {
    let key = format!("delivery-{number}");
    daemon.deliver("e", Some(&key), &json!({ "number": number })).await.expect("the daemon lives")
}

/// The instances of accepted deliveries; all of them must be accepted.
pub(super) async fn deliver_all(daemon: &Daemon<'_>, numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    let delivered = futures_util::future::join_all(numbers.map(|number| deliver(daemon, number))).await;
    let accepted = delivered.into_iter().map(|delivered| {
        assert_eq!(delivered.status, StatusCode::ACCEPTED);
        delivered.instance
    });
    accepted.collect()
}

/// The instances that are there, each as often as it is.
pub(super) async fn landed(daemon: &Daemon<'_>) -> Vec<String> {
    let rows = daemon.get("/v1/triggerinstances?limit=1000&trigger=core.st2.webhook").await;
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// All of them have landed, once, and nothing else has; and each was matched once.
pub(super) async fn assert_landed_once(daemon: &Daemon<'_>, accepted: &BTreeSet<String>) {
    eventually("everything has landed", async || (landed(daemon).await.len() >= accepted.len()).then_some(())).await;
    daemon.until_idle().await;
    let found = landed(daemon).await;
    assert_eq!(found.len(), accepted.len(), "nothing twice");
    assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), accepted);
    assert_eq!(daemon.count("/v1/executions").await, accepted.len());
}

pub(super) async fn reasons(daemon: &Daemon<'_>) -> String {
    daemon.try_get("/readyz").await.1["reasons"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn g01_what_the_broker_confirmed_lands_once_although_the_broker_is_killed() {
    let mut broker = RabbitMq::start().await;
    let site = site(&broker.url(), "15s");
    let daemon = Daemon::start(&site).await;
    let away = StoreAway::of(&daemon);
    let mut accepted = deliver_all(&daemon, 0..100).await;
    assert_eq!(landed(&daemon).await.len(), 0, "they are in the broker only");
    broker.kill_9().await;
    let refused = deliver(&daemon, 100).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reasons(&daemon).await.contains("the broker takes no events"));
    broker.start_again().await;
    away.comes_back();
    eventually("the broker takes events again", async || {
        let delivered = deliver(&daemon, 101).await;
        (delivered.status == StatusCode::ACCEPTED).then(|| accepted.insert(delivered.instance))
    })
    .await;
    assert_landed_once(&daemon, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g01_a_queue_that_was_just_made_takes_nothing_so_a_broker_killed_at_once_loses_nothing() {
    let mut broker = RabbitMq::start().await;
    let site = site(&broker.url(), "15s");
    let daemon = Daemon::start_unready(&site).await;
    eventually("the queue is made", async || reasons(&daemon).await.contains("made a moment ago").then_some(())).await;
    for number in 0..20 {
        assert_eq!(deliver(&daemon, number).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    broker.kill_9().await;
    broker.start_again().await;
    daemon.until_ready().await;
    let accepted = deliver_all(&daemon, 0..20).await;
    broker.kill_9().await;
    broker.start_again().await;
    assert_landed_once(&daemon, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_is_a_refusal_with_its_reason_and_what_it_swallowed_lands_once() {
    let broker = RabbitMq::start().await;
    let site = site(&broker.url(), "0");
    let daemon = Daemon::start(&site).await;
    deliver_all(&daemon, 0..3).await;
    broker.run_out_of_memory().await;
    eventually("deliveries are refused", async || {
        let refused = deliver(&daemon, 3).await.status == StatusCode::SERVICE_UNAVAILABLE;
        (refused && reasons(&daemon).await.contains("it takes nothing for now (low on memory)")).then_some(())
    })
    .await;
    assert_eq!(deliver(&daemon, 4).await.status, StatusCode::SERVICE_UNAVAILABLE);
    broker.find_memory().await;
    daemon.until_ready().await;
    deliver_all(&daemon, 3..6).await;
    eventually("everything has landed", async || (landed(&daemon).await.len() >= 6).then_some(())).await;
    daemon.until_idle().await;
    assert_eq!((landed(&daemon).await.len(), daemon.count("/v1/executions").await), (6, 6), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_while_the_store_is_away_are_accepted_and_land_after_it_comes_back() {
    let site = site(&servers::fresh_vhost().await, "1s");
    let daemon = Daemon::start(&site).await;
    let mut accepted = deliver_all(&daemon, 0..3).await;
    assert_landed_once(&daemon, &accepted).await;
    let away = StoreAway::of(&daemon);
    accepted.extend(deliver_all(&daemon, 3..300).await);
    let log = eventually("the store is missed", async || {
        let log = daemon.log();
        log.contains("the store is away: deliveries wait in the broker").then_some(log)
    });
    assert!(!log.await.contains("dead letter"));
    assert_eq!(landed(&daemon).await.len(), 3);
    away.comes_back();
    assert_landed_once(&daemon, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g02_a_repeated_delivery_lands_once_and_the_repetition_is_accepted_again() {
    let site = site(&servers::fresh_vhost().await, "1s");
    let daemon = Daemon::start(&site).await;
    let first = deliver(&daemon, 1).await;
    let again = deliver(&daemon, 1).await;
    assert_eq!((first.status, again.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert_landed_once(&daemon, &BTreeSet::from([first.instance])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g01_a_daemon_killed_between_landing_and_acknowledging_lands_nothing_twice() {
    let url = servers::fresh_vhost().await;
    let mut network = Proxy::in_front_of(&url).await;
    let site = site(&network.through(&url), "1s");
    let mut daemon = Daemon::start(&site).await;
    let accepted = deliver_all(&daemon, 0..50).await;
    eventually("everything has landed", async || (landed(&daemon).await.len() == 50).then_some(())).await;
    // Whatever was acknowledged a moment ago has not arrived; the same comes again.
    network.reset().await;
    daemon.kill9().await;
    daemon.restart().await;
    assert_landed_once(&daemon, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_is_a_refusal_with_a_reason_and_no_wait_without_end() {
    let url = servers::fresh_vhost().await;
    let mut network = Proxy::in_front_of(&url).await;
    let site = site(&network.through(&url), "1s");
    let daemon = Daemon::start(&site).await;
    network.black_hole().await;
    let refused = daemon.post("/v1/webhooks/e", &json!({})).await;
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.1["faultstring"].as_str().unwrap().to_owned();
    assert!(said.contains("the broker did not take the event: it did not confirm in time"), "{said}");
    network.pass().await;
    eventually("deliveries are accepted again", async || {
        (daemon.post("/v1/webhooks/e", &json!({})).await.0 == StatusCode::ACCEPTED).then_some(())
    })
    .await;
    let counted: Value = daemon.try_get("/metrics").await.1;
    let counted = counted.as_str().unwrap();
    assert!(counted.contains(r#"petrel_bus_refused_total{reason="late"} "#), "{counted}");
    assert!(!daemon.log().contains("guest:guest"), "nobody's password is written down");
}
