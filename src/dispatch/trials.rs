//! Trials of executions that a daemon may have died of: each is run alone, until it has ended or its time is up.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use crate::bus::Topic;
use crate::clock;
use crate::evaluation::{Trial, Trials, Verdict};
use crate::model::action::WORKFLOW_RUNNER;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::{ExecutionId, Id};
use crate::requests::Cancels;
use crate::runners::Outcome;
use crate::store::rows::ExecutionRow;
use crate::store::suspects::{Subject, SubjectKind, SuspectRow};
use crate::store::{StoreError, StoreResult};

/// As [`crate::evaluation::Evaluations::hold_for`] knows this part.
pub const DISPATCH: &str = "dispatch";
/// A suspect waits at most so long for its next trial.
const EVERY: Duration = Duration::from_secs(1);

/// What is evaluated at the same time as an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// Anything.
    Others,
    /// Nothing: it is on trial.
    Nobody,
}

impl Dispatcher {
    /// Marks what it runs in this process, and tries alone what a daemon may have died of. Once, before anything runs.
    pub fn set_trials(&self, trials: Trials) {
        drop(self.trials.set(trials));
    }

    /// Tries suspects until the token is cancelled.
    pub async fn run_trials(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(trials) = self.trials.get() else {
            stop.cancelled().await;
            return Ok(());
        };
        while !stop.is_cancelled() {
            self.try_suspects(trials).await?;
            trials.evaluations.first_look_done(DISPATCH);
            tokio::select! {
                () = clock::sleep(&*self.world.clock, EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn try_suspects(&self, trials: &Trials) -> StoreResult<()> {
        for suspect in trials.open(SubjectKind::Execution).await? {
            let Subject::Execution(id) = suspect.subject else { continue };
            let row = match self.stores.executions.execution_get(id).await {
                Err(StoreError::NotFound(_)) => None,
                found => Some(found?).filter(|row| !row.status.is_completed()),
            };
            match row {
                None => trials.suspects.suspect_clear(suspect.subject).await?,
                Some(row) if self.is_held(row.claim()) || !self.limits.share.includes(&row.action) => {}
                Some(row) if !self.is_due(id).await? => tracing::debug!(execution = %row.id, "a suspect waits"),
                Some(row) => self.try_suspect(trials, &suspect, &row).await?,
            }
        }
        Ok(())
    }

    async fn try_suspect(&self, trials: &Trials, suspect: &SuspectRow, row: &ExecutionRow) -> StoreResult<()> {
        match trials.judge(suspect).await? {
            Verdict::Later => Ok(()),
            Verdict::SetAside(reason) => self.set_aside(trials, row, reason).await,
            Verdict::Try(trial) => match self.claim_one(row.id).await? {
                // It waits for something, or another daemon has it.
                None => trials.withdraw(trial).await,
                Some(row) => self.run_alone(trials, trial, row).await,
            },
        }
    }

    async fn is_due(&self, id: ExecutionId) -> StoreResult<bool> {
        let now = self.world.clock.now();
        let waits = self.stores.obligations.obligation_list(id).await?;
        Ok(waits.iter().any(|wait| wait.kind == "queue" && wait.due_at.is_some_and(|due_at| due_at <= now)))
    }

    async fn claim_one(&self, id: ExecutionId) -> StoreResult<Option<ExecutionRow>> {
        let now = self.world.clock.now();
        let token = Id::<()>::from_bytes(self.world.ids.next()).to_string();
        self.stores.executions.execution_claim_one(&self.lease(now), &token, id, now).await
    }

    async fn run_alone(&self, trials: &Trials, trial: Trial, row: ExecutionRow) -> StoreResult<()> {
        let (tell, mut ended) = oneshot::channel::<()>();
        let limit = trial.limit;
        self.start_beside(row, None, Beside::Nobody, Some(tell));
        if clock::timeout(&*self.world.clock, limit, &mut ended).await.is_ok() {
            trials.survived(trial).await?;
            // What woke it meanwhile could not be claimed.
            self.world.bus.hint(Topic::Queue);
            return Ok(());
        }
        let subject = trial.subject;
        let beside = trials.undecided(trial).await?;
        let (suspects, bus) = (trials.suspects.clone(), Arc::clone(&self.world.bus));
        self.world.supervisor.spawn_once(format!("end of {subject}"), async move {
            // Nothing is ever sent: it is dropped at the end.
            drop(ended.await);
            drop(beside);
            suspects.suspect_clear(subject).await?;
            bus.hint(Topic::Queue);
            Ok(())
        });
        Ok(())
    }

    /// It is not run again. What it has asked for ends with it; `petrel execution re-run` asks for all of it once more.
    async fn set_aside(&self, trials: &Trials, row: &ExecutionRow, reason: String) -> StoreResult<()> {
        if row.runner == WORKFLOW_RUNNER {
            for child in self.stores.executions.execution_children_unfinished(row.id).await? {
                self.request_cancel(child.id).await?;
            }
        }
        let result = json!({ "error": reason });
        self.finish(row, Outcome { status: ExecutionStatus::Abandoned, result }).await?;
        trials.suspects.suspect_clear(Subject::Execution(row.id)).await
    }
}
