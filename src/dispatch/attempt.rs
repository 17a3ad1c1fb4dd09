//! One attempt: a claimed execution, its runner, its output, its end.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::policies::concurrency_of;
use super::trials::Beside;
use super::{Dispatcher, Running, StopCause};
use crate::bus::Topic;
use crate::clock;
use crate::datastore::sealed::redactor_of;
use crate::model::action::{OnLost, WORKFLOW_RUNNER};
use crate::model::execution::ExecutionStatus;
use crate::model::pack::OverThreshold;
use crate::model::time::Timestamp;
use crate::runners::{Call, Outcome, OutputChunk, OutputSink, RunEnd, Runner, Stop, WaitsFor, Workplace};
use crate::secrets::{RedactingLines, Redactor};
use crate::store::StoreResult;
use crate::store::output::OutputRow;
use crate::store::rows::ExecutionRow;
use crate::store::slots::SlotTaken;
use crate::store::suspects::Subject;

/// Pieces of output that may wait to be stored before the run that makes them has to wait.
const OUTPUT_QUEUE: usize = 256;
/// Rows of output written in one batch.
const OUTPUT_BATCH: usize = 64;
/// A runner that was asked to stop gets this long beyond its own clean-up before it is given up.
const STOP_GRACE: Duration = Duration::from_secs(15);

impl Dispatcher {
    /// Runs a claimed execution to its end, or until it waits for somebody. Its worker slot is free for another as soon
    /// as it has run: while its end is being written nobody works.
    pub(super) async fn attempt(
        &self,
        row: &ExecutionRow,
        slot: Option<OwnedSemaphorePermit>,
        beside: Beside,
    ) -> StoreResult<()> {
        if !self.holds_its_slot(row).await? {
            return Ok(());
        }
        let prepared = match self.prepare(row) {
            Ok(prepared) => prepared,
            Err(why) => return self.finish(row, Outcome::error(why)).await,
        };
        if row.status == ExecutionStatus::Canceling && row.runner != WORKFLOW_RUNNER {
            return self.finish(row, canceled()).await;
        }
        let (end, why) = self.call(row, prepared, beside).await?;
        drop(slot);
        match (end, why) {
            (RunEnd::Finished(outcome), why) if is_cut_short(row, &outcome, why) => self.hand_back(row).await,
            (RunEnd::Finished(outcome), _) if row.runner == WORKFLOW_RUNNER => {
                self.finish(&self.with_its_secrets(row).await?, outcome).await
            }
            (RunEnd::Finished(outcome), why) => self.finish(row, explain_stop(row, outcome, why)).await,
            (RunEnd::NotBegun(_), why @ (StopCause::Canceled | StopCause::Timeout)) => {
                self.finish(row, explain_stop(row, canceled(), why)).await
            }
            (RunEnd::NotBegun(why), StopCause::None | StopCause::Shutdown | StopCause::Lost) => {
                self.put_off(row, &why).await
            }
            (RunEnd::Waiting(WaitsFor::Journal), _) => Ok(()),
            (RunEnd::Waiting(inquiry @ WaitsFor::Inquiry { .. }), _) => self.await_answer(row, inquiry).await,
        }
    }

    /// A workflow learns secrets while it runs, and writes them to its context.
    async fn with_its_secrets(&self, row: &ExecutionRow) -> StoreResult<ExecutionRow> {
        let context = self.stores.executions.execution_get(row.id).await?.context;
        Ok(ExecutionRow { context, ..row.clone() })
    }

    /// It is run again by whoever comes next.
    async fn hand_back(&self, row: &ExecutionRow) -> StoreResult<()> {
        tracing::info!(execution = %row.id, action = %row.action, "the daemon stops: it is run again at the next start");
        self.stores.obligations.lease_requeue(row.claim(), self.world.clock.now()).await.map(drop)
    }

    /// Takes the place that a concurrency policy asks for. `false`: it waits in line, or was canceled for want of one.
    async fn holds_its_slot(&self, row: &ExecutionRow) -> StoreResult<bool> {
        let catalogue = self.catalogue();
        let parameters = row.parameters.as_object().cloned().unwrap_or_default();
        let Some(policy) = concurrency_of(&catalogue, &row.action, &parameters) else { return Ok(true) };
        let now = self.world.clock.now();
        let taken = self.stores.executions.slot_take(row.claim(), &policy.slot, policy.threshold, now).await?;
        self.world.bus.hint(Topic::Queue);
        match (taken, policy.over) {
            (SlotTaken::Held, _) => Ok(true),
            (SlotTaken::Waiting, OverThreshold::Delay) => Ok(false),
            (SlotTaken::Waiting, OverThreshold::Cancel) => {
                let why = format!("{} are running already, as many as its policy allows", policy.threshold);
                let outcome = Outcome { status: ExecutionStatus::Canceled, result: json!({ "error": why }) };
                self.finish(row, outcome).await?;
                Ok(false)
            }
        }
    }

    fn prepare(&self, row: &ExecutionRow) -> Result<Prepared, String> {
        let compiled = self.compiled(&row.action).ok_or_else(|| format!("action `{}` is gone", row.action))??;
        let registry = self.registry();
        let runner = registry.get(&compiled.action.runner).ok_or("its runner is gone")?;
        let parameters = row.parameters.as_object().cloned().unwrap_or_default();
        Ok(Prepared { runner: Arc::clone(runner), action: Arc::clone(&compiled.action), parameters })
    }

    async fn call(&self, row: &ExecutionRow, prepared: Prepared, beside: Beside) -> StoreResult<(RunEnd, StopCause)> {
        let stop = self.stop_of(row);
        if row.runner == WORKFLOW_RUNNER && beside == Beside::Nobody {
            // Its steps cannot run before its trial ends: it lets go as soon as it waits.
            stop.raise();
        }
        self.register(row, &stop);
        let (sink, chunks) = OutputSink::channel(OUTPUT_QUEUE);
        let timeout = self.timeout_of(row, &prepared.parameters);
        let call = Call {
            execution: row.id,
            attempt: u64::try_from(row.fence).unwrap_or(1),
            action: prepared.action,
            parameters: prepared.parameters,
            user: row.user().to_owned(),
            output: sink,
            timeout,
        };
        let evaluating = match (self.trials.get(), beside) {
            (Some(trials), Beside::Others) if prepared.runner.workplace() == Workplace::Daemon => {
                Some(trials.evaluations.begin(&[Subject::Execution(row.id)]).await)
            }
            (Some(_) | None, Beside::Others | Beside::Nobody) => None,
        };
        let run = self.run_within(&*prepared.runner, call, &stop, timeout);
        let (end, stored) = tokio::join!(run, self.store_output(row, chunks));
        drop(evaluating);
        let why = self.unregister(row);
        if let Err(problem) = stored {
            // The result has its own copy of what counts; losing it as well would be worse.
            tracing::error!(execution = %row.id, %problem, "live output could not be stored");
        }
        Ok((end, why))
    }

    /// A workflow lets go as soon as the daemon stops; everything else is given its grace.
    fn stop_of(&self, row: &ExecutionRow) -> Stop {
        if row.runner == WORKFLOW_RUNNER {
            return Stop::new(self.world.supervisor.token().child_token());
        }
        Stop::default()
    }

    /// The runner itself keeps the time where it can; this is the second line.
    async fn run_within(&self, runner: &dyn Runner, call: Call, stop: &Stop, timeout: Option<Duration>) -> RunEnd {
        let id = call.execution;
        let mut run = runner.run(call, stop.clone());
        let Some(limit) = timeout else { return run.await };
        let clock = &*self.world.clock;
        if let Ok(end) = clock::timeout(clock, limit + Duration::from_secs(2), &mut run).await {
            return end;
        }
        self.stop_running(id, StopCause::Timeout);
        match clock::timeout(clock, STOP_GRACE, run).await {
            Ok(end) => end,
            Err(_) => RunEnd::Finished(timed_out(limit)),
        }
    }

    fn timeout_of(&self, row: &ExecutionRow, parameters: &Map<String, Value>) -> Option<Duration> {
        if row.runner == WORKFLOW_RUNNER {
            return None;
        }
        let given = parameters.get("timeout").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
        let given = given.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Some(given.unwrap_or(self.limits.default_timeout))
    }

    fn register(&self, row: &ExecutionRow, stop: &Stop) {
        let run = Running { fence: row.fence, stop: stop.clone(), why: StopCause::None };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id, run);
    }

    fn unregister(&self, row: &ExecutionRow) -> StopCause {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A later attempt may be at work under the same id already.
        if running.get(&row.id).is_none_or(|run| run.fence != row.fence) {
            return StopCause::None;
        }
        running.remove(&row.id).map_or(StopCause::None, |run| run.why)
    }

    /// Stores output as it comes, redacted, many pieces in one batch.
    async fn store_output(&self, row: &ExecutionRow, mut chunks: mpsc::Receiver<OutputChunk>) -> StoreResult<()> {
        let Some(first) = chunks.recv().await else { return Ok(()) };
        let redactor = redactor_of(&row.context, &self.stores.datastore);
        let mut shown = ShownOutput {
            redactor: Arc::new(redactor),
            streams: BTreeMap::new(),
            sequence: self.stores.outputs.output_last(row.id).await?,
        };
        let mut batch = vec![first];
        while !batch.is_empty() {
            while batch.len() < OUTPUT_BATCH
                && let Ok(more) = chunks.try_recv()
            {
                batch.push(more);
            }
            let now = self.world.clock.now();
            let rows: Vec<OutputRow> = batch.drain(..).filter_map(|chunk| shown.push(&chunk, now)).collect();
            self.append_output(row, &rows).await?;
            batch.extend(chunks.recv().await);
        }
        let rest = shown.finish(self.world.clock.now());
        self.append_output(row, &rest).await
    }

    async fn append_output(&self, row: &ExecutionRow, rows: &[OutputRow]) -> StoreResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.stores.outputs.output_append(row.id, rows).await?;
        self.world.bus.hint(Topic::Announcements);
        Ok(())
    }

    async fn await_answer(&self, row: &ExecutionRow, inquiry: WaitsFor) -> StoreResult<()> {
        let WaitsFor::Inquiry { schema, route, roles, users, ttl } = inquiry else { return Ok(()) };
        let now = self.world.clock.now();
        // Everybody may look at what is asked.
        let redactor = redactor_of(&row.context, &self.stores.datastore);
        let (schema, route) = (redactor.redact_value(&json!(schema)), redactor.redact_value(&json!(route)));
        let detail = json!({ "schema": schema, "route": route, "roles": roles, "users": users,
            "ttl_minutes": ttl.as_secs() / 60 });
        self.stores.executions.execution_await_answer(row.claim(), &detail, now.plus(ttl), now).await?;
        self.world.bus.hint(Topic::Announcements);
        let payload = json!({ "id": row.id, "route": route });
        self.raise_internal("core.st2.generic.inquiry", payload, row).await
    }
}

/// The output of one attempt as it may be shown; a secret that comes in two pieces is seen as well.
struct ShownOutput {
    redactor: Arc<Redactor>,
    streams: BTreeMap<&'static str, RedactingLines>,
    sequence: i64,
}

impl ShownOutput {
    fn push(&mut self, chunk: &OutputChunk, now: Timestamp) -> Option<OutputRow> {
        let stream = chunk.stream.as_str();
        let lines = self.streams.entry(stream).or_insert_with(|| RedactingLines::new(Arc::clone(&self.redactor)));
        let text = lines.push(&chunk.text);
        self.row(stream, text, now)
    }

    /// What was held back because a secret could have begun there.
    fn finish(mut self, now: Timestamp) -> Vec<OutputRow> {
        let streams = std::mem::take(&mut self.streams);
        streams.into_iter().filter_map(|(stream, mut lines)| self.row(stream, lines.finish(), now)).collect()
    }

    fn row(&mut self, stream: &str, text: String, now: Timestamp) -> Option<OutputRow> {
        if text.is_empty() {
            return None;
        }
        self.sequence += 1;
        Some(OutputRow { sequence: self.sequence, stream: stream.to_owned(), text, written_at: now })
    }
}

struct Prepared {
    runner: Arc<dyn Runner>,
    action: Arc<crate::model::action::Action>,
    parameters: Map<String, Value>,
}

/// Ended by the daemon's own end, and its action may be run again (G11).
fn is_cut_short(row: &ExecutionRow, outcome: &Outcome, why: StopCause) -> bool {
    why == StopCause::Shutdown && row.on_lost == OnLost::Retry && outcome.status != ExecutionStatus::Succeeded
}

/// What was stopped ends as what stopped it.
fn explain_stop(row: &ExecutionRow, outcome: Outcome, why: StopCause) -> Outcome {
    if outcome.status == ExecutionStatus::Succeeded || row.runner == WORKFLOW_RUNNER {
        return outcome;
    }
    let status = match why {
        StopCause::None => outcome.status,
        StopCause::Canceled => ExecutionStatus::Canceled,
        StopCause::Timeout => ExecutionStatus::Timeout,
        StopCause::Shutdown | StopCause::Lost => ExecutionStatus::Abandoned,
    };
    Outcome { status, result: outcome.result }
}

fn canceled() -> Outcome {
    Outcome { status: ExecutionStatus::Canceled, result: json!({ "error": "canceled before it started" }) }
}

fn timed_out(limit: Duration) -> Outcome {
    let limit = crate::model::time::format_duration(limit);
    let error = format!("it did not end within its time of {limit}, nor when it was asked to stop");
    Outcome { status: ExecutionStatus::Timeout, result: json!({ "error": error }) }
}
