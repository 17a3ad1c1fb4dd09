//! The one door for trigger instances: give them an id, hand them to what makes them durable, hand out the receipt. Only
//! with the receipt may a source be told "accepted".
//!
//! Behind the door is a [`Front`]. [`Landing`] is the one without a broker in front of the store: one commit, then the
//! bus. With a broker, its queue holds a delivery as soon as it is confirmed, and it lands later.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::model::refs::{InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::model::trigger::{InstanceStatus, TriggerInstance};
use crate::secrets::hex;
use crate::store::events::{Accepted, Arrival, Delivery, HeldInstance, KEYS_REMEMBERED};
use crate::store::rows::NewInstance;
use crate::store::{Events, StoreError, StoreResult};

/// A longer key is remembered by its hash.
const LONGEST_KEY_BYTES: usize = 512;

/// Something that a sensor saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The identity of the trigger it answers; of a type without parameters, the type's reference.
    pub trigger: String,
    /// What kind of event.
    pub trigger_type: TriggerTypeRef,
    /// What is known about it.
    pub payload: Value,
    /// When it happened, if the source says so.
    pub occurred_at: Option<Timestamp>,
    /// Follows it through everything it causes; made up if the source gives none.
    pub trace_tag: Option<String>,
    /// Equal for repetitions of the same event.
    pub dedupe_key: Option<String>,
}

impl Seen {
    /// An event of a type without parameters.
    pub fn of_type(trigger_type: TriggerTypeRef, payload: Value) -> Self {
        let trigger = trigger_type.to_string();
        Self { trigger, trigger_type, payload, occurred_at: None, trace_tag: None, dedupe_key: None }
    }
}

/// One thing that a source said.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It has happened.
    Happened(Seen),
    /// It happens at `due_at`, unless it is withdrawn by its key before; a new one under the same key replaces it.
    Held {
        /// What.
        seen: Seen,
        /// By which it can be withdrawn.
        key: String,
        /// When.
        due_at: Timestamp,
    },
    /// What is held under `key` does not happen, unless it is from later than `said_at`.
    Withdrawn {
        /// Which.
        key: String,
        /// When this was said, by the source's clock.
        said_at: Option<Timestamp>,
    },
}

/// Proof that an event is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is new.
    New(InstanceId),
    /// It was accepted before, as this one.
    Duplicate(InstanceId),
}

impl Receipt {
    /// The instance, new or known.
    pub const fn instance(self) -> InstanceId {
        match self {
            Self::New(id) | Self::Duplicate(id) => id,
        }
    }
}

/// Why nothing was accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker in front of the store did not take it. It may have it all the same: whoever repeats with the same key
    /// is recognised.
    #[error("the broker did not take the event: {0}")]
    Broker(String),
}

/// What makes deliveries durable.
#[async_trait]
pub trait Front: Send + Sync {
    /// Returns when the delivery cannot be lost any more, with what became of each of its instances, held ones included.
    async fn accept(&self, delivery: Delivery) -> Result<Vec<Accepted>, IntakeError>;
}

/// Deliveries become rows of the store, and what has happened goes to the rules.
#[derive(Clone)]
pub struct Landing {
    events: Events,
    bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for Landing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Landing")
    }
}

impl Landing {
    /// Into the store's events, telling `bus`.
    pub const fn new(events: Events, bus: Arc<dyn Bus>) -> Self {
        Self { events, bus }
    }

    /// Writes all of it in one commit. What lies there already is told as a duplicate of itself.
    pub async fn store(&self, deliveries: &[Delivery]) -> StoreResult<Vec<Accepted>> {
        self.events.deliveries_accept(deliveries).await
    }

    /// Sends what was stored on its way. If it never comes to this, the rules find it in the store.
    pub async fn send_on(&self, deliveries: impl IntoIterator<Item = Delivery>, accepted: &[Accepted]) {
        let arrivals = deliveries.into_iter().flat_map(|delivery| delivery.arrivals);
        let instances = arrivals.filter_map(|arrival| match arrival {
            Arrival::Happened(new) => Some((new, true)),
            Arrival::Held(held) => Some((held.instance, false)),
            Arrival::Withdrawn { .. } => None,
        });
        for ((new, has_happened), accepted) in instances.zip(accepted) {
            if has_happened && *accepted == Accepted::New {
                self.bus.publish(as_pending(new)).await;
            }
        }
    }

    /// Does the store answer at all?
    pub async fn look(&self) -> StoreResult<()> {
        self.events.instances_pending(None, 1).await.map(drop)
    }
}

#[async_trait]
impl Front for Landing {
    async fn accept(&self, delivery: Delivery) -> Result<Vec<Accepted>, IntakeError> {
        let accepted = self.store(std::slice::from_ref(&delivery)).await?;
        self.send_on([delivery], &accepted).await;
        Ok(accepted)
    }
}

/// Takes events in.
#[derive(Clone)]
pub struct Intake {
    front: Arc<dyn Front>,
    landing: Landing,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl Intake {
    /// Straight into the store.
    pub fn new(landing: Landing, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { front: Arc::new(landing.clone()), landing, clock, ids }
    }

    /// With something in front of the store. Timers know the store anyway and go straight to it.
    #[must_use]
    pub fn behind(self, front: Arc<dyn Front>) -> Self {
        Self { front, ..self }
    }

    /// Makes an event durable and sends it on its way. An error means that nothing was accepted.
    pub async fn accept(&self, seen: Seen) -> Result<Receipt, IntakeError> {
        let mut receipts = self.accept_all(vec![Heard::Happened(seen)]).await?;
        receipts.pop().ok_or(IntakeError::Store(StoreError::Conflict))
    }

    /// Makes all of it durable at once and sends it on its way, with a receipt for each event. An error means that
    /// nothing was accepted.
    pub async fn accept_all(&self, heard: Vec<Heard>) -> Result<Vec<Receipt>, IntakeError> {
        let accepted_at = self.clock.now();
        let arrivals: Vec<Arrival> = heard.into_iter().map(|heard| self.arrival(heard, accepted_at)).collect();
        let ids: Vec<InstanceId> = arrivals.iter().filter_map(Arrival::instance).map(|new| new.id).collect();
        let accepted = self.front.accept(Delivery { arrivals, accepted_at }).await?;
        let receipts = ids.into_iter().zip(accepted).map(|(id, accepted)| match accepted {
            Accepted::Duplicate(known) => Receipt::Duplicate(known),
            Accepted::New => Receipt::New(id),
        });
        Ok(receipts.collect())
    }

    fn arrival(&self, heard: Heard, now: Timestamp) -> Arrival {
        match heard {
            Heard::Happened(seen) => Arrival::Happened(self.instance(seen, now)),
            Heard::Held { seen, key, due_at } => {
                Arrival::Held(HeldInstance { key: bounded(key), instance: self.instance(seen, now), due_at })
            }
            Heard::Withdrawn { key, said_at } => Arrival::Withdrawn { key: bounded(key), said_at },
        }
    }

    /// Moves a timer on and makes the instances of its instants durable, at once (G4). `false`: it was moved before.
    pub async fn fire(
        &self,
        trigger: &str,
        instant: Timestamp,
        seen: Vec<Seen>,
        dropped: u64,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let instances: Vec<NewInstance> = seen.into_iter().map(|seen| self.instance(seen, now)).collect();
        let fired = self.landing.events.timer_fire(trigger, instant, &instances, dropped, now).await?;
        if fired {
            self.landing.bus.hint(Topic::Instances);
        }
        Ok(fired)
    }

    fn instance(&self, seen: Seen, now: Timestamp) -> NewInstance {
        let id = InstanceId::from_bytes(self.ids.next());
        NewInstance {
            id,
            trigger: seen.trigger,
            trigger_type: seen.trigger_type,
            payload: seen.payload,
            occurred_at: seen.occurred_at.unwrap_or(now),
            trace_tag: seen.trace_tag.unwrap_or_else(|| id.to_string()),
            dedupe: seen.dedupe_key.map(|key| (bounded(key), now.plus(KEYS_REMEMBERED))),
        }
    }
}

/// Keys lie in indices, whose entries a database bounds; a source may send what it likes.
fn bounded(key: String) -> String {
    if key.len() <= LONGEST_KEY_BYTES {
        return key;
    }
    format!("sha256:{}", hex(&Sha256::digest(key)))
}

fn as_pending(new: NewInstance) -> TriggerInstance {
    TriggerInstance {
        id: new.id,
        trigger: new.trigger,
        trigger_type: new.trigger_type,
        payload: new.payload,
        occurred_at: new.occurred_at,
        trace_tag: new.trace_tag,
        status: InstanceStatus::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_is_told_from_others_and_lies_in_little_space() {
        assert_eq!(bounded("k".repeat(LONGEST_KEY_BYTES)), "k".repeat(LONGEST_KEY_BYTES));
        let (one, other) = (bounded("k".repeat(20_000)), bounded("k".repeat(20_001)));
        assert!(one.len() < 100 && one.starts_with("sha256:"), "{one}");
        assert_ne!(one, other);
    }
}
