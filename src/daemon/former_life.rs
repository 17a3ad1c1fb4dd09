//! What a daemon inherits from its former life: the name under which that held its leases, so that what it had under way need
//! not wait until they run out; and what it evaluated when it ended, which may have killed it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::engine::{Engine, World};
use super::installation::Sharing;
use crate::config::{Config, Role};
use crate::dispatch::trials::DISPATCH;
use crate::evaluation::{Evaluations, Trials};
use crate::private;
use crate::rules::engine::RULES;
use crate::store::Store;
use crate::store::obligations::Lost;

const FILE: &str = "owner";
const EVALUATING: &str = "evaluating";

/// What is evaluated, and what may have killed a daemon.
pub(super) fn trials(store: &Store, world: &World, owner: &str) -> Trials {
    Trials {
        suspects: store.suspects(),
        evaluations: Arc::default(),
        clock: Arc::clone(&world.clock),
        metrics: world.metrics.clone(),
        owner: owner.to_owned(),
    }
}

/// Writes down what the life before evaluated when it ended, and begins to mark what this one does: nothing before the parts
/// that it plays have looked at what is suspect.
pub(super) async fn inherit_suspects(config: &Config, trials: &Trials) -> anyhow::Result<()> {
    let file = config.data_dir.join(EVALUATING);
    let left = Evaluations::left_in(&file).with_context(|| format!("reading {}", file.display()))?;
    if !left.is_empty() {
        tracing::warn!(count = left.len(), "the daemon died while it evaluated these: each is tried alone first");
    }
    trials.suspects.suspects_add(&left, trials.clock.now()).await?;
    let plays = |role| config.roles.contains(&role);
    if plays(Role::Workers) || plays(Role::Governor) {
        trials.evaluations.hold_for(DISPATCH);
    }
    if plays(Role::Rules) {
        trials.evaluations.hold_for(RULES);
    }
    trials.evaluations.mark_in(&file).with_context(|| format!("writing {}", file.display()))
}

/// What this daemon had under way before it was killed goes on at once: its data folder is locked, so it is dead.
pub(super) async fn take_over(engine: &Engine, data_dir: &Path) -> anyhow::Result<()> {
    let owner = engine.dispatcher.owner();
    let former = exchange(data_dir, owner).await?;
    let (lost, ended) = match (engine.sharing, &former) {
        (Sharing::Alone, _) => (Lost::AllBut(owner), None),
        (Sharing::Shared, Some(former)) => {
            engine.store.daemons().daemon_gone(former).await?;
            (Lost::Of(former), Some(former.as_str()))
        }
        (Sharing::Shared, None) => return Ok(()),
    };
    engine.trials.suspects.trials_end(ended).await?;
    engine.dispatcher.recover_lost(lost, engine.world.clock.now()).await?;
    Ok(former.iter().try_for_each(|former| engine.guards.end_life(former))?)
}

/// Writes down the name of this life; gives back that of the one before, if there was one.
async fn exchange(data_dir: &Path, owner: &str) -> anyhow::Result<Option<String>> {
    let file = data_dir.join(FILE);
    let former = match tokio::fs::read_to_string(&file).await {
        Ok(text) => Some(text.trim().to_owned()).filter(|name| !name.is_empty()),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => None,
        Err(problem) => return Err(problem).with_context(|| format!("reading {}", file.display())),
    };
    private::replace_file(&file, owner.as_bytes()).with_context(|| format!("writing {}", file.display()))?;
    Ok(former)
}
