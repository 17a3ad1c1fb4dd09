//! What carries trigger instances from the doors to the rule engine, and hints to whoever waits for news. Embedded it
//! is this process's memory over what the store holds: losing all of it loses nothing.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::model::trigger::TriggerInstance;

/// What a hint is about. It carries no data: whoever hears it looks at the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Instances wait to be matched.
    Instances,
    /// Executions wait to be claimed.
    Queue,
    /// Something was announced.
    Announcements,
    /// Timers, holds or rules changed.
    Content,
    /// A group changed.
    Groups,
}

/// Queues and hints.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Carries an instance that is durable to the rule engine. When the queue is full only a hint goes: the store has
    /// the instance.
    async fn publish(&self, instance: TriggerInstance);

    /// Takes up to `limit` instances that are there now, without waiting. A rule engine finds the rest in the store.
    fn receive(&self, limit: usize) -> Received;

    /// Is there nothing to receive just now?
    fn is_empty(&self) -> bool;

    /// Says that there is news.
    fn hint(&self, topic: Topic);

    /// Hears of news: register first, then look, so that nothing falls in between.
    fn listen(&self, topic: Topic) -> Hints;
}

/// What [`Bus::receive`] gives.
#[derive(Debug, Default)]
pub struct Received {
    /// In no particular order.
    pub instances: Vec<TriggerInstance>,
    /// Were instances left out because the queue was full? Then the store has more.
    pub overflowed: bool,
}

/// The receiving end of hints.
#[derive(Debug, Clone)]
pub struct Hints {
    receiver: watch::Receiver<u64>,
}

impl Hints {
    /// Returns when there is news since the last call; pending for ever once the bus is gone.
    pub async fn heard(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// So many instances wait in memory at most: some megabytes. Beyond that the store is read.
const QUEUE: usize = 8192;

/// The embedded bus.
#[derive(Debug)]
pub struct MemoryBus {
    sender: mpsc::Sender<TriggerInstance>,
    receiver: Mutex<mpsc::Receiver<TriggerInstance>>,
    overflowed: std::sync::atomic::AtomicBool,
    topics: [watch::Sender<u64>; 5],
}

impl Default for MemoryBus {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let topics = std::array::from_fn(|_| watch::Sender::new(0));
        Self { sender, receiver: Mutex::new(receiver), overflowed: false.into(), topics }
    }
}

impl MemoryBus {
    const fn topic(&self, topic: Topic) -> &watch::Sender<u64> {
        let [instances, queue, announcements, content, groups] = &self.topics;
        match topic {
            Topic::Instances => instances,
            Topic::Queue => queue,
            Topic::Announcements => announcements,
            Topic::Content => content,
            Topic::Groups => groups,
        }
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, instance: TriggerInstance) {
        if self.sender.try_send(instance).is_err() {
            self.overflowed.store(true, std::sync::atomic::Ordering::Release);
        }
        self.hint(Topic::Instances);
    }

    fn receive(&self, limit: usize) -> Received {
        let overflowed = self.overflowed.swap(false, std::sync::atomic::Ordering::AcqRel);
        let Ok(mut receiver) = self.receiver.lock() else { return Received::default() };
        let instances = std::iter::from_fn(|| receiver.try_recv().ok()).take(limit).collect();
        Received { instances, overflowed }
    }

    fn is_empty(&self) -> bool {
        self.receiver.lock().is_ok_and(|receiver| receiver.is_empty())
    }

    fn hint(&self, topic: Topic) {
        self.topic(topic).send_modify(|count| *count = count.wrapping_add(1));
    }

    fn listen(&self, topic: Topic) -> Hints {
        Hints { receiver: self.topic(topic).subscribe() }
    }
}
