//! Queues whose messages become triggers. A message is acknowledged when its trigger instance is durable; until then it
//! waits in hand, and more than a handful is not fetched. A queue that gives trouble does not disturb the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, Consumer};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fields::{body_of, headers_of, short};
use super::settings::Settings;
use crate::amqp::connection::{Connector, told};
use crate::clock::Clock;
use crate::config;
use crate::intake::{Heard, Intake, IntakeError, Seen};
use crate::model::pack::Catalogue;
use crate::model::refs::TriggerTypeRef;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::supervise::Backoff;

/// The trigger type of all of them.
const MESSAGE_TRIGGER: &str = "amqp.message";
/// Messages in hand per queue; they become durable together.
const IN_HAND: u16 = 64;
/// How often it is tried again to make something durable.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between attempts that fail.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// Listens to the queues of the pack's configuration.
pub struct Queues {
    intake: Intake,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    fallback: config::Bus,
    largest_body_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("amqp::Queues")
    }
}

impl Queues {
    /// Queues of the broker of the pack's configuration, or of the one in front of the store. Longer bodies than those
    /// that come in by HTTP are not taken.
    pub const fn new(
        intake: Intake,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        fallback: config::Bus,
        largest_body_bytes: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { intake, catalogue, fallback, largest_body_bytes, clock }
    }

    /// Listens until the token is cancelled, always to those that the configuration names now.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut catalogue = self.catalogue.clone();
        while !stop.is_cancelled() {
            let settings = Settings::of(&catalogue.borrow_and_update(), &self.fallback);
            let changed = catalogue.wait_for(|now| Settings::of(now, &self.fallback) != settings);
            tokio::select! {
                () = self.keep_listening(&settings) => {}
                changed = changed => drop(changed?),
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One connection after the other.
    async fn keep_listening(&self, settings: &Settings) {
        if settings.queues.is_empty() {
            return std::future::pending().await;
        }
        let mut trouble = Trouble::default();
        loop {
            let Err(problem) = self.listen(settings).await;
            self.clock.sleep_for(trouble.meet("the broker of the pack amqp", &problem)).await;
        }
    }

    async fn listen(&self, settings: &Settings) -> anyhow::Result<std::convert::Infallible> {
        let connector = Connector::new(settings.address()?, Arc::clone(&self.clock));
        let mut life = connector.connect("queues of the pack amqp").await?;
        let connection = life.connection();
        let queues = settings.queues.iter().map(|queue| self.keep_consuming(&connection, queue));
        tokio::select! {
            why = life.end() => Err(anyhow!("the connection ended: {why}")),
            _ = join_all(queues) => Err(anyhow!("no queue is listened to any more")),
        }
    }

    /// One channel after the other; for ever, since the connection's end is noticed elsewhere.
    async fn keep_consuming(&self, connection: &Connection, queue: &str) {
        let mut trouble = Trouble::default();
        loop {
            let Err(problem) = self.consume(connection, queue).await;
            self.clock.sleep_for(trouble.meet(&format!("the queue `{queue}`"), &problem)).await;
        }
    }

    async fn consume(&self, connection: &Connection, queue: &str) -> anyhow::Result<std::convert::Infallible> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(IN_HAND, BasicQosOptions::default()).await?;
        let name = short("the queue's name", queue).map_err(|problem| anyhow!(problem))?;
        let (options, nothing) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel.basic_consume(name, "".into(), options, nothing).await?;
        tracing::info!(queue, "messages of this queue become triggers");
        loop {
            let hand = take(&mut consumer).await?;
            self.accept(queue, hand).await?;
        }
    }

    /// Makes all of them durable, then acknowledges them.
    async fn accept(&self, queue: &str, hand: Vec<Message>) -> anyhow::Result<()> {
        let (fitting, too_long): (Vec<_>, Vec<_>) =
            hand.into_iter().partition(|message| message.data.len() <= self.largest_body_bytes);
        for message in too_long {
            let bytes = message.data.len();
            give_up(queue, &message, &format!("it has {bytes} bytes; see limits.body_bytes")).await?;
        }
        let seen = fitting.iter().map(|message| seen(queue, message)).collect::<anyhow::Result<Vec<_>>>()?;
        match self.make_durable(seen.clone()).await {
            Ok(()) => acknowledge(&fitting).await,
            Err(_) => self.accept_one_by_one(queue, fitting, seen).await,
        }
    }

    async fn accept_one_by_one(&self, queue: &str, hand: Vec<Message>, seen: Vec<Seen>) -> anyhow::Result<()> {
        for (message, seen) in hand.into_iter().zip(seen) {
            match self.make_durable(vec![seen]).await {
                Ok(()) => acknowledge(&[message]).await?,
                Err(problem) => give_up(queue, &message, &problem.to_string()).await?,
            }
        }
        Ok(())
    }

    /// Whoever is away is waited for; an error is one of the message.
    async fn make_durable(&self, seen: Vec<Seen>) -> Result<(), StoreError> {
        loop {
            match self.intake.accept_all(seen.iter().cloned().map(Heard::Happened).collect()).await {
                Ok(_) => return Ok(()),
                Err(IntakeError::Broker(_) | IntakeError::Store(StoreError::Unavailable(_) | StoreError::Conflict)) => {
                    self.clock.sleep_for(ASK_EVERY).await;
                }
                Err(IntakeError::Store(problem)) => return Err(problem),
            }
        }
    }
}

async fn take(consumer: &mut Consumer) -> anyhow::Result<Vec<Message>> {
    let over = || anyhow!("the broker ended the subscription");
    let mut hand = vec![consumer.next().await.ok_or_else(over)??];
    while hand.len() < usize::from(IN_HAND) {
        match consumer.next().now_or_never() {
            Some(message) => hand.push(message.ok_or_else(over)??),
            None => break,
        }
    }
    Ok(hand)
}

async fn acknowledge(messages: &[Message]) -> anyhow::Result<()> {
    for message in messages {
        message.ack(BasicAckOptions::default()).await.context("acknowledging a message")?;
    }
    Ok(())
}

/// What becomes of it then, the queue's own dead-letter exchange decides.
async fn give_up(queue: &str, message: &Message, why: &str) -> anyhow::Result<()> {
    let id = message.properties.message_id().as_ref().map(ShortString::as_str);
    tracing::error!(queue, message_id = id, why, "a message cannot become a trigger and is rejected");
    message.reject(BasicRejectOptions { requeue: false }).await.map(drop).context("rejecting a message")
}

fn seen(queue: &str, message: &Message) -> anyhow::Result<Seen> {
    let properties = &message.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let id = text(properties.message_id());
    let content_type = text(properties.content_type());
    let (body, encoding) = body_of(content_type.as_deref(), &message.data);
    let said = [
        ("message_id", id.clone()),
        ("correlation_id", text(properties.correlation_id())),
        ("reply_to", text(properties.reply_to())),
        ("type", text(properties.kind())),
        ("app_id", text(properties.app_id())),
        ("content_type", content_type),
    ];
    let said: Map<String, Value> =
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
    let payload = json!({
        "queue": queue,
        "exchange": message.exchange.as_str(),
        "routing_key": message.routing_key.as_str(),
        "redelivered": message.redelivered,
        "headers": properties.headers().as_ref().map_or_else(|| json!({}), headers_of),
        "properties": said,
        "body": body,
        "encoding": encoding,
    });
    let trigger_type: TriggerTypeRef = MESSAGE_TRIGGER.parse()?;
    let occurred_at = properties.timestamp().as_ref().and_then(|seconds| timestamp(*seconds));
    let dedupe_key = id.map(|id| format!("{queue} {id}"));
    Ok(Seen { occurred_at, dedupe_key, ..Seen::of_type(trigger_type, payload) })
}

fn timestamp(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok()?.checked_mul(1_000_000).map(Timestamp::from_micros)
}

/// Says what is wrong once, not at every attempt.
struct Trouble {
    said: BTreeSet<String>,
    backoff: Backoff,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { said: BTreeSet::new(), backoff: BACKOFF }
    }
}

impl Trouble {
    /// Gives back how long to wait.
    fn meet(&mut self, with: &str, problem: &anyhow::Error) -> Duration {
        let problem = told(problem);
        if !self.said.contains(&problem) {
            tracing::warn!(problem, "{with} cannot be listened to; it is tried again");
            self.said = BTreeSet::from([problem]);
        }
        self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use lapin::BasicProperties;

    fn message(properties: BasicProperties, body: &[u8]) -> Message {
        let mut message = Message::mock(1, "orders".into(), "new.eu".into(), true, body.to_vec());
        message.properties = properties;
        message
    }

    #[test]
    fn a_message_becomes_an_event_that_says_all_of_it() {
        let mut headers = FieldTable::default();
        headers.insert("tries".into(), lapin::types::AMQPValue::LongInt(3));
        let properties = BasicProperties::default()
            .with_message_id("m-1".into())
            .with_content_type("application/json".into())
            .with_correlation_id("c".into())
            .with_timestamp(1_790_000_000)
            .with_headers(headers);
        let seen = seen("jobs", &message(properties, br#"{"n": 1}"#)).unwrap();
        assert_eq!((seen.trigger.as_str(), seen.dedupe_key.as_deref()), ("amqp.message", Some("jobs m-1")));
        assert_eq!(seen.occurred_at, Some(Timestamp::from_micros(1_790_000_000_000_000)));
        let expected = json!({
            "queue": "jobs", "exchange": "orders", "routing_key": "new.eu", "redelivered": true,
            "headers": { "tries": 3 }, "body": { "n": 1 }, "encoding": "json",
            "properties": { "message_id": "m-1", "content_type": "application/json", "correlation_id": "c" },
        });
        assert_eq!(seen.payload, expected);
    }

    #[test]
    fn a_message_without_an_id_is_new_each_time() {
        let seen = seen("jobs", &message(BasicProperties::default().with_timestamp(u64::MAX), b"hi")).unwrap();
        assert_eq!((seen.dedupe_key, seen.occurred_at), (None, None));
        assert_eq!((&seen.payload["body"], &seen.payload["encoding"]), (&json!("hi"), &json!("text")));
    }

    #[test]
    fn trouble_that_stays_the_same_is_met_less_and_less_often() {
        let mut trouble = Trouble::default();
        let waits: Vec<u64> = (0..8).map(|_| trouble.meet("it", &anyhow!("gone")).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(trouble.said.len(), 1);
    }
}
