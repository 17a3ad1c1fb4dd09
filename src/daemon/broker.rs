//! Puts the broker in front of the store, if one is configured, and answers for it at the doors; and the pack `amqp`.

use std::sync::Arc;

use async_trait::async_trait;

use super::engine::{Engine, World};
use super::runners::WorldWith;
use crate::amqp::{self, Broker, Shore, Unsigned};
use crate::api::dead_letters::{BusService, RequeueError, Requeued};
use crate::config::{Config, Role};
use crate::intake::{Intake, Landing};
use crate::runners::native::NativeAction;
use crate::secrets::MessageKey;
use crate::store::dead_letters::DeadLetterRow;
use crate::store::{DeadLetters, StoreError};

/// What a message holds beside the body of a request: its headers, twice, and what is known of the trigger.
const ENVELOPE_BYTES: usize = 256 << 10;
/// A payload holds the body below its top.
const ENVELOPE_DEPTH: usize = 1;

/// The broker, and the world with its bus; without one the world stays as it is.
pub(super) fn introduce(
    config: &Config,
    key: &MessageKey,
    world: World,
) -> anyhow::Result<(World, Option<Arc<Broker>>)> {
    let World { clock, ids, metrics, .. } = world.clone();
    let Some(broker) = Broker::new(&config.bus, key, amqp::World { clock, ids, metrics })? else {
        return Ok((world, None));
    };
    Ok((World { bus: broker.bus(), ..world }, Some(Arc::new(broker))))
}

/// The intake behind the broker, if there is one.
pub(super) fn behind(broker: Option<&Broker>, intake: Intake) -> Intake {
    match broker {
        Some(broker) => intake.behind(broker.front()),
        None => intake,
    }
}

/// Starts to connect, and where rules run to land what comes.
pub(super) fn start(engine: &Engine, config: &Config) {
    let Some(broker) = &engine.broker else { return };
    let shore =
        || Shore { landing: landing(engine), dead_letters: engine.store.dead_letters(), unsigned: unsigned(config) };
    broker.start(&engine.world.supervisor, config.roles.contains(&Role::Rules).then(shore));
}

/// What nobody signed is taken within the limits of the listeners, if it is taken at all.
const fn unsigned(config: &Config) -> Unsigned {
    if !config.bus.accept_unsigned {
        return Unsigned::SetAside;
    }
    let limits = &config.limits;
    Unsigned::Taken { most_bytes: limits.body_bytes + ENVELOPE_BYTES, max_depth: limits.json_depth + ENVELOPE_DEPTH }
}

/// The action that publishes, to the broker of its pack's configuration.
pub(super) fn publish_action(config: &Config, world: &WorldWith<'_>) -> Arc<dyn NativeAction> {
    let clock = Arc::clone(&world.world.clock);
    Arc::new(amqp::Publish::new(world.catalogue.clone(), config.bus.clone(), clock))
}

/// The queues whose messages become triggers.
pub(super) fn queues(engine: &Engine, config: &Config) -> amqp::Queues {
    let (intake, clock) = (engine.intake.clone(), Arc::clone(&engine.world.clock));
    amqp::Queues::new(intake, engine.catalogue.clone(), config.bus.clone(), config.limits.body_bytes, clock)
}

fn landing(engine: &Engine) -> Landing {
    Landing::new(engine.store.events(), Arc::clone(&engine.world.bus))
}

/// What the doors ask about the way of events into the store.
#[derive(Debug)]
pub(super) struct BusDoor {
    broker: Option<Arc<Broker>>,
    landing: Landing,
    dead_letters: DeadLetters,
}

impl BusDoor {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { broker: engine.broker.clone(), landing: landing(engine), dead_letters: engine.store.dead_letters() }
    }

    async fn land(&self, body: &[u8]) -> Result<(), RequeueError> {
        let delivery = amqp::decode(body).map_err(|problem| RequeueError::Poison(problem.to_string()))?;
        let accepted = match self.landing.store(std::slice::from_ref(&delivery)).await {
            Err(StoreError::Corrupt(why) | StoreError::Refused(why)) => return Err(RequeueError::Poison(why)),
            other => other?,
        };
        self.landing.send_on([delivery], &accepted).await;
        Ok(())
    }
}

#[async_trait]
impl BusService for BusDoor {
    fn reasons_not_ready(&self) -> Vec<String> {
        let refusal = self.broker.as_ref().and_then(|broker| broker.refusal());
        refusal.map(|refusal| format!("the broker takes no events: {refusal}")).into_iter().collect()
    }

    async fn requeue(&self, letter: &DeadLetterRow, body: &[u8]) -> Result<Requeued, RequeueError> {
        let requeued = if let Some(broker) = &self.broker {
            let published = broker.publish_again(body).await;
            published.map_err(|refusal| RequeueError::Broker(refusal.to_string()))?;
            Requeued::Published
        } else {
            self.land(body).await?;
            Requeued::Landed
        };
        // If it was set aside again in the meantime, it stays.
        if !self.dead_letters.dead_letter_delete(letter).await? {
            tracing::info!(letter = %letter.id, "a dead letter came again while it was put back");
        }
        Ok(requeued)
    }
}
