//! Hints for all daemons: what is hinted here is hinted there a moment later. Every one of them may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::standing::Standing;
use super::topology::Names;
use crate::bus::{Bus, Hints, MemoryBus, Received, Topic};
use crate::clock::{self, Clock};
use crate::model::trigger::TriggerInstance;

/// Hints that come closer together travel together: nobody looks more often than this for others' news.
const TOGETHER: Duration = Duration::from_millis(20);
/// A hint that cannot be sent in this time is old.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// A daemon that does not listen for a while has missed nothing that it would not look for by itself.
const KEPT: i32 = 100;

const TOPICS: [(Topic, &str); 5] = [
    (Topic::Instances, "instances"),
    (Topic::Queue, "queue"),
    (Topic::Announcements, "announcements"),
    (Topic::Content, "content"),
    (Topic::Groups, "groups"),
];

/// The bus of this process, whose hints go to all others as well.
pub(super) struct SharedBus {
    local: MemoryBus,
    /// Who we are: our own hints come back to us.
    origin: String,
    /// A bit for each of [`TOPICS`].
    unsent: AtomicU8,
    news: Notify,
}

impl SharedBus {
    pub(super) fn new(origin: String) -> Self {
        Self { local: MemoryBus::default(), origin, unsent: AtomicU8::new(0), news: Notify::new() }
    }

    /// Sends hints until the token is cancelled. Without a connection they are dropped.
    pub(super) async fn send(
        &self,
        standing: watch::Receiver<Standing>,
        names: &Names,
        clock: &dyn Clock,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.news.notified() => {}
                () = stop.cancelled() => return,
            }
            let unsent = self.unsent.swap(0, Ordering::AcqRel);
            let channel = standing.borrow().hints();
            if let Some(channel) = channel {
                self.send_one(&channel, names, unsent, clock).await;
            }
            clock.sleep_for(TOGETHER).await;
        }
    }

    async fn send_one(&self, channel: &Channel, names: &Names, topics: u8, clock: &dyn Clock) {
        let said: Vec<&str> = names_of(topics).collect();
        let exchange = names.hints.as_str().into();
        let properties = BasicProperties::default().with_app_id(self.origin.as_str().into());
        let options = BasicPublishOptions::default();
        let body = said.join(" ");
        let sending = channel.basic_publish(exchange, "".into(), options, body.as_bytes(), properties);
        match clock::timeout(clock, SEND_LIMIT, sending).await {
            Ok(Ok(_)) => {}
            Ok(Err(problem)) => tracing::debug!(%problem, "a hint was not sent"),
            Err(_) => tracing::debug!("a hint was not sent in time"),
        }
    }

    /// Passes on the hints of others for as long as the channel lives. What was missed before is made up for at once.
    pub(super) async fn listen_to_others(&self, channel: &Channel, names: &Names) -> anyhow::Result<()> {
        let mut bounded = FieldTable::default();
        bounded.insert("x-max-length".into(), AMQPValue::LongInt(KEPT));
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, bounded).await?.name().clone();
        let exchange = names.hints.as_str().into();
        let (bind, nothing) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), exchange, "".into(), bind, nothing.clone()).await?;
        let unacknowledged = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut heard = channel.basic_consume(queue, "".into(), unacknowledged, nothing).await?;
        TOPICS.iter().for_each(|(topic, _)| self.local.hint(*topic));
        while let Some(message) = heard.next().await {
            let message = message?;
            let origin = message.properties.app_id().as_ref().map(lapin::types::ShortString::as_str);
            if origin != Some(self.origin.as_str()) {
                topics_of(&message.data).for_each(|topic| self.local.hint(topic));
            }
        }
        Err(anyhow!("the broker ended the subscription to hints"))
    }
}

fn bit(topic: Topic) -> u8 {
    TOPICS.iter().position(|(known, _)| *known == topic).map_or(0, |place| 1 << place)
}

fn names_of(topics: u8) -> impl Iterator<Item = &'static str> {
    TOPICS.iter().filter(move |(topic, _)| topics & bit(*topic) != 0).map(|(_, name)| *name)
}

/// What a newer Petrel hints and this one does not know is nothing to it.
fn topics_of(body: &[u8]) -> impl Iterator<Item = Topic> + '_ {
    let said = std::str::from_utf8(body).unwrap_or_default();
    said.split(' ').filter_map(|word| TOPICS.iter().find(|(_, name)| *name == word).map(|(topic, _)| *topic))
}

#[async_trait]
impl Bus for SharedBus {
    async fn publish(&self, instance: TriggerInstance) {
        self.local.publish(instance).await;
    }

    fn receive(&self, limit: usize) -> Received {
        self.local.receive(limit)
    }

    fn is_empty(&self) -> bool {
        self.local.is_empty()
    }

    fn hint(&self, topic: Topic) {
        self.local.hint(topic);
        self.unsent.fetch_or(bit(topic), Ordering::AcqRel);
        self.news.notify_one();
    }

    fn listen(&self, topic: Topic) -> Hints {
        self.local.listen(topic)
    }
}

/// The bus as engines see it.
pub(super) fn as_bus(shared: &Arc<SharedBus>) -> Arc<dyn Bus> {
    Arc::<SharedBus>::clone(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures_util::FutureExt;

    #[test]
    fn topics_travel_together_and_what_is_unknown_is_left_out() {
        let both = bit(Topic::Queue) | bit(Topic::Groups);
        let body = names_of(both).collect::<Vec<_>>().join(" ");
        assert_eq!(body, "queue groups");
        let heard: Vec<Topic> = topics_of(b"queue weather groups").collect();
        assert_eq!(heard, [Topic::Queue, Topic::Groups]);
        assert_eq!(topics_of(&[0xff, 0xfe]).count(), 0);
    }

    #[test]
    fn a_hint_is_heard_here_without_any_broker() {
        let bus = SharedBus::new("me".to_owned());
        let mut hints = bus.listen(Topic::Queue);
        bus.hint(Topic::Queue);
        assert!(hints.heard().now_or_never().is_some());
    }
}
