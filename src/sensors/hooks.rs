//! Webhooks that packs declare: a request becomes triggers through the pack's script, and every trigger is durable
//! before the sender hears "accepted".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::mapping::{Emit, MapError, Mapper, WebhookRequest};
use crate::clock::Clock;
use crate::intake::{Intake, Receipt, Seen};
use crate::model::pack::Catalogue;
use crate::model::refs::SensorRef;
use crate::model::trigger::{Sensor, SensorSource, WebhookSource};
use crate::store::{Events, StoreError};

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
    /// Nothing was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The webhooks of all packs.
pub struct Hooks {
    intake: Intake,
    events: Events,
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
    pub fn new(
        intake: Intake,
        events: Events,
        clock: Arc<dyn Clock>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
    ) -> Self {
        Self { intake, events, clock, catalogue, mappers: Mutex::default() }
    }

    /// The listeners that packs ask for: name and default port.
    pub fn listeners(catalogue: &Catalogue) -> Vec<(String, u16)> {
        let sensors = catalogue.sensors.values().filter(|sensor| sensor.enabled);
        let mut listeners: Vec<_> = sensors.filter_map(|sensor| webhook(sensor)?.listener.clone()).collect();
        listeners.sort();
        listeners.dedup();
        listeners
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
        let emits = mapper.map(request, &self.config_of(sensor)).map_err(|problem| match problem {
            MapError::Rejected { status, reason } => HookError::Rejected { status, reason },
            MapError::Script(failure) => {
                HookError::Broken { sensor: sensor.reference.clone(), problem: failure.to_string() }
            }
        })?;
        let mut accepted = Vec::new();
        for emit in emits {
            accepted.push(self.accept(emit).await?);
        }
        Ok(accepted)
    }

    /// Makes one emitted trigger durable, now or held back; withdraws what it cancels.
    pub async fn accept(&self, emit: Emit) -> Result<Receipt, StoreError> {
        if let Some(key) = &emit.cancels {
            self.withdraw(key, &emit).await?;
        }
        let Emit { trigger, payload, dedupe_key, occurred_at, delay, held_as, cancels: _ } = emit;
        let seen = Seen { dedupe_key, occurred_at, ..Seen::of_type(trigger, payload) };
        match (delay, held_as) {
            (Some(delay), Some(key)) => {
                let due_at = self.clock.now().plus(delay);
                self.intake.hold(seen, key, due_at).await.map(Receipt::New)
            }
            _ => self.intake.accept(seen).await,
        }
    }

    /// What is held happened later by the source's own clock: then this message came late, and it stays.
    async fn withdraw(&self, key: &str, by: &Emit) -> Result<(), StoreError> {
        let held = self.events.hold_get(key).await?;
        let later = match (held, by.occurred_at) {
            (Some(held), Some(at)) => held.occurred_at > at,
            _ => false,
        };
        if !later {
            self.intake.withdraw(key).await?;
        }
        Ok(())
    }

    fn mapper(&self, sensor: &Sensor, hook: &WebhookSource) -> Result<Arc<Mapper>, HookError> {
        let mut mappers = self.mappers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapper) = mappers.get(&hook.source) {
            return Ok(Arc::clone(mapper));
        }
        let compiled = Mapper::compile(&hook.source, &hook.script.display().to_string());
        let mapper = Arc::new(compiled.map_err(|problem| HookError::Broken {
            sensor: sensor.reference.clone(),
            problem: problem.to_string(),
        })?);
        mappers.insert(Arc::clone(&hook.source), Arc::clone(&mapper));
        Ok(mapper)
    }

    fn config_of(&self, sensor: &Sensor) -> Value {
        let catalogue = self.catalogue.borrow();
        let Some(pack) = catalogue.packs.get(sensor.reference.pack()) else { return Value::Null };
        let defaults = pack.config_schema.iter().filter_map(|(name, spec)| Some((name.clone(), spec.default.clone()?)));
        let mut config: serde_json::Map<String, Value> = defaults.collect();
        config.extend(pack.config.iter().map(|(name, value)| (name.clone(), value.clone())));
        json!(config)
    }
}

fn webhook(sensor: &Sensor) -> Option<&WebhookSource> {
    match &sensor.source {
        SensorSource::Webhook(hook) => Some(hook),
        SensorSource::Polling(_) | SensorSource::Python { .. } => None,
    }
}
