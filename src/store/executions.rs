//! Executions from their request to their end. Everything that belongs to one fact is written in one batch.

use std::sync::LazyLock;

use serde_json::Value;

use super::damage::readable;
use super::driver::{Batch, Cell, Guarded, Row, cells};
use super::error::{StoreError, StoreResult};
use super::events::{first_int, push_instance};
use super::groups::push_activity_end;
use super::output::{push_blob, read_blob};
use super::rows::{
    Claim, Completion, ExecutionRow, Lease, NewExecution, Page, ParentOutcome, Secrecy, Share, Start, Wake,
};
use super::slots::push_slot_release;
use super::stream::push_announcement;
use crate::model::action::OnLost;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::{ActionRef, ExecutionId, InstanceId, RuleRef};
use crate::model::time::Timestamp;

super::aggregate! {
    /// Request, claim, finish, list.
    Executions
}

/// Results up to this size stay in the row; larger ones go to blobs.
const INLINE_RESULT_BYTES: usize = 64 * 1024;

const COLUMNS: &str = "id, action_ref, runner, status, parent_id, parent_position, root_id, parameters, context,
    on_lost, requested_at, started_at, ended_at, fence, result, result_size_bytes, status_log";

const INSERT_EXECUTION: &str = "INSERT INTO executions (id, action_ref, runner, status, parent_id, parent_position,
        root_id, parameters, context, user_name, on_lost, requested_at, started_at, ended_at, fence, result,
        result_size_bytes, status_log)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
const INSERT_OBLIGATION: &str = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at, owner, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Holds if the claim is the last one and the execution has not ended.
pub(super) const STILL_CLAIMED: &str = "SELECT id FROM executions WHERE id = ?1 AND fence = ?2
    AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')";

static TAKE_ANY: LazyLock<String> = LazyLock::new(|| take_where(NO_SUSPECT));
static TAKE_ONE: LazyLock<String> = LazyLock::new(|| take_where("AND waiting.execution_id = ?6"));
static TAKE_OF_PACK: LazyLock<String> = LazyLock::new(|| {
    take_where(&format!(
        "{NO_SUSPECT} AND EXISTS (SELECT 1 FROM executions WHERE id = waiting.execution_id
            AND substr(action_ref, 1, length(?6)) = ?6)"
    ))
});
static TAKE_OF_OTHERS: LazyLock<String> = LazyLock::new(|| {
    take_where(&format!(
        "{NO_SUSPECT} AND EXISTS (SELECT 1 FROM executions WHERE id = waiting.execution_id
            AND substr(action_ref, 1, length(?6)) <> ?6)"
    ))
});

/// Suspects are claimed one by one, for their trials.
const NO_SUSPECT: &str = "AND NOT EXISTS (SELECT 1 FROM suspects
    WHERE suspects.kind = 'execution' AND suspects.id = waiting.execution_id)";

/// Turns places in the queue that are due into leases: owner ?1, until ?2, token ?3, now ?4, at most ?5.
fn take_where(condition: &str) -> String {
    format!(
        "WITH due AS MATERIALIZED (
            SELECT waiting.execution_id FROM obligations waiting
            WHERE waiting.kind = 'queue' AND waiting.due_at <= ?4 AND NOT EXISTS (
                SELECT 1 FROM obligations held
                WHERE held.execution_id = waiting.execution_id AND held.kind = 'lease')
            {condition}
            ORDER BY waiting.due_at, waiting.execution_id LIMIT ?5 /*FOR UPDATE OF waiting SKIP LOCKED*/)
        UPDATE obligations SET kind = 'lease', owner = ?1, due_at = ?2, token = ?3
        WHERE kind = 'queue' AND execution_id IN (SELECT execution_id FROM due)"
    )
}

/// Which executions to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct ExecutionFilter {
    /// Of this action only.
    pub action: Option<ActionRef>,
    /// In this status only.
    pub status: Option<ExecutionStatus>,
    /// On behalf of this user only.
    pub user: Option<String>,
    /// Only those without a parent.
    pub top_level: TopLevel,
    /// Caused by this trigger instance.
    pub instance: Option<InstanceId>,
    /// Asked for by this rule.
    pub rule: Option<RuleRef>,
    /// Requested later than this.
    pub after: Option<Timestamp>,
    /// Requested earlier than this.
    pub before: Option<Timestamp>,
}

/// Whether a list shows the steps of workflows as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TopLevel {
    /// Executions with and without a parent.
    #[default]
    All,
    /// Only those without a parent.
    Only,
}

/// Adds the rows of one new execution to a batch.
pub(super) fn push_new_execution(batch: &mut Batch, new: &NewExecution) {
    let (status, started_at, ended_at, fence, result) = match &new.start {
        Start::Queued { due_at, .. } if *due_at > new.requested_at => (ExecutionStatus::Delayed, None, None, 0, None),
        Start::Queued { .. } => (ExecutionStatus::Requested, None, None, 0, None),
        Start::Leased(_) => (ExecutionStatus::Running, Some(new.requested_at), None, 1, None),
        Start::Failed { result } => {
            (ExecutionStatus::Failed, Some(new.requested_at), Some(new.requested_at), 0, Some(result.to_string()))
        }
    };
    let (parent, position) = new.parent.clone().unzip();
    let on_lost = on_lost_text(new.on_lost);
    let size = result.as_ref().map_or(0, |text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    let user = new.context.get("user").and_then(Value::as_str).unwrap_or(crate::model::SYSTEM_USER);
    let log = log_entry(new.requested_at, status);
    let secrecy = Secrecy::of_context(&new.context);
    batch.push(
        INSERT_EXECUTION,
        cells![
            new.id,
            &new.action,
            new.runner.as_str(),
            status.as_str(),
            parent,
            position,
            new.root,
            Guarded(&new.parameters, secrecy),
            &new.context,
            user,
            on_lost,
            new.requested_at,
            started_at,
            ended_at,
            fence,
            result.map(|text| Guarded(text, secrecy)),
            size,
            log
        ],
    );
    push_first_obligations(batch, new);
}

fn push_first_obligations(batch: &mut Batch, new: &NewExecution) {
    match &new.start {
        Start::Queued { due_at, line } => {
            batch.push(INSERT_OBLIGATION, cells![new.id, "queue", "", *due_at, None::<String>, line.clone()]);
        }
        Start::Leased(lease) => {
            let owner = lease.owner.as_str();
            batch.push(INSERT_OBLIGATION, cells![new.id, "lease", "", lease.until, owner, None::<String>]);
        }
        Start::Failed { .. } => return,
    }
    if let Some(deadline) = new.deadline {
        batch.push(INSERT_OBLIGATION, cells![new.id, "timeout", "", deadline, None::<String>, None::<String>]);
    }
}

/// Adds to a batch what the end of an execution means: its row, its obligations, its slot, its parent, its triggers.
pub(super) fn push_completion(batch: &mut Batch, end: &Completion) {
    let sql = "UPDATE executions SET status = ?3, ended_at = ?4, started_at = COALESCE(started_at, ?4),
            result = ?5, result_size_bytes = ?6, status_log = status_log || ?7
        WHERE id = ?1 AND fence = ?2
        AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')";
    let Claim { execution, fence } = end.claim;
    let text = end.result.to_string();
    let size = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let inline = (text.len() <= INLINE_RESULT_BYTES).then(|| Guarded(text.clone(), end.secrecy));
    let log = log_entry(end.ended_at, end.status);
    if inline.is_none() {
        push_blob(batch, &execution.to_string(), text.as_bytes(), end.secrecy);
    }
    batch.require(sql, cells![execution, fence, end.status.as_str(), end.ended_at, inline, size, log]);
    batch.push("DELETE FROM obligations WHERE execution_id = ?1", cells![execution]);
    push_slot_release(batch, execution, end.ended_at);
    match (&end.retry, &end.parent) {
        (Some(retry), _) => push_new_execution(batch, retry),
        (None, Some(parent)) => push_outcome(batch, parent, end.ended_at),
        (None, None) => {}
    }
    for instance in &end.instances {
        push_instance(batch, instance, end.ended_at);
    }
    if let Some(activity) = &end.activity {
        push_activity_end(batch, activity, end.ended_at);
    }
    push_announcement(batch, "st2.execution__update", &execution.to_string(), None, end.ended_at);
}

fn push_outcome(batch: &mut Batch, parent: &ParentOutcome, now: Timestamp) {
    let sql = "UPDATE journal SET outcome = ?3, sealed_secrets = ?4
        WHERE execution_id = ?1 AND position = ?2 AND outcome IS NULL";
    let secrecy = if parent.sealed_secrets.is_some() { Secrecy::Sealed } else { Secrecy::Clear };
    let outcome = Guarded(parent.outcome.as_str(), secrecy);
    batch.push(sql, cells![parent.execution, parent.position.as_str(), outcome, parent.sealed_secrets.clone()]);
    match parent.wake {
        Wake::Queue => push_wake(batch, parent.execution, now),
        Wake::Running => {}
    }
}

/// Puts an execution into the queue, if it is not there already.
pub(super) fn push_wake(batch: &mut Batch, execution: ExecutionId, now: Timestamp) {
    let sql = "INSERT INTO obligations (execution_id, kind, obligation_key, due_at)
        SELECT id, 'queue', '', ?2 FROM executions WHERE id = ?1
            AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned') /*FOR UPDATE*/
        ON CONFLICT (execution_id, kind, obligation_key) DO UPDATE SET due_at = excluded.due_at";
    batch.push(sql, cells![execution, now]);
}

impl Executions {
    /// Makes a request durable.
    pub async fn execution_request(&self, new: &NewExecution) -> StoreResult<()> {
        let mut batch = Batch::default();
        push_new_execution(&mut batch, new);
        push_announcement(&mut batch, "st2.execution__create", &new.id.to_string(), None, new.requested_at);
        self.driver.commit(batch).await.map(drop)
    }

    /// Takes up to `limit` executions of its share whose time has come, oldest first, under a lease.
    pub async fn execution_claim(
        &self,
        lease: &Lease,
        token: &str,
        limit: usize,
        share: Share,
        now: Timestamp,
    ) -> StoreResult<Vec<ExecutionRow>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut row = cells![lease.owner.as_str(), lease.until, token, now, limit];
        let take: &'static str = match share {
            Share::Everything => &TAKE_ANY,
            Share::Only(pack) => {
                row.extend(cells![format!("{pack}.")]);
                &TAKE_OF_PACK
            }
            Share::AllBut(pack) => {
                row.extend(cells![format!("{pack}.")]);
                &TAKE_OF_OTHERS
            }
            Share::Nothing => return Ok(Vec::new()),
        };
        self.claim(take, row, token, now).await
    }

    /// Takes this one under a lease, if its time has come; also if it is suspect.
    pub async fn execution_claim_one(
        &self,
        lease: &Lease,
        token: &str,
        id: ExecutionId,
        now: Timestamp,
    ) -> StoreResult<Option<ExecutionRow>> {
        let row = cells![lease.owner.as_str(), lease.until, token, now, 1, id];
        Ok(self.claim(&TAKE_ONE, row, token, now).await?.pop())
    }

    async fn claim(
        &self,
        take: &'static str,
        row: Vec<Cell>,
        token: &str,
        now: Timestamp,
    ) -> StoreResult<Vec<ExecutionRow>> {
        static CLAIMED: LazyLock<String> = LazyLock::new(|| {
            format!(
                "UPDATE executions SET fence = fence + 1, started_at = COALESCE(started_at, ?2),
                    status_log = CASE WHEN status IN ('requested', 'delayed', 'scheduled', 'resuming')
                        THEN status_log || ?3 ELSE status_log END,
                    status = CASE WHEN status IN ('requested', 'delayed', 'scheduled', 'resuming')
                        THEN 'running' ELSE status END
                WHERE id IN (SELECT execution_id FROM obligations WHERE kind = 'lease' AND token = ?1)
                    AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')
                RETURNING {COLUMNS}"
            )
        });
        let mut batch = Batch::default();
        batch.require(take, row);
        batch.push(&CLAIMED, cells![token, now, log_entry(now, ExecutionStatus::Running)]);
        let effects = match self.driver.commit(batch).await {
            Err(StoreError::Conflict) => return Ok(Vec::new()),
            result => result?,
        };
        let [taken, claimed] = effects.as_slice() else { return Ok(Vec::new()) };
        if claimed.rows.len() < taken.changed {
            self.forget_what_has_ended(token).await?;
        }
        Ok(readable("executions", 0, &claimed.rows, execution))
    }

    /// A wake that met the end of its execution is left over; nobody has to do anything for it.
    async fn forget_what_has_ended(&self, token: &str) -> StoreResult<()> {
        let sql = "DELETE FROM obligations WHERE kind = 'lease' AND token = ?1 AND NOT EXISTS (SELECT 1 FROM executions
            WHERE id = execution_id AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned'))";
        let mut batch = Batch::default();
        batch.push(sql, cells![token]);
        self.driver.commit(batch).await.map(drop)
    }

    /// When the next queued execution is due, if one is queued that is not suspect.
    pub async fn queue_next(&self) -> StoreResult<Option<Timestamp>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT due_at FROM obligations waiting WHERE kind = 'queue' AND NOT EXISTS (
                    SELECT 1 FROM obligations held
                    WHERE held.execution_id = waiting.execution_id AND held.kind = 'lease')
                {NO_SUSPECT} ORDER BY due_at LIMIT 1"
            )
        });
        self.driver.query(&SQL, Vec::new()).await?.first().map_or(Ok(None), |row| row.time_or_null(0))
    }

    /// Writes the end of an execution with all that belongs to it. [`StoreError::Conflict`]: the claim is old, or it
    /// has ended already.
    pub async fn execution_finish(&self, end: &Completion) -> StoreResult<()> {
        let mut batch = Batch::default();
        push_completion(&mut batch, end);
        self.driver.commit(batch).await.map(drop)
    }

    /// Writes the context of an execution that has learned secrets. [`StoreError::Conflict`]: the claim is old, or it has
    /// ended already.
    pub async fn execution_learn(&self, claim: Claim, context: &Value) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require(STILL_CLAIMED, cells![claim.execution, claim.fence]);
        batch.push("UPDATE executions SET context = ?2 WHERE id = ?1", cells![claim.execution, context]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Changes the status if it is one of `from`. `false`: it is not.
    pub async fn status_change(
        &self,
        id: ExecutionId,
        from: &[ExecutionStatus],
        to: ExecutionStatus,
        now: Timestamp,
    ) -> StoreResult<bool> {
        let mut batch = Batch::default();
        push_status_change(&mut batch, id, from, to, now);
        push_wake(&mut batch, id, now);
        committed(self.driver.commit(batch).await)
    }

    /// Puts an unfinished execution into the queue, so that a worker looks at it.
    pub async fn execution_wake(&self, id: ExecutionId, now: Timestamp) -> StoreResult<()> {
        let mut batch = Batch::default();
        push_wake(&mut batch, id, now);
        self.driver.commit(batch).await.map(drop)
    }

    /// Gives an execution back to the queue unstarted or to be started again; the lease must still be the claim's.
    pub async fn execution_release(&self, claim: Claim, due_at: Timestamp) -> StoreResult<()> {
        let mut batch = Batch::default();
        let guard = "SELECT id FROM executions WHERE id = ?1 AND fence = ?2";
        batch.require(guard, cells![claim.execution, claim.fence]);
        push_requeue(&mut batch, claim.execution, due_at);
        self.driver.commit(batch).await.map(drop)
    }

    /// Lets go of a claim whose execution waits for an answer: the inquiry's obligation takes the lease's place.
    pub async fn execution_await_answer(
        &self,
        claim: Claim,
        detail: &Value,
        due_at: Timestamp,
        now: Timestamp,
    ) -> StoreResult<()> {
        let mut batch = Batch::default();
        let pending = "UPDATE executions SET status = 'pending', status_log = status_log || ?3
            WHERE id = ?1 AND fence = ?2 AND status = 'running'";
        let log = log_entry(now, ExecutionStatus::Pending);
        batch.require(pending, cells![claim.execution, claim.fence, log]);
        batch.push("DELETE FROM obligations WHERE execution_id = ?1", cells![claim.execution]);
        let row = cells![claim.execution, "inquiry", "", due_at, None::<String>, detail];
        batch.push(INSERT_OBLIGATION, row);
        push_announcement(&mut batch, "st2.execution__update", &claim.execution.to_string(), None, now);
        self.driver.commit(batch).await.map(drop)
    }

    /// One execution, its result read from blobs if need be.
    pub async fn execution_get(&self, id: ExecutionId) -> StoreResult<ExecutionRow> {
        static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} FROM executions WHERE id = ?1"));
        let rows = self.driver.query(&SQL, cells![id]).await?;
        let mut row = execution(rows.first().ok_or_else(|| StoreError::NotFound(format!("execution {id}")))?)?;
        if row.result.is_none() && row.status.is_completed() && row.result_size_bytes > 0 {
            let bytes = read_blob(&*self.driver, &id.to_string()).await?;
            let text = serde_json::from_slice(&bytes);
            row.result = Some(text.map_err(|e| StoreError::Corrupt(format!("result of execution {id}: {e}")))?);
        }
        Ok(row)
    }

    /// The steps of a workflow, oldest first.
    pub async fn execution_children(&self, parent: ExecutionId) -> StoreResult<Vec<ExecutionRow>> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {COLUMNS} FROM executions WHERE parent_id = ?1 ORDER BY id"));
        Ok(readable("executions", 0, &self.driver.query(&SQL, cells![parent]).await?, execution))
    }

    /// The unfinished steps of a workflow, oldest first.
    pub async fn execution_children_unfinished(&self, parent: ExecutionId) -> StoreResult<Vec<ExecutionRow>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {COLUMNS} FROM executions WHERE parent_id = ?1
                AND status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned') ORDER BY id"
            )
        });
        self.driver.query(&SQL, cells![parent]).await?.iter().map(execution).collect()
    }

    /// Unfinished executions, oldest first.
    pub async fn execution_list_unfinished(&self, limit: i64) -> StoreResult<Vec<ExecutionRow>> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {COLUMNS} FROM executions
                WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned') ORDER BY id LIMIT ?1"
            )
        });
        Ok(readable("executions", 0, &self.driver.query(&SQL, cells![limit]).await?, execution))
    }

    /// Executions, newest first, without results that lie in blobs; and how many there are in all.
    pub async fn execution_list(&self, filter: &ExecutionFilter, page: Page) -> StoreResult<(Vec<ExecutionRow>, i64)> {
        const WHERE: &str = "FROM executions WHERE (?1 IS NULL OR action_ref = ?1) AND (?2 IS NULL OR status = ?2)
            AND (?3 IS NULL OR user_name = ?3) AND (?4 = 0 OR parent_id IS NULL)
            AND (?5 IS NULL OR id IN (SELECT execution_id FROM enforcements WHERE instance_id = ?5))
            AND (?6 IS NULL OR id IN (SELECT execution_id FROM enforcements WHERE rule_ref = ?6))
            AND (?7 IS NULL OR requested_at > ?7) AND (?8 IS NULL OR requested_at < ?8)";
        static LIST: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {COLUMNS} {WHERE} ORDER BY id DESC LIMIT ?9 OFFSET ?10"));
        static COUNT: LazyLock<String> = LazyLock::new(|| format!("SELECT count(*) {WHERE}"));
        let conditions = cells![
            filter.action.as_ref(),
            filter.status.map(ExecutionStatus::as_str),
            filter.user.clone(),
            i64::from(filter.top_level == TopLevel::Only),
            filter.instance,
            filter.rule.as_ref(),
            filter.after,
            filter.before
        ];
        let mut paged = conditions.clone();
        paged.extend(cells![page.limit, page.offset]);
        let rows = self.driver.query(&LIST, paged).await?;
        let count = first_int(&self.driver.query(&COUNT, conditions).await?)?;
        Ok((readable("executions", 0, &rows, execution), count))
    }

    /// How many executions are in each status that occurs.
    pub async fn execution_count_by_status(&self) -> StoreResult<Vec<(ExecutionStatus, i64)>> {
        let sql = "SELECT status, count(*) FROM executions
            WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned')
            GROUP BY status ORDER BY status";
        let rows = self.driver.query(sql, Vec::new()).await?;
        Ok(readable("executions by status", 0, &rows, |row| Ok((row.parse(0)?, row.int(1)?))))
    }
}

pub(super) fn push_status_change(
    batch: &mut Batch,
    id: ExecutionId,
    from: &[ExecutionStatus],
    to: ExecutionStatus,
    now: Timestamp,
) {
    let sql = "UPDATE executions SET status = ?3, status_log = status_log || ?4
        WHERE id = ?1 AND ?2 LIKE '%,' || status || ',%'";
    let from: String = from.iter().flat_map(|status| [",", status.as_str(), ","]).collect();
    batch.require(sql, cells![id, from, to.as_str(), log_entry(now, to)]);
    push_announcement(batch, "st2.execution__update", &id.to_string(), None, now);
}

/// Turns a lease back into a place in the queue.
pub(super) fn push_requeue(batch: &mut Batch, execution: ExecutionId, due_at: Timestamp) {
    batch.push("DELETE FROM obligations WHERE execution_id = ?1 AND kind = 'lease'", cells![execution]);
    push_wake(batch, execution, due_at);
}

/// `Conflict` is an answer here, not a problem.
pub(super) fn committed<T>(result: StoreResult<T>) -> StoreResult<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(problem) => Err(problem),
    }
}

const fn on_lost_text(on_lost: OnLost) -> &'static str {
    match on_lost {
        OnLost::Fail => "fail",
        OnLost::Retry => "retry",
    }
}

pub(super) fn log_entry(at: Timestamp, status: ExecutionStatus) -> String {
    format!("{}={status};", at.as_micros())
}

fn parse_log(text: &str) -> StoreResult<Vec<(Timestamp, ExecutionStatus)>> {
    let entries = text.split(';').filter(|entry| !entry.is_empty());
    let parsed = entries.map(|entry| {
        let (at, status) = entry.split_once('=')?;
        Some((Timestamp::from_micros(at.parse().ok()?), status.parse().ok()?))
    });
    parsed.collect::<Option<_>>().ok_or_else(|| StoreError::Corrupt(format!("status log `{text}`")))
}

pub(super) fn execution(row: &Row) -> StoreResult<ExecutionRow> {
    let parent = row.parse_or_null(4)?.zip(row.text_or_null(5)?.map(str::to_owned));
    let result = row.text_or_null(14)?.map(|_| row.json(14)).transpose()?;
    let on_lost = if row.text(9)? == "retry" { OnLost::Retry } else { OnLost::Fail };
    Ok(ExecutionRow {
        id: row.parse(0)?,
        action: row.parse(1)?,
        runner: row.text(2)?.to_owned(),
        status: row.parse(3)?,
        parent,
        root: row.parse(6)?,
        parameters: row.json(7)?,
        context: row.json(8)?,
        on_lost,
        requested_at: row.time(10)?,
        started_at: row.time_or_null(11)?,
        ended_at: row.time_or_null(12)?,
        fence: row.int(13)?,
        result,
        result_size_bytes: row.int(15)?,
        status_log: parse_log(row.text(16)?)?,
    })
}
