//! Puts chat together: the desk that understands commands, and those who bring them.

use std::sync::Arc;

use super::engine::Engine;
use crate::chat::desk::{Desk, Parts};
use crate::dispatch::Dispatcher;
use crate::irc;
use crate::requests::Requests;

/// Where commands are understood.
pub(super) fn desk(engine: &Engine) -> Desk {
    let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(&engine.dispatcher);
    Desk::new(Parts {
        catalogue: engine.catalogue.clone(),
        requests,
        executions: engine.store.executions(),
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
