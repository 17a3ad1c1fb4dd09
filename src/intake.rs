//! The one door for trigger instances: give them an id, recognise repetitions, make them durable, put them on the bus,
//! hand out the receipt. Only with the receipt may a source be told "accepted".

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::model::refs::{InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::model::trigger::{InstanceStatus, TriggerInstance};
use crate::store::events::{Accepted, Arrival, HeldInstance};
use crate::store::rows::NewInstance;
use crate::store::{Events, StoreError};

/// A key is remembered this long: sources give up repeating within a day.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

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

/// Takes events in.
#[derive(Clone)]
pub struct Intake {
    events: Events,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}

impl Intake {
    /// Over the store's events, telling `bus`.
    pub fn new(events: Events, bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { events, bus, clock, ids }
    }

    /// Makes an event durable and sends it on its way. An error means that nothing was accepted.
    pub async fn accept(&self, seen: Seen) -> Result<Receipt, StoreError> {
        let mut receipts = self.accept_all(vec![Heard::Happened(seen)]).await?;
        receipts.pop().ok_or(StoreError::Conflict)
    }

    /// Makes all of it durable at once and sends it on its way, with a receipt for each event. An error means that
    /// nothing was accepted.
    pub async fn accept_all(&self, heard: Vec<Heard>) -> Result<Vec<Receipt>, StoreError> {
        let now = self.clock.now();
        let arrivals: Vec<Arrival> = heard.into_iter().map(|heard| self.arrival(heard, now)).collect();
        let accepted = self.events.arrivals_accept(&arrivals, now).await?;
        let instances = arrivals.into_iter().filter_map(|arrival| match arrival {
            Arrival::Happened(new) => Some((new, true)),
            Arrival::Held(held) => Some((held.instance, false)),
            Arrival::Withdrawn { .. } => None,
        });
        let mut receipts = Vec::with_capacity(accepted.len());
        for ((new, has_happened), accepted) in instances.zip(accepted) {
            receipts.push(match accepted {
                Accepted::Duplicate(id) => Receipt::Duplicate(id),
                Accepted::New => Receipt::New(new.id),
            });
            if has_happened && accepted == Accepted::New {
                self.bus.publish(as_pending(new)).await;
            }
        }
        Ok(receipts)
    }

    fn arrival(&self, heard: Heard, now: Timestamp) -> Arrival {
        match heard {
            Heard::Happened(seen) => Arrival::Happened(self.instance(seen, now)),
            Heard::Held { seen, key, due_at } => {
                Arrival::Held(HeldInstance { key, instance: self.instance(seen, now), due_at })
            }
            Heard::Withdrawn { key, said_at } => Arrival::Withdrawn { key, said_at },
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
        let fired = self.events.timer_fire(trigger, instant, &instances, dropped, now).await?;
        if fired {
            self.bus.hint(Topic::Instances);
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
            dedupe: seen.dedupe_key.map(|key| (key, now.plus(REMEMBERED))),
        }
    }
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
