//! Takes deliveries from the queue and lands them in the store: what is there is written in one commit, then
//! acknowledged. What lands twice changes nothing.
//!
//! While the store is away nothing is fetched, given back or set aside: the subscription ends, what is in hand stays in
//! hand, and the store is asked every second. A message of which nothing can be made goes to the dead letters of the
//! store, by our own decision; the broker has none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use sha2::{Digest, Sha256};

use super::message;
use super::message::Unsigned;
use super::topology::Names;
use crate::clock::Clock;
use crate::intake::Landing;
use crate::metrics::Metrics;
use crate::model::refs::DeadLetterId;
use crate::secrets::MessageKey;
use crate::store::dead_letters::NewDeadLetter;
use crate::store::events::{Accepted, Delivery};
use crate::store::{DeadLetters, StoreError, StoreResult};

/// So much of a message is kept in the dead letters: whoever may publish must not fill the disk with one message.
const MOST_LETTER_BYTES: usize = 8 << 20;
/// How often a store that is away is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Lands deliveries.
pub(super) struct Arrivals {
    pub(super) landing: Landing,
    pub(super) dead_letters: DeadLetters,
    pub(super) names: Names,
    pub(super) key: MessageKey,
    pub(super) unsigned: Unsigned,
    pub(super) prefetch: u16,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

impl Arrivals {
    /// Lands what comes for as long as the channel lives.
    pub(super) async fn consume(&self, channel: &Channel) -> anyhow::Result<()> {
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await.context("bounding what is fetched")?;
        self.until_the_store_answers().await?;
        loop {
            let (queue, options) = (self.names.arrivals.as_str().into(), BasicConsumeOptions::default());
            let mut consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
            let mut hand = self.land_while_the_store_answers(&mut consumer).await?;
            channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
            while let Some(message) = consumer.next().await {
                hand.push(message?);
            }
            tracing::warn!(in_hand = hand.len(), "the store is away: deliveries wait in the broker");
            self.land_patiently(&hand).await?;
            tracing::info!("the store answers: deliveries land again");
        }
    }

    /// Gives back what is in hand when the store is away.
    async fn land_while_the_store_answers(&self, consumer: &mut Consumer) -> anyhow::Result<Vec<Message>> {
        loop {
            let hand = self.take(consumer).await?;
            if is_over(self.land(&hand).await)?.is_none() {
                return Ok(hand);
            }
        }
    }

    async fn land_patiently(&self, hand: &[Message]) -> anyhow::Result<()> {
        while is_over(self.land(hand).await)?.is_none() {
            self.clock.sleep_for(ASK_EVERY).await;
        }
        Ok(())
    }

    async fn until_the_store_answers(&self) -> anyhow::Result<()> {
        while is_over(self.landing.look().await)?.is_none() {
            self.clock.sleep_for(ASK_EVERY).await;
        }
        Ok(())
    }

    /// Waits for a message, and takes what is there beside it.
    async fn take(&self, consumer: &mut Consumer) -> anyhow::Result<Vec<Message>> {
        let over = || anyhow!("the broker ended the subscription to {}", self.names.arrivals);
        let mut hand = vec![consumer.next().await.ok_or_else(over)??];
        while hand.len() < usize::from(self.prefetch) {
            match consumer.next().now_or_never() {
                Some(message) => hand.push(message.ok_or_else(over)??),
                None => break,
            }
        }
        Ok(hand)
    }

    /// Lands all of it and acknowledges it. After an error it can be done again.
    async fn land(&self, hand: &[Message]) -> StoreResult<()> {
        let Some(last) = hand.last() else { return Ok(()) };
        let mut poison = Vec::new();
        let mut sound = Vec::with_capacity(hand.len());
        for message in hand {
            match message::open(&self.key, &self.names.arrivals, self.unsigned, (&message.properties, &message.data)) {
                Ok(delivery) => sound.push((message, delivery)),
                Err(problem) => poison.push(self.dead_letter(message, &problem.to_string())),
            }
        }
        let landed = self.store(sound, &mut poison).await?;
        if !poison.is_empty() {
            self.dead_letters.dead_letters_put(&poison).await?;
            poison.iter().for_each(|letter| {
                tracing::error!(letter = %letter.id, reason = letter.reason, "a message was set aside as a dead letter");
            });
            self.metrics.bus_dead_lettered(poison.len());
        }
        self.metrics.bus_landed(landed);
        // If the connection is gone they come again, and land as what they are.
        match last.ack(BasicAckOptions { multiple: true }).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("the broker was gone before it heard what had landed"),
            Err(problem) => tracing::debug!(%problem, "the broker was gone before it heard what had landed"),
        }
        Ok(())
    }

    /// Stores deliveries in one commit; if the store takes offence at one, one by one to find it. Gives back how many.
    async fn store(&self, sound: Vec<(&Message, Delivery)>, poison: &mut Vec<NewDeadLetter>) -> StoreResult<usize> {
        let (messages, deliveries): (Vec<&Message>, Vec<Delivery>) = sound.into_iter().unzip();
        match self.landing.store(&deliveries).await {
            Ok(accepted) => {
                let landed = deliveries.len();
                self.landing.send_on(deliveries, &accepted).await;
                return Ok(landed);
            }
            Err(StoreError::Unavailable(why)) => return Err(StoreError::Unavailable(why)),
            Err(problem) => tracing::warn!(%problem, "deliveries could not be written together: one by one now"),
        }
        let mut landed = 0;
        for (message, delivery) in messages.into_iter().zip(deliveries) {
            match self.store_alone(&delivery).await {
                Ok(accepted) => {
                    self.landing.send_on([delivery], &accepted).await;
                    landed += 1;
                }
                // Only what is at fault itself is set aside, never what came at a bad moment.
                Err(problem) if !problem.is_final() => return Err(StoreError::Unavailable(problem.to_string())),
                Err(problem) => poison.push(self.dead_letter(message, &problem.to_string())),
            }
        }
        Ok(landed)
    }

    /// Somebody may have been quicker, once.
    async fn store_alone(&self, delivery: &Delivery) -> StoreResult<Vec<Accepted>> {
        match self.landing.store(std::slice::from_ref(delivery)).await {
            Err(StoreError::Conflict) => self.landing.store(std::slice::from_ref(delivery)).await,
            other => other,
        }
    }

    fn dead_letter(&self, message: &Message, reason: &str) -> NewDeadLetter {
        let (bytes, kept) = (message.data.len(), message.data.get(..MOST_LETTER_BYTES));
        let reason = match kept {
            Some(_) => format!("{reason} (the first {MOST_LETTER_BYTES} of {bytes} bytes are kept)"),
            None => reason.to_owned(),
        };
        NewDeadLetter {
            id: letter_id(&self.names.arrivals, &message.data),
            source: self.names.arrivals.clone(),
            reason,
            body: kept.unwrap_or(&message.data).to_vec(),
            received_at: self.clock.now(),
        }
    }
}

/// The store is away: `None`. Any other trouble is not ours to wait for.
fn is_over(landed: StoreResult<()>) -> anyhow::Result<Option<()>> {
    match landed {
        Ok(()) => Ok(Some(())),
        Err(StoreError::Unavailable(_)) => Ok(None),
        Err(problem) => Err(anyhow!(problem).context("landing deliveries")),
    }
}

/// Delivered twice, a message is one dead letter.
fn letter_id(source: &str, body: &[u8]) -> DeadLetterId {
    let mut digest = Sha256::new();
    digest.update(source);
    digest.update([0]);
    digest.update(body);
    let digest = digest.finalize();
    let mut bytes = [0; 12];
    bytes.iter_mut().zip(digest).for_each(|(byte, hashed)| *byte = hashed);
    DeadLetterId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_of_the_same_queue_are_one_letter() {
        assert_eq!(letter_id("q", b"x"), letter_id("q", b"x"));
        assert_ne!(letter_id("q", b"x"), letter_id("q", b"y"));
        assert_ne!(letter_id("qx", b""), letter_id("q", b"x"));
    }

    #[test]
    fn only_a_store_that_is_away_is_waited_for() {
        assert_eq!(is_over(Ok(())).unwrap(), Some(()));
        assert_eq!(is_over(Err(StoreError::Unavailable("gone".to_owned()))).unwrap(), None);
        assert!(is_over(Err(StoreError::Corrupt("bad".to_owned()))).is_err());
    }
}
