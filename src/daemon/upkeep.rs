//! What an operator does around an upgrade: dry replays of open workflows, and copies of the store.

use std::path::Path;

use async_trait::async_trait;

use super::engine::Engine;
use crate::api::upkeep::{BackupError, BackupService, Checked, Divergence, WorkflowCheck};
use crate::store::{Executions, Journals, Store, StoreResult};
use crate::supervise::Supervisor;
use crate::workflows::dry::{self, DryEnd};

/// Both services, over the same store.
#[derive(Debug)]
pub(super) struct Upkeep {
    store: Store,
    journals: Journals,
    executions: Executions,
    supervisor: Supervisor,
}

impl Upkeep {
    /// Over this engine's store.
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            store: engine.store.clone(),
            journals: engine.store.journals(),
            executions: engine.store.executions(),
            supervisor: engine.world.supervisor.clone(),
        }
    }
}

#[async_trait]
impl WorkflowCheck for Upkeep {
    async fn check(&self) -> StoreResult<Checked> {
        let mut checked = Checked::default();
        for id in self.journals.workflows_open().await? {
            let row = self.executions.execution_get(id).await?;
            let Some(workflow) = self.journals.workflow_get(id).await? else { continue };
            let journal = self.journals.journal_read(id).await?;
            let name = format!("check of {id}");
            let end = self.supervisor.spawn_blocking(name, move || dry::replay(&row, &workflow, &journal)).await;
            checked.checked += 1;
            match end {
                Ok(DryEnd::GoesOn) => {}
                Ok(DryEnd::Differs { position, recorded, asked }) => {
                    checked.problems.push(Divergence { execution: id, position, recorded, asked });
                }
                Err(panicked) => checked.problems.push(Divergence {
                    execution: id,
                    position: String::new(),
                    recorded: String::new(),
                    asked: panicked.to_string(),
                }),
            }
        }
        Ok(checked)
    }
}

#[async_trait]
impl BackupService for Upkeep {
    async fn backup(&self, target: &Path) -> Result<u64, BackupError> {
        let failed = |why: std::io::Error| BackupError::Target { path: target.to_owned(), why: why.to_string() };
        if tokio::fs::try_exists(target).await.map_err(failed)? {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        self.store.backup(target).await?;
        Ok(tokio::fs::metadata(target).await.map_err(failed)?.len())
    }
}
