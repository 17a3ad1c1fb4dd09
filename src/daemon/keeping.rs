//! What every daemon keeps beside its work: the time of day, and the store small and in its place.

use std::sync::Arc;

use super::engine::{Engine, World};
use crate::config::Config;
use crate::housekeeping::Housekeeping;
use crate::store::{Store, StoreResult};
use crate::timekeeping::Timekeeper;

/// Sets the clock by its reference. Without a boot id, every start is taken for the first one after a boot.
pub(super) async fn begin_time(store: &Store, world: &World) -> StoreResult<Arc<Timekeeper>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let clock = Arc::clone(&world.clock);
    let timekeeper = Timekeeper::new(store.clock_steps(), store.daemons(), clock, world.troubles.clone(), boot);
    timekeeper.begin().await?;
    Ok(Arc::new(timekeeper))
}

/// Over the engine's store.
pub(super) fn housekeeping(engine: &Engine, config: &Config) -> Housekeeping {
    let (retention, events) = (engine.store.retention(), engine.store.events());
    Housekeeping::new(retention, events, config.retention.clone(), Arc::clone(&engine.world.clock))
}
