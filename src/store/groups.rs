//! Autoscaling groups: one row each under a version, with rows for nodes, incidents, activities and decisions. What
//! changes a group is one batch guarded by its version, so that two governors never both admit.

use serde_json::Value;

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::executions::{committed, push_new_execution};
use super::rows::{ActivityEnd, NewExecution, Page};
use super::stream::push_announcement;
use crate::model::refs::{ActivityId, ExecutionId};
use crate::model::time::Timestamp;

super::aggregate! {
    /// Groups, nodes, incidents, activities, decisions.
    Groups
}

/// A group with everything that belongs to it, read at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// Changes with every admission.
    pub version: i64,
    /// Configuration and counters.
    pub state: Value,
    /// Nodes that are not proven gone.
    pub nodes: Vec<Value>,
    /// Incidents that may still matter.
    pub incidents: Vec<Value>,
    /// Activities in progress.
    pub activities: Vec<Value>,
}

/// One row that a change of a group writes.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupWrite {
    /// The group's own row.
    Group(Value),
    /// A node's row.
    Node {
        /// Its name.
        name: String,
        /// Its phase, for counting.
        phase: String,
        /// The whole node.
        state: Value,
    },
    /// A node is proven gone.
    NodeGone(String),
    /// An incident's register.
    Incident {
        /// Its key.
        key: String,
        /// The whole incident.
        state: Value,
    },
    /// An incident may be forgotten.
    IncidentGone(String),
    /// An activity's row.
    Activity {
        /// Its id.
        id: ActivityId,
        /// Its status.
        status: String,
        /// The workflow that carries it out.
        execution: Option<ExecutionId>,
        /// The execution that asked for it.
        asked_by: Option<ExecutionId>,
        /// The whole activity.
        state: Value,
    },
    /// Something that people are told, once, because it is written with what it tells.
    Notice {
        /// Which listeners it is for.
        route: String,
        /// What they are told.
        payload: Value,
    },
    /// The group is no more, with all that is left of it; its activities and decisions stay as history.
    Removed,
}

/// A decision to be remembered. Equal ones in a row are counted, not repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionWrite {
    /// Equal for decisions that say the same.
    pub fingerprint: String,
    /// The whole decision.
    pub decision: Value,
    /// When.
    pub at: Timestamp,
}

/// A remembered decision.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    /// When it was made first.
    pub first_at: Timestamp,
    /// When it was made last.
    pub last_at: Timestamp,
    /// How often in a row.
    pub times: i64,
    /// The whole decision.
    pub decision: Value,
}

/// A change of a group, committed only if the group still has `version`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupChange {
    /// The group.
    pub group: String,
    /// The version it was read at.
    pub version: i64,
    /// Rows to write.
    pub writes: Vec<GroupWrite>,
    /// What was decided.
    pub decision: Option<DecisionWrite>,
    /// The workflow that carries it out.
    pub execution: Option<NewExecution>,
    /// When.
    pub at: Timestamp,
}

const STILL_THAT_VERSION: &str = "UPDATE asg_groups SET version = version + 1 WHERE name = ?1 AND version = ?2";

impl Groups {
    /// Adds a group that was not there.
    pub async fn group_create(&self, change: &GroupChange) -> StoreResult<()> {
        let mut batch = Batch::default();
        let sql = "INSERT INTO asg_groups (name, version, state) VALUES (?1, ?2, '{}')
            ON CONFLICT (name) DO NOTHING";
        batch.require(sql, cells![change.group.as_str(), change.version]);
        push_change(&mut batch, change);
        self.driver.commit(batch).await.map(drop)
    }

    /// Commits a change. `false`: the group has changed meanwhile, nothing was written.
    pub async fn group_change(&self, change: &GroupChange) -> StoreResult<bool> {
        let mut batch = Batch::default();
        batch.require(STILL_THAT_VERSION, cells![change.group.as_str(), change.version]);
        push_change(&mut batch, change);
        committed(self.driver.commit(batch).await)
    }

    /// Makes every change that was prepared before now meet a new version, so that it is prepared again.
    pub async fn groups_touch(&self) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.push("UPDATE asg_groups SET version = version + 1", Vec::new());
        self.driver.commit(batch).await.map(drop)
    }

    /// The names of all groups.
    pub async fn group_names(&self) -> StoreResult<Vec<String>> {
        let rows = self.driver.query("SELECT name FROM asg_groups ORDER BY name", Vec::new()).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// The version that a group has now.
    pub async fn group_version(&self, name: &str) -> StoreResult<i64> {
        let rows = self.driver.query("SELECT version FROM asg_groups WHERE name = ?1", cells![name]).await?;
        rows.first().ok_or_else(|| StoreError::NotFound(format!("group `{name}`")))?.int(0)
    }

    /// A group with its rows. They are read one after another; the version guards what is made of them.
    pub async fn group_get(&self, name: &str) -> StoreResult<GroupRow> {
        let rows = self.driver.query("SELECT version, state FROM asg_groups WHERE name = ?1", cells![name]).await?;
        let row = rows.first().ok_or_else(|| StoreError::NotFound(format!("group `{name}`")))?;
        Ok(GroupRow {
            name: name.to_owned(),
            version: row.int(0)?,
            state: row.json(1)?,
            nodes: self.states("SELECT state FROM asg_nodes WHERE group_name = ?1 ORDER BY name", name).await?,
            incidents: self
                .states("SELECT state FROM asg_incidents WHERE group_name = ?1 ORDER BY incident_key", name)
                .await?,
            activities: self
                .states(
                    "SELECT state FROM asg_activities WHERE group_name = ?1
                        AND status IN ('in_progress', 'compensating') ORDER BY id",
                    name,
                )
                .await?,
        })
    }

    async fn states(&self, sql: &'static str, group: &str) -> StoreResult<Vec<Value>> {
        self.driver.query(sql, cells![group]).await?.iter().map(|row| row.json(0)).collect()
    }

    /// The activity that an execution carries out: group and activity.
    pub async fn activity_of(&self, execution: ExecutionId) -> StoreResult<Option<(String, Value)>> {
        let sql = "SELECT group_name, state FROM asg_activities WHERE execution_id = ?1";
        let rows = self.driver.query(sql, cells![execution]).await?;
        rows.first().map(|row| Ok((row.text(0)?.to_owned(), row.json(1)?))).transpose()
    }

    /// The activity that was opened because an execution asked for it.
    pub async fn activity_asked_by(&self, execution: ExecutionId) -> StoreResult<Option<Value>> {
        let sql = "SELECT state FROM asg_activities WHERE asked_by = ?1";
        self.driver.query(sql, cells![execution]).await?.first().map(|row| row.json(0)).transpose()
    }

    /// A group's activities, newest first.
    pub async fn activity_list(&self, group: &str, page: Page) -> StoreResult<Vec<Value>> {
        let sql = "SELECT state, id FROM asg_activities WHERE group_name = ?1 ORDER BY id DESC LIMIT ?2 OFFSET ?3";
        let rows = self.driver.query(sql, cells![group, page.limit, page.offset]).await?;
        Ok(readable("asg_activities", 1, &rows, |row| row.json(0)))
    }

    /// A group's decisions, newest first.
    pub async fn decision_list(&self, group: &str, page: Page) -> StoreResult<Vec<DecisionRow>> {
        let sql = "SELECT first_at, last_at, times, decision, sequence FROM asg_decisions WHERE group_name = ?1
            ORDER BY sequence DESC LIMIT ?2 OFFSET ?3";
        let rows = self.driver.query(sql, cells![group, page.limit, page.offset]).await?;
        Ok(readable("asg_decisions", 4, &rows, decision))
    }
}

fn push_change(batch: &mut Batch, change: &GroupChange) {
    push_writes(batch, &change.group, &change.writes, change.at);
    if let Some(decision) = &change.decision {
        push_decision(batch, &change.group, decision);
    }
    if let Some(execution) = &change.execution {
        push_new_execution(batch, execution);
        push_announcement(batch, "st2.execution__create", &execution.id.to_string(), None, change.at);
    }
    push_announcement(batch, "petrel.group__update", &change.group, None, change.at);
}

/// The end of an activity, within the batch that ends its workflow.
pub(super) fn push_activity_end(batch: &mut Batch, end: &ActivityEnd, at: Timestamp) {
    batch.require(STILL_THAT_VERSION, cells![end.group.as_str(), end.version]);
    push_writes(batch, &end.group, &end.writes, at);
    push_announcement(batch, "petrel.group__update", &end.group, None, at);
}

fn push_writes(batch: &mut Batch, group: &str, writes: &[GroupWrite], at: Timestamp) {
    for write in writes {
        match write {
            GroupWrite::Group(state) => {
                batch.push("UPDATE asg_groups SET state = ?2 WHERE name = ?1", cells![group, state]);
            }
            GroupWrite::Node { name, phase, state } => {
                let sql = "INSERT INTO asg_nodes (group_name, name, phase, state) VALUES (?1, ?2, ?3, ?4)
                    ON CONFLICT (group_name, name) DO UPDATE SET phase = excluded.phase, state = excluded.state";
                batch.push(sql, cells![group, name.as_str(), phase.as_str(), state]);
            }
            GroupWrite::NodeGone(name) => {
                let sql = "DELETE FROM asg_nodes WHERE group_name = ?1 AND name = ?2";
                batch.push(sql, cells![group, name.as_str()]);
            }
            GroupWrite::Incident { key, state } => {
                let sql = "INSERT INTO asg_incidents (group_name, incident_key, state) VALUES (?1, ?2, ?3)
                    ON CONFLICT (group_name, incident_key) DO UPDATE SET state = excluded.state";
                batch.push(sql, cells![group, key.as_str(), state]);
            }
            GroupWrite::IncidentGone(key) => {
                let sql = "DELETE FROM asg_incidents WHERE group_name = ?1 AND incident_key = ?2";
                batch.push(sql, cells![group, key.as_str()]);
            }
            GroupWrite::Activity { id, status, execution, asked_by, state } => {
                let sql = "INSERT INTO asg_activities (id, group_name, status, execution_id, asked_by, state)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET status = excluded.status,
                    execution_id = excluded.execution_id, state = excluded.state";
                batch.push(sql, cells![*id, group, status.as_str(), *execution, *asked_by, state]);
            }
            GroupWrite::Notice { route, payload } => {
                push_announcement(batch, &format!("st2.announcement__{route}"), group, Some(payload), at);
            }
            GroupWrite::Removed => {
                batch.push("DELETE FROM asg_groups WHERE name = ?1", cells![group]);
                batch.push("DELETE FROM asg_nodes WHERE group_name = ?1", cells![group]);
                batch.push("DELETE FROM asg_incidents WHERE group_name = ?1", cells![group]);
            }
        }
    }
}

fn push_decision(batch: &mut Batch, group: &str, new: &DecisionWrite) {
    let count = "UPDATE asg_decisions SET times = times + 1, last_at = ?3, decision = ?4
        WHERE sequence = (SELECT max(sequence) FROM asg_decisions WHERE group_name = ?1) AND fingerprint = ?2";
    batch.push(count, cells![group, new.fingerprint.as_str(), new.at, &new.decision]);
    let add = "INSERT INTO asg_decisions (group_name, fingerprint, first_at, last_at, times, decision)
        SELECT ?1, ?2, ?3, ?3, 1, ?4 WHERE NOT EXISTS (SELECT 1 FROM asg_decisions
            WHERE sequence = (SELECT max(sequence) FROM asg_decisions WHERE group_name = ?1) AND fingerprint = ?2)";
    batch.push(add, cells![group, new.fingerprint.as_str(), new.at, &new.decision]);
}

fn decision(row: &Row) -> StoreResult<DecisionRow> {
    Ok(DecisionRow { first_at: row.time(0)?, last_at: row.time(1)?, times: row.int(2)?, decision: row.json(3)? })
}
