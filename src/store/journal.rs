//! Workflows: pinned bundles, journals, the state of a rollback, and the inbox of signals.

use serde_json::Value;

use super::driver::{Batch, Guarded, Row, cells};
use super::error::{StoreError, StoreResult};
use super::events::push_instance;
use super::executions::{STILL_CLAIMED, committed, push_completion, push_new_execution, push_status_change, push_wake};
use super::key_values::{KeyWrite, push_key_write};
use super::output::push_output;
use super::rows::{Claim, Completion, NewExecution, NewInstance, Secrecy};
use super::stream::push_announcement;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Bundles, journals, signals.
    Journals
}

/// A workflow as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowRow {
    /// The digest of the script it started with.
    pub bundle_digest: String,
    /// That script with its imports.
    pub bundle: String,
    /// What the engine keeps beside the journal.
    pub state: Value,
    /// What people and time told it.
    pub steering: Value,
}

/// A workflow about to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorkflow {
    /// The digest of its script.
    pub digest: String,
    /// That script with its imports.
    pub bundle: String,
    /// The engine's first state.
    pub state: Value,
    /// Nothing has been said yet.
    pub steering: Value,
}

/// Something told to a workflow from outside, with what its status becomes by it.
#[derive(Debug, Clone, PartialEq)]
pub struct Steered {
    /// The steering it was decided over.
    pub read: Value,
    /// The new one.
    pub write: Value,
    /// The statuses in which it may be said, and the one that follows; `None` leaves the status alone.
    pub status: Option<(Vec<ExecutionStatus>, ExecutionStatus)>,
}

/// A journal entry as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryRow {
    /// Where in the script's dynamic order.
    pub position: String,
    /// In which order it was written.
    pub sequence: i64,
    /// What was asked.
    pub request: String,
    /// What came back.
    pub outcome: Option<String>,
    /// The execution that does it.
    pub child: Option<ExecutionId>,
    /// When it was written.
    pub recorded_at: Timestamp,
    /// The secrets that its child knew when it ended, encrypted.
    pub sealed_secrets: Option<String>,
}

/// Something with a time limit that a workflow waits for by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A sleep.
    Timer {
        /// Journal position.
        position: String,
        /// Its end.
        due_at: Timestamp,
    },
    /// A signal.
    Signal {
        /// Journal position.
        position: String,
        /// The signal's name.
        name: String,
        /// Which of that name.
        correlation: String,
        /// Without it the wait ends as `timeout` then.
        due_at: Timestamp,
    },
}

/// Everything that one turn of a workflow writes, at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The proof.
    pub claim: Claim,
    /// When.
    pub now: Timestamp,
    /// New entries.
    pub entries: Vec<EntryRow>,
    /// Outcomes of entries that were open.
    pub outcomes: Vec<(String, String)>,
    /// Steps to run.
    pub children: Vec<NewExecution>,
    /// Steps that ended in this process and have not been written yet.
    pub completions: Vec<Completion>,
    /// Sleeps and awaited signals.
    pub waits: Vec<Wait>,
    /// Writes to the datastore.
    pub key_writes: Vec<KeyWrite>,
    /// Triggers emitted.
    pub instances: Vec<NewInstance>,
    /// Lines for the workflow's own output.
    pub lines: Vec<(i64, String)>,
    /// Announcements: name and payload.
    pub announcements: Vec<(String, Value)>,
    /// The engine's state, if it changed.
    pub state: Option<Value>,
    /// The execution's context, if it learned secrets.
    pub context: Option<Value>,
    /// Whether entries, outcomes, state and parameters may hold secrets.
    pub secrecy: Secrecy,
    /// What becomes of the lease.
    pub then: Then,
}

/// What becomes of a workflow's lease after a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// The worker keeps it and goes on.
    Continue,
    /// It is given back; a wake brings the workflow to a worker again.
    Suspend,
    /// It is given back; a person has to say how to go on, or the limit of the pause does.
    Pause {
        /// The end of patience.
        due_at: Timestamp,
        /// What `execution get` shows.
        reason: String,
    },
    /// The workflow is over.
    Finish(Box<Completion>),
    /// A fresh journal under the same execution: all entries are deleted.
    Restart {
        /// The new parameters.
        parameters: Value,
    },
}

/// Claimed while a workflow is pinned to its bundle, so that the bundle is not swept away at that moment.
pub(super) const BUNDLES: &str = "bundles";
/// Claimed while waits that time may end are written, so that the bell does not ring between two looks.
pub(super) const TIMERS: &str = "timers";

/// A signal and who waits for it look for each other: they do so one after the other.
fn signal_turf(name: &str, correlation: &str) -> String {
    format!("signal/{name}/{correlation}")
}

impl Turn {
    /// A turn with nothing in it yet.
    pub const fn new(claim: Claim, now: Timestamp, then: Then) -> Self {
        Self {
            claim,
            now,
            entries: Vec::new(),
            outcomes: Vec::new(),
            children: Vec::new(),
            completions: Vec::new(),
            waits: Vec::new(),
            key_writes: Vec::new(),
            instances: Vec::new(),
            lines: Vec::new(),
            announcements: Vec::new(),
            state: None,
            context: None,
            secrecy: Secrecy::Clear,
            then,
        }
    }

    fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        let Claim { execution, fence } = self.claim;
        batch.require(STILL_CLAIMED, cells![execution, fence]);
        self.completions.iter().for_each(|end| push_completion(&mut batch, end));
        self.entries.iter().for_each(|entry| push_entry(&mut batch, execution, entry, self.secrecy));
        for (position, outcome) in &self.outcomes {
            let sql = "UPDATE journal SET outcome = ?3 WHERE execution_id = ?1 AND position = ?2 AND outcome IS NULL";
            batch.push(sql, cells![execution, position.as_str(), Guarded(outcome.as_str(), self.secrecy)]);
        }
        self.children.iter().for_each(|child| push_new_execution(&mut batch, child));
        for child in &self.children {
            push_announcement(&mut batch, "st2.execution__create", &child.id.to_string(), None, self.now);
        }
        self.waits.iter().for_each(|wait| push_wait(&mut batch, execution, wait, self.now));
        self.key_writes.iter().for_each(|write| push_key_write(&mut batch, write, self.now));
        self.instances.iter().for_each(|instance| push_instance(&mut batch, instance, self.now));
        for (sequence, line) in &self.lines {
            push_output(&mut batch, execution, *sequence, "other", line, self.now);
        }
        for (name, payload) in &self.announcements {
            push_announcement(&mut batch, name, &execution.to_string(), Some(payload), self.now);
        }
        if let Some(state) = &self.state {
            let state = Guarded(state, self.secrecy);
            batch.push("UPDATE workflows SET state = ?2 WHERE execution_id = ?1", cells![execution, state]);
        }
        if let Some(context) = &self.context {
            batch.push("UPDATE executions SET context = ?2 WHERE id = ?1", cells![execution, context]);
        }
        push_then(&mut batch, &self);
        batch
    }
}

/// How long a step waits is no secret, and is read when the clock steps (`clock_steps.rs`).
fn secrecy_of_request(request: &str, secrecy: Secrecy) -> Secrecy {
    let waits = request.starts_with("{\"kind\":\"sleep");
    if waits { Secrecy::Clear } else { secrecy }
}

fn push_entry(batch: &mut Batch, execution: ExecutionId, entry: &EntryRow, secrecy: Secrecy) {
    let sql = "INSERT INTO journal (execution_id, position, sequence, request, outcome, child_id, recorded_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let outcome = entry.outcome.clone().map(|outcome| Guarded(outcome, secrecy));
    batch.push(
        sql,
        cells![
            execution,
            entry.position.as_str(),
            entry.sequence,
            Guarded(entry.request.as_str(), secrecy_of_request(&entry.request, secrecy)),
            outcome,
            entry.child,
            entry.recorded_at
        ],
    );
}

fn push_wait(batch: &mut Batch, execution: ExecutionId, wait: &Wait, now: Timestamp) {
    let sql = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at, owner, token)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    batch.share(TIMERS);
    match wait {
        Wait::Timer { position, due_at } => {
            batch.push(sql, cells![execution, "timer", position.as_str(), *due_at, None::<String>, None::<String>]);
        }
        Wait::Signal { position, name, correlation, due_at } => {
            let row = cells![execution, "signal", position.as_str(), *due_at, name.as_str(), correlation.as_str()];
            batch.alone(signal_turf(name, correlation));
            batch.push(sql, row);
            // A signal that came before its waiter wakes it all the same.
            let waiting = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at)
                SELECT ?1, 'queue', '', 0 WHERE EXISTS (SELECT 1 FROM signals
                    WHERE name = ?2 AND correlation = ?3 AND taken_by IS NULL AND expires_at > ?4)
                ON CONFLICT (execution_id, kind, obligation_key) DO UPDATE SET due_at = excluded.due_at";
            batch.push(waiting, cells![execution, name.as_str(), correlation.as_str(), now]);
        }
    }
}

fn push_then(batch: &mut Batch, turn: &Turn) {
    let (execution, now) = (turn.claim.execution, turn.now);
    let give_back = "DELETE FROM obligations WHERE execution_id = ?1 AND kind = 'lease'";
    match &turn.then {
        Then::Continue => {}
        Then::Suspend => batch.push(give_back, cells![execution]),
        Then::Pause { due_at, reason } => push_pause(batch, execution, *due_at, reason, now),
        Then::Finish(end) => push_completion(batch, end),
        Then::Restart { parameters } => {
            batch.push("DELETE FROM journal WHERE execution_id = ?1", cells![execution]);
            let waits = "DELETE FROM obligations WHERE execution_id = ?1 AND kind IN ('timer', 'signal', 'lease')";
            batch.push(waits, cells![execution]);
            batch.push(
                "UPDATE executions SET parameters = ?2 WHERE id = ?1",
                cells![execution, Guarded(parameters, turn.secrecy)],
            );
            push_wake(batch, execution, now);
        }
    }
}

fn push_pause(batch: &mut Batch, execution: ExecutionId, due_at: Timestamp, reason: &str, now: Timestamp) {
    let from = [ExecutionStatus::Running, ExecutionStatus::Pausing, ExecutionStatus::Resuming, ExecutionStatus::Paused];
    push_status_change(batch, execution, &from, ExecutionStatus::Paused, now);
    batch.push("DELETE FROM obligations WHERE execution_id = ?1 AND kind = 'lease'", cells![execution]);
    let sql = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at, detail)
        VALUES (?1, 'pause', '', ?2, ?3) ON CONFLICT (execution_id, kind, obligation_key)
        DO UPDATE SET due_at = excluded.due_at, detail = excluded.detail";
    batch.push(sql, cells![execution, due_at, reason]);
}

impl Journals {
    /// Begins a workflow: pins its bundle and writes its first state and steering, unless they are there.
    pub async fn workflow_begin(&self, execution: ExecutionId, begin: &NewWorkflow) -> StoreResult<()> {
        let NewWorkflow { digest, bundle, state, steering } = begin;
        let mut batch = Batch::default();
        batch.share(BUNDLES);
        let pin = "INSERT INTO bundles (digest, content) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING";
        batch.push(pin, cells![digest.as_str(), bundle.as_str()]);
        let begin = "INSERT INTO workflows (execution_id, bundle_digest, state, steering) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (execution_id) DO NOTHING";
        batch.push(begin, cells![execution, digest.as_str(), state, steering]);
        self.driver.commit(batch).await.map(drop)
    }

    /// A workflow's bundle and state; `None` if it has not begun.
    pub async fn workflow_get(&self, execution: ExecutionId) -> StoreResult<Option<WorkflowRow>> {
        let sql = "SELECT workflows.bundle_digest, bundles.content, workflows.state, workflows.steering
            FROM workflows JOIN bundles ON bundles.digest = workflows.bundle_digest WHERE execution_id = ?1";
        let rows = self.driver.query(sql, cells![execution]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(WorkflowRow {
            bundle_digest: row.text(0)?.to_owned(),
            bundle: row.text(1)?.to_owned(),
            state: row.json(2)?,
            steering: row.json(3)?,
        }))
    }

    /// Tells a workflow something (pause, cancel, time-out, going on), if its steering and status are still what they
    /// were, and wakes it.
    pub async fn workflow_steer(&self, execution: ExecutionId, steered: &Steered, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        let sql = "UPDATE workflows SET steering = ?3 WHERE execution_id = ?1 AND steering = ?2";
        batch.require(sql, cells![execution, &steered.read, &steered.write]);
        if let Some((from, to)) = &steered.status {
            push_status_change(&mut batch, execution, from, *to, now);
        }
        push_wake(&mut batch, execution, now);
        committed(self.driver.commit(batch).await)
    }

    /// The whole journal, in the order it was written.
    pub async fn journal_read(&self, execution: ExecutionId) -> StoreResult<Vec<EntryRow>> {
        let sql = "SELECT position, sequence, request, outcome, child_id, recorded_at, sealed_secrets FROM journal
            WHERE execution_id = ?1 ORDER BY sequence";
        self.driver.query(sql, cells![execution]).await?.iter().map(entry).collect()
    }

    /// Entries without an outcome, in the order they were written: what a workflow waits for.
    pub async fn journal_open(&self, execution: ExecutionId) -> StoreResult<Vec<EntryRow>> {
        let sql = "SELECT position, sequence, request, outcome, child_id, recorded_at, sealed_secrets FROM journal
            WHERE execution_id = ?1 AND outcome IS NULL ORDER BY sequence";
        self.driver.query(sql, cells![execution]).await?.iter().map(entry).collect()
    }

    /// Writes a turn. [`StoreError::Conflict`]: the claim is old, or a datastore write met another one.
    pub async fn turn_record(&self, turn: Turn) -> StoreResult<()> {
        self.driver.commit(turn.into_batch()).await.map(drop)
    }

    /// The same from a thread that may block.
    pub fn turn_record_blocking(&self, turn: Turn) -> StoreResult<()> {
        self.driver.commit_blocking(turn.into_batch()).map(drop)
    }

    /// Puts a signal into the inbox and wakes who waits for it. `false`: this sender has sent it before.
    pub async fn signal_send(&self, signal: &NewSignal, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        let put = "INSERT INTO signals (name, correlation, sender_id, payload, received_at, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name, correlation, sender_id)
            DO UPDATE SET payload = excluded.payload, received_at = excluded.received_at,
                expires_at = excluded.expires_at, taken_by = NULL
            WHERE signals.expires_at <= excluded.received_at";
        let NewSignal { name, correlation, sender, payload, expires_at } = signal;
        batch.alone(signal_turf(name, correlation));
        batch.require(put, cells![name.as_str(), correlation.as_str(), sender.as_str(), payload, now, *expires_at]);
        let wake = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at)
            SELECT DISTINCT execution_id, 'queue', '', ?3 FROM obligations
                WHERE kind = 'signal' AND owner = ?1 AND token = ?2
            ON CONFLICT (execution_id, kind, obligation_key) DO UPDATE SET due_at = excluded.due_at";
        batch.push(wake, cells![name.as_str(), correlation.as_str(), now]);
        committed(self.driver.commit(batch).await)
    }

    /// Takes the oldest signal that one open wait of a workflow waits for: the entry gets its outcome at once.
    pub async fn signal_take(
        &self,
        claim: Claim,
        position: &str,
        name: &str,
        correlation: &str,
        now: Timestamp,
    ) -> StoreResult<bool> {
        let take = "UPDATE signals SET taken_by = ?1 WHERE name = ?2 AND correlation = ?3 AND taken_by IS NULL
            AND sender_id = (SELECT sender_id FROM signals WHERE name = ?2 AND correlation = ?3
                AND taken_by IS NULL AND expires_at > ?6 ORDER BY received_at, sender_id LIMIT 1)
            AND EXISTS (SELECT 1 FROM journal WHERE execution_id = ?4 AND position = ?5 AND outcome IS NULL)";
        let outcome = "UPDATE journal SET outcome = '{\"ok\":' ||
                (SELECT payload FROM signals WHERE taken_by = ?1) || '}'
            WHERE execution_id = ?2 AND position = ?3 AND outcome IS NULL";
        let done = "DELETE FROM obligations WHERE execution_id = ?1 AND kind = 'signal' AND obligation_key = ?2";
        // With the fence: after a restart of the workflow the same position waits anew.
        let taker = format!("{}/{position}/{}", claim.execution, claim.fence);
        let mut batch = Batch::default();
        batch.alone(signal_turf(name, correlation));
        batch.require(take, cells![taker.as_str(), name, correlation, claim.execution, position, now]);
        batch.require(outcome, cells![taker.as_str(), claim.execution, position]);
        batch.push(done, cells![claim.execution, position]);
        committed(self.driver.commit(batch).await)
    }

    /// The signals a workflow waits for: position, name, correlation.
    pub async fn signals_awaited(&self, execution: ExecutionId) -> StoreResult<Vec<(String, String, String)>> {
        let sql = "SELECT obligation_key, owner, token FROM obligations
            WHERE execution_id = ?1 AND kind = 'signal' ORDER BY obligation_key";
        let rows = self.driver.query(sql, cells![execution]).await?;
        rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned()))).collect()
    }

    /// Unfinished workflows, for a dry replay before an upgrade.
    pub async fn workflows_open(&self) -> StoreResult<Vec<ExecutionId>> {
        let sql = "SELECT id FROM executions JOIN workflows ON workflows.execution_id = executions.id
            WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned') ORDER BY id";
        self.driver.query(sql, Vec::new()).await?.iter().map(|row| row.parse(0)).collect()
    }
}

/// A signal about to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSignal {
    /// What workflows wait for by this name.
    pub name: String,
    /// Which of that name; empty if there is only one.
    pub correlation: String,
    /// Recognises repetitions.
    pub sender: String,
    /// What the waiter gets.
    pub payload: Value,
    /// Nobody may take it after that.
    pub expires_at: Timestamp,
}

fn entry(row: &Row) -> StoreResult<EntryRow> {
    Ok(EntryRow {
        position: row.text(0)?.to_owned(),
        sequence: row.int(1)?,
        request: row.text(2)?.to_owned(),
        outcome: row.text_or_null(3)?.map(str::to_owned),
        child: row.parse_or_null(4)?,
        recorded_at: row.time(5)?,
        sealed_secrets: row.text_or_null(6)?.map(str::to_owned),
    })
}

/// A turn that lost its claim, told apart from a database that is away.
pub const fn is_lost_claim(problem: &StoreError) -> bool {
    matches!(problem, StoreError::Conflict)
}
