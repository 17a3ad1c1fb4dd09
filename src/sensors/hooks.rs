//! Webhooks that packs declare: a request becomes triggers through the pack's script, and every trigger is durable
//! before the sender hears "accepted".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::mapping::{Emit, MapError, Mapper, WebhookRequest};
use crate::clock::Clock;
use crate::intake::{Heard, Intake, IntakeError, Receipt, Seen};
use crate::model::pack::Catalogue;
use crate::model::refs::SensorRef;
use crate::model::time::Timestamp;
use crate::model::trigger::{Sensor, SensorSource, WebhookSource};

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No pack listens there.
    #[error("no sensor listens on `{0}`")]
    Unknown(String),
    /// The script does not take it: the sender's fault.
    #[error("{reason}")]
    Rejected {
        /// 400 to 499.
        status: u16,
        /// Why.
        reason: String,
    },
    /// The script is broken: the pack's fault.
    #[error("sensor {sensor}: {problem}")]
    Broken {
        /// Which.
        sensor: SensorRef,
        /// What is wrong.
        problem: String,
    },
    /// Nothing was accepted.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// The webhooks of all packs.
pub struct Hooks {
    intake: Intake,
    clock: Arc<dyn Clock>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    mappers: Mutex<HashMap<Arc<str>, Arc<Mapper>>>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Hooks {
    /// Over the sensors of `catalogue`.
    pub fn new(intake: Intake, clock: Arc<dyn Clock>, catalogue: watch::Receiver<Arc<Catalogue>>) -> Self {
        Self { intake, clock, catalogue, mappers: Mutex::default() }
    }

    /// The listeners that packs ask for: name and default port.
    pub fn listeners(catalogue: &Catalogue) -> Vec<(String, u16)> {
        let sensors = catalogue.sensors.values().filter(|sensor| sensor.enabled);
        let mut listeners: Vec<_> = sensors.filter_map(|sensor| webhook(sensor)?.listener.clone()).collect();
        listeners.sort();
        listeners.dedup();
        listeners
    }

    /// What is loaded.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.borrow())
    }

    /// The sensor that listens on `path` at `listener`; `None` is the API's own port.
    pub fn find(&self, listener: Option<&str>, path: &str) -> Option<Arc<Sensor>> {
        let path = path.trim_matches('/');
        let catalogue = self.catalogue.borrow();
        let sensors = catalogue.sensors.values().filter(|sensor| sensor.enabled);
        sensors
            .filter(|sensor| {
                webhook(sensor).is_some_and(|hook| {
                    hook.path.trim_matches('/') == path
                        && hook.listener.as_ref().map(|(name, _)| name.as_str()) == listener
                })
            })
            .map(Arc::clone)
            .next()
    }

    /// Maps a request and makes what it means durable.
    pub async fn receive(&self, sensor: &Sensor, request: &WebhookRequest) -> Result<Vec<Receipt>, HookError> {
        let hook = webhook(sensor).ok_or_else(|| HookError::Unknown(request.path.clone()))?;
        let mapper = self.mapper(sensor, hook)?;
        let emits =
            mapper.map(request, &config_of(&self.catalogue.borrow(), sensor.reference.pack())).map_err(|problem| {
                match problem {
                    MapError::Rejected { status, reason } => HookError::Rejected { status, reason },
                    MapError::Script(failure) => {
                        HookError::Broken { sensor: sensor.reference.clone(), problem: failure.to_string() }
                    }
                }
            })?;
        Ok(self.accept(emits).await?)
    }

    /// Makes what a script emitted durable, all of it at once: happening now, held back, or withdrawn.
    pub async fn accept(&self, emits: Vec<Emit>) -> Result<Vec<Receipt>, IntakeError> {
        let now = self.clock.now();
        self.intake.accept_all(emits.into_iter().flat_map(|emit| heard(emit, now)).collect()).await
    }

    fn mapper(&self, sensor: &Sensor, hook: &WebhookSource) -> Result<Arc<Mapper>, HookError> {
        let mut mappers = self.mappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapper) = mappers.get(&hook.source) {
            return Ok(Arc::clone(mapper));
        }
        let compiled = Mapper::compile(&hook.source, &hook.script.display().to_string());
        let mapper =
            Arc::new(compiled.map_err(|problem| HookError::Broken {
                sensor: sensor.reference.clone(),
                problem: problem.to_string(),
            })?);
        mappers.insert(Arc::clone(&hook.source), Arc::clone(&mapper));
        Ok(mapper)
    }
}

/// What it withdraws comes before what it says itself.
fn heard(emit: Emit, now: Timestamp) -> impl Iterator<Item = Heard> {
    let Emit { trigger, payload, dedupe_key, occurred_at, delay, held_as, cancels } = emit;
    let withdrawn = cancels.map(|key| Heard::Withdrawn { key, said_at: occurred_at });
    let seen = Seen { occurred_at, dedupe_key, ..Seen::of_type(trigger, payload) };
    let said = match (delay, held_as) {
        (Some(delay), Some(key)) => Heard::Held { seen, key, due_at: now.plus(delay) },
        _ => Heard::Happened(seen),
    };
    withdrawn.into_iter().chain([said])
}

/// A pack's configuration over the defaults of its schema.
pub(super) fn config_of(catalogue: &Catalogue, pack: &str) -> Value {
    let Some(pack) = catalogue.packs.get(pack) else { return Value::Null };
    let defaults = pack.config_schema.iter().filter_map(|(name, spec)| Some((name.clone(), spec.default.clone()?)));
    let mut config: serde_json::Map<String, Value> = defaults.collect();
    config.extend(pack.config.iter().map(|(name, value)| (name.clone(), value.clone())));
    json!(config)
}

fn webhook(sensor: &Sensor) -> Option<&WebhookSource> {
    match &sensor.source {
        SensorSource::Webhook(hook) => Some(hook),
        SensorSource::Polling(_) | SensorSource::Python { .. } => None,
    }
}
