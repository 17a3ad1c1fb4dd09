//! What was being evaluated when a daemon died, and how often a daemon died while it evaluated nothing else. The count travels with
//! the row: whichever daemon tries next knows it.

use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::executions::committed;
use crate::model::refs::{ExecutionId, InstanceId};
use crate::model::time::Timestamp;

super::aggregate! {
    /// What daemons may have died of.
    Suspects
}

/// What is evaluated in a daemon's own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An instance that is matched.
    Instance(InstanceId),
    /// An execution that is run, or a workflow's turn.
    Execution(ExecutionId),
}

/// The kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// Instances.
    Instance,
    /// Executions.
    Execution,
}

impl SubjectKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Execution => "execution",
        }
    }
}

impl Subject {
    /// What kind it is of.
    pub const fn kind(self) -> SubjectKind {
        match self {
            Self::Instance(_) => SubjectKind::Instance,
            Self::Execution(_) => SubjectKind::Execution,
        }
    }

    /// As stored.
    pub fn id(self) -> String {
        match self {
            Self::Instance(id) => id.to_string(),
            Self::Execution(id) => id.to_string(),
        }
    }

    /// The reverse of [`SubjectKind::as_str`] and [`Self::id`].
    pub fn parse(kind: &str, id: &str) -> Option<Self> {
        match kind {
            "instance" => id.parse().ok().map(Self::Instance),
            "execution" => id.parse().ok().map(Self::Execution),
            _ => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind().as_str(), self.id())
    }
}

/// A suspect as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspectRow {
    /// What it is.
    pub subject: Subject,
    /// Trials that were begun and not survived.
    pub deaths: u32,
    /// Trials whose time was up before anything was decided.
    pub rounds: u32,
}

impl Suspects {
    /// Adds suspects; those that are known keep their counts.
    pub async fn suspects_add(&self, subjects: &[Subject], now: Timestamp) -> StoreResult<()> {
        let sql = "INSERT INTO suspects (kind, id, deaths, rounds, found_at) VALUES (?1, ?2, 0, 0, ?3)
            ON CONFLICT (kind, id) DO NOTHING";
        let mut batch = Batch::default();
        for subject in subjects {
            batch.push(sql, cells![subject.kind().as_str(), subject.id(), now]);
        }
        if subjects.is_empty() { Ok(()) } else { self.driver.commit(batch).await.map(drop) }
    }

    /// Those of one kind that are to be tried, the least suspicious first. What a daemon tries just now is not among them: its
    /// death is counted already, and may not come.
    pub async fn suspects_open(&self, kind: SubjectKind, now: Timestamp) -> StoreResult<Vec<SuspectRow>> {
        let sql = "SELECT kind, id, deaths, rounds FROM suspects WHERE kind = ?1 AND reason IS NULL
            AND (tried_until IS NULL OR tried_until < ?2) ORDER BY deaths, id";
        self.driver.query(sql, cells![kind.as_str(), now]).await?.iter().map(suspect).collect()
    }

    /// Counts a death in advance: whoever survives takes it back. `false`: another daemon tries it.
    pub async fn trial_begin(&self, of: Subject, by: &str, now: Timestamp, until: Timestamp) -> StoreResult<bool> {
        let sql = "UPDATE suspects SET deaths = deaths + 1, tried_by = ?3, tried_until = ?4
            WHERE kind = ?1 AND id = ?2 AND reason IS NULL AND (tried_until IS NULL OR tried_until < ?5)";
        let mut batch = Batch::default();
        batch.require(sql, cells![of.kind().as_str(), of.id(), by, until, now]);
        committed(self.driver.commit(batch).await)
    }

    /// Nothing was decided within the trial's time: the next one takes longer.
    pub async fn trial_undecided(&self, of: Subject) -> StoreResult<()> {
        let sql = "UPDATE suspects SET deaths = deaths - 1, rounds = rounds + 1, tried_by = NULL, tried_until = NULL
            WHERE kind = ?1 AND id = ?2 AND deaths > 0";
        let mut batch = Batch::default();
        batch.push(sql, cells![of.kind().as_str(), of.id()]);
        self.driver.commit(batch).await.map(drop)
    }

    /// It was not evaluated after all.
    pub async fn trial_withdraw(&self, of: Subject) -> StoreResult<()> {
        let sql = "UPDATE suspects SET deaths = deaths - 1, tried_by = NULL, tried_until = NULL
            WHERE kind = ?1 AND id = ?2 AND deaths > 0";
        let mut batch = Batch::default();
        batch.push(sql, cells![of.kind().as_str(), of.id()]);
        self.driver.commit(batch).await.map(drop)
    }

    /// It has survived, or is over: nothing is held against it.
    pub async fn suspect_clear(&self, of: Subject) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.push("DELETE FROM suspects WHERE kind = ?1 AND id = ?2", cells![of.kind().as_str(), of.id()]);
        self.driver.commit(batch).await.map(drop)
    }

    /// It is not evaluated any more.
    pub async fn suspect_set_aside(&self, of: Subject, reason: &str) -> StoreResult<()> {
        let mut batch = Batch::default();
        let sql = "UPDATE suspects SET reason = ?3 WHERE kind = ?1 AND id = ?2";
        batch.push(sql, cells![of.kind().as_str(), of.id(), reason]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Why it was set aside, if it was.
    pub async fn suspect_reason(&self, of: Subject) -> StoreResult<Option<String>> {
        let sql = "SELECT reason FROM suspects WHERE kind = ?1 AND id = ?2";
        let rows = self.driver.query(sql, cells![of.kind().as_str(), of.id()]).await?;
        rows.first().map_or(Ok(None), |row| Ok(row.text_or_null(0)?.map(str::to_owned)))
    }

    /// Ends the trials of a daemon that is known to be dead, `None`: of every daemon; and forgets what retention has deleted.
    pub async fn trials_end(&self, of: Option<&str>) -> StoreResult<()> {
        let mut batch = Batch::default();
        let sql = "UPDATE suspects SET tried_by = NULL, tried_until = NULL WHERE ?1 IS NULL OR tried_by = ?1";
        batch.push(sql, cells![of.map(str::to_owned)]);
        let gone = "DELETE FROM suspects WHERE kind = 'instance'
            AND NOT EXISTS (SELECT 1 FROM trigger_instances WHERE trigger_instances.id = suspects.id)";
        batch.push(gone, Vec::new());
        self.driver.commit(batch).await.map(drop)
    }
}

fn suspect(row: &Row) -> StoreResult<SuspectRow> {
    let (kind, id) = (row.text(0)?, row.text(1)?);
    let subject = Subject::parse(kind, id).ok_or_else(|| StoreError::Corrupt(format!("suspect `{kind} {id}`")))?;
    let count = |at| Ok::<_, StoreError>(u32::try_from(row.int(at)?).unwrap_or(0));
    Ok(SuspectRow { subject, deaths: count(2)?, rounds: count(3)? })
}
