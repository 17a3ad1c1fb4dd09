//! Trigger instances from their acceptance to their enforcements, and the instants of timers.

use std::time::Duration;

use super::damage::{id_of, readable};
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::executions::push_new_execution;
use super::holds::{push_hold, push_withdrawal};
use super::rows::{EnforcementRow, NewEnforcement, NewInstance, Page};
use super::stream::push_announcement;
use crate::model::refs::{EnforcementId, InstanceId, RuleRef, TriggerTypeRef};
use crate::model::time::{CLOCK_TOLERANCE, Timestamp};
use crate::model::trigger::{InstanceStatus, TriggerInstance};

super::aggregate! {
    /// Trigger instances, enforcements, held instances and timers.
    Events
}

/// What became of an instance that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is durable now.
    New,
    /// It was seen before, as this one; nothing was written.
    Duplicate(InstanceId),
}

/// What a rule engine has to write about one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchRecord {
    /// The instance, which must still be pending.
    pub instance: InstanceId,
    /// The catalogue it was matched with.
    pub catalogue_version: u64,
    /// How it ended.
    pub status: InstanceStatus,
    /// A row for every rule that matched or failed.
    pub enforcements: Vec<NewEnforcement>,
}

/// An instance that happens later unless it is withdrawn.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldInstance {
    /// The key by which it can be withdrawn; a new one under the same key replaces the old one.
    pub key: String,
    /// What will happen.
    pub instance: NewInstance,
    /// When.
    pub due_at: Timestamp,
}

/// One thing that a source said.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// It has happened.
    Happened(NewInstance),
    /// It will, unless it is withdrawn.
    Held(HeldInstance),
    /// What is held under this key does not happen, unless it is from a later time than this one, which then came late.
    Withdrawn {
        /// As in [`HeldInstance::key`].
        key: String,
        /// When this was said, by the source's clock.
        said_at: Option<Timestamp>,
    },
}

/// Everything that a source said at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What it said, in its order.
    pub arrivals: Vec<Arrival>,
    /// When it was told "accepted": from then on a key is remembered, whenever this is written.
    pub accepted_at: Timestamp,
}

impl Arrival {
    /// The instance it is about, if it brings one.
    pub const fn instance(&self) -> Option<&NewInstance> {
        match self {
            Self::Happened(new) | Self::Held(HeldInstance { instance: new, .. }) => Some(new),
            Self::Withdrawn { .. } => None,
        }
    }
}

/// Where a timer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerState {
    /// When it was first seen: intervals count from here.
    pub anchor: Timestamp,
    /// The last instant that was turned into an instance or passed over.
    pub last: Option<Timestamp>,
}

/// Which instances to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    /// Of this type only.
    pub trigger_type: Option<TriggerTypeRef>,
    /// In this status only.
    pub status: Option<String>,
    /// Later than this.
    pub after: Option<Timestamp>,
    /// Earlier than this.
    pub before: Option<Timestamp>,
}

/// A key is remembered this long: sources give up repeating within a day.
pub const KEYS_REMEMBERED: Duration = Duration::from_hours(24);

const INSERT_INSTANCE: &str = "INSERT INTO trigger_instances
    (id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'pending') ON CONFLICT (id) DO NOTHING";
const REMEMBER_KEY: &str = "INSERT INTO deduplication (trigger_type, dedupe_key, instance_id, expires_at)
    VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trigger_type, dedupe_key)
    DO UPDATE SET instance_id = excluded.instance_id, expires_at = excluded.expires_at
    WHERE deduplication.expires_at < ?5";
const INSERT_IF_KEY_IS_MINE: &str = "INSERT INTO trigger_instances
    (id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'pending' WHERE EXISTS (SELECT 1 FROM deduplication
        WHERE trigger_type = ?3 AND dedupe_key = ?7 AND instance_id = ?1) ON CONFLICT (id) DO NOTHING";
const COLUMNS: &str = "id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status";

/// Adds the rows of one new instance to a batch, last the one that is written only if its key is not remembered. An
/// instance that is there already (its message was delivered twice) stays as it is.
pub(super) fn push_instance(batch: &mut Batch, new: &NewInstance, now: Timestamp) {
    let payload = new.payload.to_string();
    let mut row =
        cells![new.id, new.trigger.as_str(), &new.trigger_type, payload, new.occurred_at, new.trace_tag.as_str()];
    let Some((key, expires_at)) = &new.dedupe else {
        batch.push(INSERT_INSTANCE, row);
        return;
    };
    batch.push(REMEMBER_KEY, cells![&new.trigger_type, key.as_str(), new.id, *expires_at, now]);
    row.extend(cells![key.as_str()]);
    batch.push(INSERT_IF_KEY_IS_MINE, row);
}

/// What was said, on its way into one commit.
#[derive(Default)]
struct Writing<'a> {
    batch: Batch,
    /// For each instance, which statement writes it.
    written: Vec<(usize, &'a NewInstance)>,
}

impl<'a> Writing<'a> {
    fn push(&mut self, arrival: &'a Arrival, now: Timestamp) {
        match arrival {
            Arrival::Happened(new) => push_instance(&mut self.batch, new, now),
            Arrival::Held(held) => push_hold(&mut self.batch, held),
            Arrival::Withdrawn { key, said_at } => push_withdrawal(&mut self.batch, key, *said_at, now),
        }
        // The last statement of each is the one that tells.
        self.written.extend(arrival.instance().map(|new| (self.batch.statements.len() - 1, new)));
    }
}

impl Events {
    /// So many instances are worth being matched side by side.
    pub fn at_once(&self) -> usize {
        self.driver.at_once()
    }

    /// Whether what is accepted now would be found again after a restart; cheap.
    pub fn check_store(&self) -> StoreResult<()> {
        self.driver.check()
    }

    /// Makes all that a source said durable, at once. Gives back what became of each instance, held ones included.
    pub async fn arrivals_accept(&self, arrivals: &[Arrival], now: Timestamp) -> StoreResult<Vec<Accepted>> {
        let mut writing = Writing::default();
        arrivals.iter().for_each(|arrival| writing.push(arrival, now));
        self.write(writing).await
    }

    /// Makes many deliveries durable, at once and in their order. Gives back what became of each instance.
    pub async fn deliveries_accept(&self, deliveries: &[Delivery]) -> StoreResult<Vec<Accepted>> {
        let mut writing = Writing::default();
        for Delivery { arrivals, accepted_at } in deliveries {
            arrivals.iter().for_each(|arrival| writing.push(arrival, *accepted_at));
        }
        self.write(writing).await
    }

    async fn write(&self, Writing { batch, written }: Writing<'_>) -> StoreResult<Vec<Accepted>> {
        if batch.statements.is_empty() {
            return Ok(Vec::new());
        }
        let effects = self.driver.commit(batch).await?;
        let mut accepted = Vec::with_capacity(written.len());
        for (at, new) in written {
            let is_new = effects.get(at).is_some_and(|effect| effect.changed > 0);
            accepted.push(match &new.dedupe {
                _ if is_new => Accepted::New,
                None => Accepted::Duplicate(new.id),
                Some((key, _)) => Accepted::Duplicate(self.instance_by_key(&new.trigger_type, key).await?),
            });
        }
        Ok(accepted)
    }

    async fn instance_by_key(&self, trigger_type: &TriggerTypeRef, key: &str) -> StoreResult<InstanceId> {
        let sql = "SELECT instance_id FROM deduplication WHERE trigger_type = ?1 AND dedupe_key = ?2";
        let rows = self.driver.query(sql, cells![trigger_type, key]).await?;
        rows.first().ok_or(StoreError::Conflict)?.parse(0)
    }

    /// Instances that wait to be matched, oldest first, after `after`.
    pub async fn instances_pending(&self, after: Option<InstanceId>, limit: i64) -> StoreResult<Vec<TriggerInstance>> {
        let sql = "SELECT id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status
            FROM trigger_instances WHERE status = 'pending' AND id > ?1
            AND NOT EXISTS (SELECT 1 FROM suspects WHERE suspects.kind = 'instance'
                AND suspects.id = trigger_instances.id) ORDER BY id LIMIT ?2";
        let after = after.map_or_else(String::new, |id| id.to_string());
        let rows = self.driver.query(sql, cells![after, limit]).await?;
        let readable = readable("trigger_instances", 0, &rows, instance);
        if readable.len() < rows.len() {
            self.set_aside_unreadable(&rows).await?;
        }
        Ok(readable)
    }

    /// Of what cannot be read nothing can be made: it must not stand in front of the others for ever.
    async fn set_aside_unreadable(&self, rows: &[Row]) -> StoreResult<()> {
        let sql = "UPDATE trigger_instances SET status = 'processing_failed' WHERE id = ?1 AND status = 'pending'";
        let mut batch = Batch::default();
        for row in rows.iter().filter(|row| instance(row).is_err()) {
            batch.push(sql, cells![id_of(row, 0)]);
        }
        self.driver.commit(batch).await.map(drop)
    }

    /// How many instances wait to be matched.
    pub async fn instances_pending_count(&self) -> StoreResult<i64> {
        let sql = "SELECT count(*) FROM trigger_instances WHERE status = 'pending'";
        first_int(&self.driver.query(sql, Vec::new()).await?)
    }

    /// One instance.
    pub async fn instance_get(&self, id: InstanceId) -> StoreResult<TriggerInstance> {
        let sql = "SELECT id, trigger_identity, trigger_type, payload, occurred_at, trace_tag, status
            FROM trigger_instances WHERE id = ?1";
        let rows = self.driver.query(sql, cells![id]).await?;
        instance(rows.first().ok_or_else(|| StoreError::NotFound(format!("trigger instance {id}")))?)
    }

    /// Instances, newest first, and how many there are in all.
    pub async fn instance_list(&self, filter: &InstanceFilter, page: Page) -> StoreResult<(Vec<TriggerInstance>, i64)> {
        const WHERE: &str = "FROM trigger_instances WHERE (?1 IS NULL OR trigger_type = ?1)
            AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR occurred_at > ?3) AND (?4 IS NULL OR occurred_at < ?4)";
        static LIST: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| format!("SELECT {COLUMNS} {WHERE} ORDER BY id DESC LIMIT ?5 OFFSET ?6"));
        static COUNT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("SELECT count(*) {WHERE}"));
        let conditions = cells![filter.trigger_type.as_ref(), filter.status.clone(), filter.after, filter.before];
        let mut paged = conditions.clone();
        paged.extend(cells![page.limit, page.offset]);
        let rows = self.driver.query(&LIST, paged).await?;
        let count = first_int(&self.driver.query(&COUNT, conditions).await?)?;
        Ok((readable("trigger_instances", 0, &rows, instance), count))
    }

    /// Writes what the rules made of an instance, if it is still pending: enforcements, executions, status, at once.
    /// `false`: somebody was quicker, nothing was written.
    pub async fn match_record(&self, record: &MatchRecord, now: Timestamp) -> StoreResult<bool> {
        let mut batch = Batch::default();
        let done = "UPDATE trigger_instances SET status = ?2, processed_at = ?3, catalogue_version = ?4
            WHERE id = ?1 AND status = 'pending'";
        let version = i64::try_from(record.catalogue_version).unwrap_or(i64::MAX);
        batch.require(done, cells![record.instance, record.status.as_str(), now, version]);
        for enforcement in &record.enforcements {
            push_enforcement(&mut batch, record.instance, enforcement, now);
        }
        match self.driver.commit(batch).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// Lets one enforcement per key pass within the throttle's time. Asked again for the same instance it gives the
    /// same answer, so a crash between this and [`Events::match_record`] loses nothing. What holds back for longer than a
    /// throttle that begins now was written by a clock that was ahead, and does not count.
    pub async fn throttle_pass(
        &self,
        rule: &RuleRef,
        key: &str,
        instance: InstanceId,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<bool> {
        let sql = "INSERT INTO rule_throttles (rule_ref, throttle_key, holder, until_at) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (rule_ref, throttle_key) DO UPDATE SET holder = excluded.holder, until_at = excluded.until_at
            WHERE rule_throttles.until_at <= ?5 OR rule_throttles.until_at > ?6
                OR rule_throttles.holder = excluded.holder";
        let mut batch = Batch::default();
        batch.require(sql, cells![rule, key, instance, until, now, until.plus(CLOCK_TOLERANCE)]);
        match self.driver.commit(batch).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// Enforcements, newest first, of a rule, of an instance, or of all.
    pub async fn enforcement_list(
        &self,
        rule: Option<&RuleRef>,
        instance: Option<InstanceId>,
        page: Page,
    ) -> StoreResult<Vec<EnforcementRow>> {
        let sql = "SELECT id, instance_id, rule_ref, execution_id, status, failure_reason, enforced_at
            FROM enforcements WHERE (?1 IS NULL OR rule_ref = ?1) AND (?2 IS NULL OR instance_id = ?2)
            ORDER BY id DESC LIMIT ?3 OFFSET ?4";
        let rows = self.driver.query(sql, cells![rule, instance, page.limit, page.offset]).await?;
        Ok(readable("enforcements", 0, &rows, enforcement))
    }

    /// How many enforcements there are of a rule, of an instance, or in all.
    pub async fn enforcement_count(&self, rule: Option<&RuleRef>, instance: Option<InstanceId>) -> StoreResult<i64> {
        let sql = "SELECT count(*) FROM enforcements
            WHERE (?1 IS NULL OR rule_ref = ?1) AND (?2 IS NULL OR instance_id = ?2)";
        first_int(&self.driver.query(sql, cells![rule, instance]).await?)
    }

    /// One enforcement.
    pub async fn enforcement_get(&self, id: EnforcementId) -> StoreResult<EnforcementRow> {
        let sql = "SELECT id, instance_id, rule_ref, execution_id, status, failure_reason, enforced_at
            FROM enforcements WHERE id = ?1";
        let rows = self.driver.query(sql, cells![id]).await?;
        enforcement(rows.first().ok_or_else(|| StoreError::NotFound(format!("enforcement {id}")))?)
    }

    /// Where a timer stands; one that was never seen begins now.
    pub async fn timer_state(&self, trigger: &str, now: Timestamp) -> StoreResult<TimerState> {
        let read = "SELECT anchor_at, last_instant_at FROM timers WHERE trigger_identity = ?1";
        let rows = self.driver.query(read, cells![trigger]).await?;
        if let Some(row) = rows.first() {
            return Ok(TimerState { anchor: row.time(0)?, last: row.time_or_null(1)? });
        }
        let begin = "INSERT INTO timers (trigger_identity, anchor_at) VALUES (?1, ?2)
            ON CONFLICT (trigger_identity) DO UPDATE SET trigger_identity = excluded.trigger_identity
            RETURNING anchor_at, last_instant_at";
        let mut batch = Batch::default();
        batch.require(begin, cells![trigger, now]);
        let effects = self.driver.commit(batch).await?;
        let row = effects.first().and_then(|effect| effect.rows.first()).ok_or(StoreError::Conflict)?;
        Ok(TimerState { anchor: row.time(0)?, last: row.time_or_null(1)? })
    }

    /// Lets a timer begin now whose beginning, by a clock that was ahead, lies in the future.
    pub async fn timer_begin_again(&self, trigger: &str, now: Timestamp) -> StoreResult<()> {
        let sql = "UPDATE timers SET anchor_at = ?2 WHERE trigger_identity = ?1 AND anchor_at > ?3";
        let mut batch = Batch::default();
        batch.push(sql, cells![trigger, now, now.plus(CLOCK_TOLERANCE)]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Moves a timer on to `instant` and writes the instances of the instants in between, at once. `false`: somebody
    /// was quicker (G4: one instant, one instance). A timer that was moved to the future, by a clock that was ahead, is taken
    /// back to the present.
    pub async fn timer_fire(
        &self,
        trigger: &str,
        instant: Timestamp,
        instances: &[NewInstance],
        dropped: u64,
        now: Timestamp,
    ) -> StoreResult<bool> {
        let advance = "UPDATE timers SET last_instant_at = ?2, dropped = dropped + ?3
            WHERE trigger_identity = ?1 AND (last_instant_at IS NULL OR last_instant_at < ?2 OR last_instant_at > ?4)";
        let mut batch = Batch::default();
        let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
        batch.require(advance, cells![trigger, instant, dropped, now.plus(CLOCK_TOLERANCE)]);
        for instance in instances {
            push_instance(&mut batch, instance, now);
        }
        match self.driver.commit(batch).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(problem) => Err(problem),
        }
    }
}

fn push_enforcement(batch: &mut Batch, instance: InstanceId, enforcement: &NewEnforcement, now: Timestamp) {
    let sql = "INSERT INTO enforcements
        (id, instance_id, rule_ref, execution_id, status, failure_reason, enforced_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let status = if enforcement.failure_reason.is_some() { "failed" } else { "succeeded" };
    let execution = enforcement.execution.as_ref().map(|execution| execution.id);
    let reason = enforcement.failure_reason.clone();
    batch.push(sql, cells![enforcement.id, instance, &enforcement.rule, execution, status, reason, now]);
    if let Some(execution) = &enforcement.execution {
        push_new_execution(batch, execution);
        push_announcement(batch, "st2.execution__create", &execution.id.to_string(), None, now);
    }
}

fn instance(row: &Row) -> StoreResult<TriggerInstance> {
    let status = match row.text(6)? {
        "pending" => InstanceStatus::Pending,
        "processed" => InstanceStatus::Processed,
        _ => InstanceStatus::ProcessingFailed,
    };
    Ok(TriggerInstance {
        id: row.parse(0)?,
        trigger: row.text(1)?.to_owned(),
        trigger_type: row.parse(2)?,
        payload: row.json(3)?,
        occurred_at: row.time(4)?,
        trace_tag: row.text(5)?.to_owned(),
        status,
    })
}

fn enforcement(row: &Row) -> StoreResult<EnforcementRow> {
    Ok(EnforcementRow {
        id: row.parse(0)?,
        instance: row.parse(1)?,
        rule: row.parse(2)?,
        execution: row.parse_or_null(3)?,
        status: row.text(4)?.to_owned(),
        failure_reason: row.text_or_null(5)?.map(str::to_owned),
        enforced_at: row.time(6)?,
    })
}

pub(super) fn first_int(rows: &[Row]) -> StoreResult<i64> {
    rows.first().map_or(Ok(0), |row| row.int(0))
}
