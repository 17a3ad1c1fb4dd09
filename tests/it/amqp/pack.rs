//! The pack `amqp`: a queue as a source, an exchange as a sink.

use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::servers::{self, RabbitMq};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// Durable queues, and a channel to look at them.
async fn queues(url: &str, names: &[&str]) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for name in names {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare((*name).into(), durable, FieldTable::default()).await.unwrap();
    }
    (connection, channel)
}

async fn depth(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
}

/// What comes out of `orders` makes a rule publish to `done`.
fn site(url: &str, listened: &str) -> Site {
    let rule = "name: on_order\nenabled: true\ntrigger: {type: amqp.message}\n\
                criteria: {trigger.queue: {type: eq, pattern: orders}}\n\
                action:\n  ref: amqp.publish\n  parameters:\n    routing_key: done\n    body: \"{{ trigger.body }}\"\n\
                \x20   headers: {from: \"{{ trigger.properties.message_id }}\"}\n";
    Site::new()
        .file("rules/on_order.yaml", rule)
        .file("configs/amqp.yaml", &format!("url: {url}\nqueues: [{listened}]\n"))
}

async fn publish(daemon: &Daemon<'_>, parameters: Value) -> Value {
    let id = daemon.run("amqp.publish", parameters).await;
    daemon.end_of(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_becomes_a_trigger_and_an_action_answers_with_a_message() {
    let url = servers::fresh_vhost().await;
    let (connection, channel) = queues(&url, &["orders", "done"]).await;
    let site = site(&url, "orders, missing");
    let daemon = Daemon::start(&site).await;
    let sent = publish(&daemon, json!({ "routing_key": "orders", "body": { "n": 7, "text": "ä" } })).await;
    assert_eq!(sent["status"], "succeeded", "{sent}");
    let message = eventually("the answer is there", async || {
        channel.basic_get("done".into(), BasicGetOptions::default()).await.unwrap()
    })
    .await;
    let body: Value = serde_json::from_slice(&message.data).unwrap();
    assert_eq!(body, json!({ "n": 7, "text": "ä" }), "a template that is one expression keeps its type");
    let headers = message.properties.headers().as_ref().unwrap();
    let from = AMQPValue::LongString(sent["id"].as_str().unwrap().into());
    assert_eq!(headers.inner().get("from"), Some(&from), "the message's id is its execution's");
    message.ack(BasicAckOptions::default()).await.unwrap();
    let missing = eventually("the queue that is not there is named", async || {
        let log = daemon.log();
        log.contains("the queue `missing` cannot be listened to").then_some(log)
    });
    assert!(!missing.await.contains("guest:guest"));
    assert!(daemon.try_get("/readyz").await.0.is_success(), "somebody else's queue is not our health");
    daemon.until_idle().await;
    assert_eq!(depth(&channel, "orders").await, 0, "acknowledged");
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_gets_is_a_failure_and_disturbs_no_other() {
    let url = servers::fresh_vhost().await;
    let (connection, channel) = queues(&url, &["done"]).await;
    let site = site(&url, "");
    let daemon = Daemon::start(&site).await;
    let lost = publish(&daemon, json!({ "routing_key": "nowhere", "body": "x" })).await;
    assert_eq!(lost["status"], "failed");
    assert!(lost["result"].to_string().contains("no queue gets it: NO_ROUTE"), "{lost}");
    let wrong = publish(&daemon, json!({ "exchange": "nowhere", "body": "x" })).await;
    assert!(wrong["result"].to_string().contains("no exchange 'nowhere'"), "{wrong}");
    let ignored = publish(&daemon, json!({ "routing_key": "nowhere", "body": "x", "mandatory": false })).await;
    assert_eq!(ignored["status"], "succeeded", "{ignored}");
    let sent = publish(&daemon, json!({ "routing_key": "done", "body": "x" })).await;
    assert_eq!(sent["status"], "succeeded", "{sent}");
    eventually("it is there", async || (depth(&channel, "done").await == 1).then_some(())).await;
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listened_to_again_after_the_broker_was_killed_and_follow_the_configuration() {
    let mut broker = RabbitMq::start().await;
    let url = broker.url();
    let (connection, channel) = queues(&url, &["orders", "done"]).await;
    let site = site(&url, "");
    let daemon = Daemon::start(&site).await;
    let sent = publish(&daemon, json!({ "routing_key": "orders", "body": "first" })).await;
    assert_eq!(sent["status"], "succeeded", "{sent}");
    site.write("configs/amqp.yaml", &format!("url: {url}\nqueues: [orders]\n"));
    eventually("the first is answered", async || (depth(&channel, "done").await == 1).then_some(())).await;
    drop((connection, channel));
    broker.kill_9().await;
    broker.start_again().await;
    let (connection, channel) = queues(&url, &["orders", "done"]).await;
    let again = eventually("publishing works again", async || {
        let sent = publish(&daemon, json!({ "routing_key": "orders", "body": "second" })).await;
        (sent["status"] == "succeeded").then_some(())
    });
    again.await;
    eventually("the second is answered", async || (depth(&channel, "done").await >= 2).then_some(())).await;
    connection.close(200, "done".into()).await.unwrap();
}
