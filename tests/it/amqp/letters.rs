//! Messages of which nothing can be made.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::daemons::site;
use crate::servers;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

const QUEUE: &str = "petrel.arrivals";

/// A message as another Petrel may have written it long ago.
pub(super) fn message(id: &str, trigger: &str) -> String {
    let instance = json!({
        "id": id, "trigger": trigger, "trigger_type": "core.st2.webhook", "payload": { "body": {} },
        "occurred_at": 1_790_000_000_000_000_i64, "trace_tag": "t", "dedupe": null,
    });
    json!({ "version": 1, "accepted_at": 1_790_000_000_000_000_i64, "arrivals": [{ "happened": instance }] })
        .to_string()
}

/// Puts messages into the queue past every door; they are there when this returns.
pub(super) async fn publish(url: &str, bodies: &[&[u8]]) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for body in bodies {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, body, properties).await.unwrap();
        assert!(sent.await.unwrap().is_ack());
    }
    connection.close(200, "done".into()).await.unwrap();
}

async fn letters(daemon: &Daemon<'_>) -> Vec<Value> {
    daemon.get("/v1/dead-letters").await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn g02_a_message_that_is_delivered_again_and_again_is_one_event() {
    let url = servers::fresh_vhost().await;
    let site = site(&url, "1s").setting("bus.accept_unsigned", "true");
    let daemon = Daemon::start(&site).await;
    let trigger = daemon.get("/v1/webhooks").await[0]["uid"].as_str().unwrap().replacen("trigger:", "", 1);
    let same = message("6b01032a541002ef4f000001", &trigger);
    publish(&url, &[same.as_bytes(), same.as_bytes()]).await;
    eventually("it has landed", async || (daemon.count("/v1/executions").await == 1).then_some(())).await;
    daemon.until_idle().await;
    let other = message("6b01032a541002ef4f000002", &trigger);
    publish(&url, &[same.as_bytes(), other.as_bytes()]).await;
    eventually("the other has landed", async || (daemon.count("/v1/executions").await == 2).then_some(())).await;
    daemon.until_idle().await;
    assert_eq!(daemon.count("/v1/triggerinstances?trigger=core.st2.webhook").await, 2);
    assert_eq!(daemon.count("/v1/ruleenforcements").await, 2);
    assert_eq!(letters(&daemon).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_and_what_is_beside_it_lands() {
    let url = servers::fresh_vhost().await;
    let site = site(&url, "1s").setting("bus.accept_unsigned", "true");
    let daemon = Daemon::start(&site).await;
    let sound = message("6b01032a541002ef4f000001", "core.st2.webhook");
    publish(&url, &[&[0xff, 0x00], br#"{"version": 2}"#, sound.as_bytes()]).await;
    let found = eventually("both are set aside", async || {
        let found = letters(&daemon).await;
        (found.len() == 2).then_some(found)
    })
    .await;
    let sound = "/v1/triggerinstances/6b01032a541002ef4f000001";
    eventually("the sound one lands", async || daemon.try_get(sound).await.0.is_success().then_some(())).await;
    let reasons: Vec<&str> = found.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("format 2")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("no delivery of Petrel")), "{reasons:?}");
    let id = found.iter().find(|letter| letter["size_bytes"] == 2).unwrap()["id"].as_str().unwrap().to_owned();
    let shown = daemon.cli(&["dead-letter", "show", &id, "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["body"], &shown["encoding"], &shown["source"]),
        (&json!("/wA="), &json!("base64"), &json!(QUEUE))
    );
    // It is poison still, and comes back; whoever asked loses nothing.
    let received_at = shown["received_at"].clone();
    let said = daemon.cli(&["dead-letter", "requeue", &id]).await;
    assert!(said.contains("in the queue again"), "{said}");
    eventually("it is set aside again", async || {
        let found = letters(&daemon).await;
        found.iter().any(|letter| letter["id"] == id.as_str() && letter["received_at"] != received_at).then_some(())
    })
    .await;
    assert!(daemon.cli(&["dead-letter", "list"]).await.contains(&id));
    assert!(daemon.cli(&["dead-letter", "delete", &id]).await.contains("deleted"));
    assert_eq!(letters(&daemon).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_publish_to_the_queue_makes_no_events() {
    let url = servers::fresh_vhost().await;
    let site = site(&url, "1s");
    let daemon = Daemon::start(&site).await;
    let unsigned = message("6b01032a541002ef4f000001", "core.st2.webhook");
    publish(&url, &[unsigned.as_bytes()]).await;
    let found = eventually("it is set aside", async || letters(&daemon).await.first().cloned()).await;
    assert!(found["reason"].as_str().unwrap().contains("is not signed"), "{found}");
    let path = "/v1/triggerinstances/6b01032a541002ef4f000001";
    assert_eq!(daemon.try_get(path).await.0, StatusCode::NOT_FOUND);
    // An admin who looked at it may let it in.
    let said = daemon.cli(&["dead-letter", "requeue", found["id"].as_str().unwrap()]).await;
    assert!(said.contains("in the queue again"), "{said}");
    eventually("it has landed", async || daemon.try_get(path).await.0.is_success().then_some(())).await;
    assert_eq!(letters(&daemon).await, Vec::<Value>::new());
}

/// Sets messages aside as a daemon would that is older than what wrote them.
async fn set_aside(daemon: &Daemon<'_>, bodies: &[&[u8]]) -> Vec<String> {
    let letters = bodies.iter().zip(1..).map(|(body, number)| petrel::store::dead_letters::NewDeadLetter {
        id: petrel::model::refs::DeadLetterId::from_bytes([number; 12]),
        source: QUEUE.to_owned(),
        reason: "it was not understood".to_owned(),
        body: body.to_vec(),
        received_at: "2026-11-21T08:30:00Z".parse().unwrap(),
    });
    let letters: Vec<_> = letters.collect();
    daemon.store().dead_letters().dead_letters_put(&letters).await.unwrap();
    letters.iter().map(|letter| letter.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_understood_now_is_put_back_through_the_broker() {
    let site = site(&servers::fresh_vhost().await, "1s");
    let mut daemon = Daemon::start(&site).await;
    daemon.terminate().await;
    let sound = message("6b01032a541002ef4f000001", "core.st2.webhook");
    let ids = set_aside(&daemon, &[sound.as_bytes()]).await;
    daemon.restart().await;
    let (status, answer) = daemon.post(&format!("/v1/dead-letters/{}/requeue", ids[0]), &Value::Null).await;
    assert_eq!((status, &answer["requeued"]), (StatusCode::OK, &json!("published")));
    let path = "/v1/triggerinstances/6b01032a541002ef4f000001";
    eventually("it has landed", async || daemon.try_get(path).await.0.is_success().then_some(())).await;
    assert_eq!(letters(&daemon).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_dead_letter_lands_at_once_or_stays_with_the_reason() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site).await;
    daemon.terminate().await;
    let sound = message("6b01032a541002ef4f000001", "core.st2.webhook");
    let ids = set_aside(&daemon, &[sound.as_bytes(), b"hello"]).await;
    daemon.restart().await;
    let said = daemon.cli(&["dead-letter", "requeue", &ids[0]]).await;
    assert!(said.contains("it has landed"), "{said}");
    assert_eq!(daemon.get("/v1/triggerinstances/6b01032a541002ef4f000001").await["trace_tag"], "t");
    let said = daemon.cli(&["dead-letter", "requeue", &ids[1]]).await;
    assert!(said.contains("stays a dead letter: it is no delivery of Petrel"), "{said}");
    assert_eq!(letters(&daemon).await.len(), 1);
}
