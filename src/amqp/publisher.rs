//! Gives messages to the broker and waits until it has them for certain. At most [`PLACES`] messages wait at a time, and
//! none for ever.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::sync::{Notify, Semaphore, watch};

use super::message;
use super::standing::{Refusal, Standing};
use super::topology::Names;
use crate::clock::{self, Clock};
use crate::metrics::Metrics;
use crate::secrets::MessageKey;

/// So many messages may wait for their confirmation: more does not make the broker any quicker.
const PLACES: u32 = 512;
/// For a place, and then for the confirmation. Whoever sends a webhook waits ten seconds, some thirty.
const LIMIT: Duration = Duration::from_secs(5);

/// The places of those who wait for a confirmation.
#[derive(Debug)]
pub(super) struct Window(Semaphore);

impl Default for Window {
    fn default() -> Self {
        Self(Semaphore::new(usize::try_from(PLACES).unwrap_or(usize::MAX)))
    }
}

impl Window {
    /// Returns when nobody waits for a confirmation.
    pub(super) async fn all_left(&self) {
        drop(self.0.acquire_many(PLACES).await);
    }
}

/// Gives messages to the broker.
pub(super) struct Publisher {
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) window: Window,
    pub(super) names: Names,
    pub(super) key: MessageKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) queue_gone: Arc<Notify>,
    pub(super) turn: Mutex<()>,
}

impl Publisher {
    /// Returns when the broker holds the message durably. After a refusal it may hold it all the same.
    pub(super) async fn publish(&self, body: &[u8]) -> Result<(), Refusal> {
        let outcome = self.publish_within_limits(body).await;
        match &outcome {
            Ok(()) => self.metrics.bus_confirmed(),
            Err(refusal) => self.metrics.bus_refused(refusal.reason()),
        }
        if outcome == Err(Refusal::Unroutable) {
            self.queue_gone.notify_one();
        }
        outcome
    }

    /// Does the queue take anything? What it is given means nothing to whoever takes it out.
    pub(super) async fn try_queue(&self, channel: &Channel) -> Result<(), Refusal> {
        let nothing = message::nothing().map_err(|problem| Refusal::Broken(problem.to_string()))?;
        self.confirm(channel, &nothing).await
    }

    async fn publish_within_limits(&self, body: &[u8]) -> Result<(), Refusal> {
        self.lane()?;
        let place = clock::timeout(&*self.clock, LIMIT, self.window.0.acquire()).await;
        let _place = place.map_err(|_| Refusal::Full)?.map_err(|_| Refusal::Full)?;
        self.confirm(&self.lane()?, body).await
    }

    async fn confirm(&self, channel: &Channel, body: &[u8]) -> Result<(), Refusal> {
        let confirmed = clock::timeout(&*self.clock, LIMIT, self.until_confirmed(channel, body)).await;
        match confirmed.map_err(|_| Refusal::Late)?.map_err(|problem| Refusal::Broken(problem.to_string()))? {
            Confirmation::Ack(None) => Ok(()),
            // If several were confirmed in one breath, the library may hand what came back to a neighbour. That takes a
            // queue that vanishes in between, and with it goes what the neighbour was confirmed.
            Confirmation::Ack(Some(_)) => Err(Refusal::Unroutable),
            Confirmation::Nack(_) => Err(Refusal::Nack),
            Confirmation::NotRequested => Err(Refusal::Broken("it was not asked for confirmations".to_owned())),
        }
    }

    fn lane(&self) -> Result<Channel, Refusal> {
        self.standing.borrow().arrivals()
    }

    async fn until_confirmed(&self, channel: &Channel, body: &[u8]) -> lapin::Result<Confirmation> {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let queue = self.names.arrivals.as_str();
        let properties = message::properties(&self.key, queue, body);
        let publish = channel.basic_publish("".into(), queue.into(), mandatory, body, properties);
        self.metrics.bus_published();
        one_after_another(&self.turn, publish).await?.await
    }
}

/// The library numbers a message and queues its bytes in one poll, but without a lock around both: two tasks on one
/// channel could queue their bytes in the other order, and each would take the other's confirmation for its own.
async fn one_after_another<F: Future>(turn: &Mutex<()>, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        work.as_mut().poll(context)
    })
    .await
}
