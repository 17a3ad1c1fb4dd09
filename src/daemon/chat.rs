//! Puts chat together: the desk that understands commands, and those who bring them in and carry answers out.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::engine::Engine;
use super::runners::WorldWith;
use crate::chat::desk::{Desk, Parts};
use crate::config::Config;
use crate::datastore::Datastore;
use crate::dispatch::Dispatcher;
use crate::irc;
use crate::requests::Requests;
use crate::runners::native::Native;
use crate::slack;
use crate::store::Store;

/// Where commands are understood.
pub(super) fn desk(engine: &Engine) -> Desk {
    let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(&engine.dispatcher);
    Desk::new(Parts {
        catalogue: engine.catalogue.clone(),
        requests,
        executions: engine.store.executions(),
        identities: engine.store.identities(),
        datastore: engine.datastore.clone(),
        clock: Arc::clone(&engine.world.clock),
    })
}

/// Chat over IRC.
pub(super) fn irc(engine: &Engine) -> irc::Adapter {
    irc::Adapter {
        desk: desk(engine),
        announcements: engine.store.announcements(),
        contents: engine.store.contents(),
        bus: Arc::clone(&engine.world.bus),
        catalogue: engine.catalogue.clone(),
        turns: engine.turns(),
        clock: Arc::clone(&engine.world.clock),
    }
}

/// What is said in Slack.
pub(super) fn slack(engine: &Engine) -> slack::Adapter {
    slack::Adapter {
        announcements: engine.store.announcements(),
        contents: engine.store.contents(),
        bus: Arc::clone(&engine.world.bus),
        catalogue: engine.catalogue.clone(),
        turns: engine.turns(),
        clock: Arc::clone(&engine.world.clock),
    }
}

/// Where Slack's requests arrive.
pub(super) fn slack_door(config: &Config, engine: &Engine) -> slack::Door {
    slack::Door {
        intake: engine.intake.clone(),
        catalogue: engine.catalogue.clone(),
        clock: Arc::clone(&engine.world.clock),
        metrics: engine.world.metrics.clone(),
        places: Arc::new(Semaphore::new(config.limits.intake_queue)),
    }
}

/// The actions of those who bring commands by events.
pub(super) fn register(native: &mut Native, store: &Store, datastore: &Datastore, around: &WorldWith<'_>) {
    let WorldWith { world, dispatcher, catalogue, .. } = around;
    let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(dispatcher);
    let desk = Desk::new(Parts {
        catalogue: (*catalogue).clone(),
        requests,
        executions: store.executions(),
        identities: store.identities(),
        datastore: datastore.clone(),
        clock: Arc::clone(&world.clock),
    });
    let tools = slack::Tools {
        desk,
        catalogue: (*catalogue).clone(),
        announcements: store.announcements(),
        contents: store.contents(),
        bus: Arc::clone(&world.bus),
        clock: Arc::clone(&world.clock),
    };
    slack::register(native, tools);
}
