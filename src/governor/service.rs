//! The governor at work: reads a group at a version, lets the pure decision and ledger say what becomes of it, and
//! writes all of it in one batch that counts only if nobody else was quicker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::governor::error::GovernorError;
use crate::governor::freeze::{self, Freezer};
use crate::governor::rows::{self, Versioned};
use crate::model::group::{Freeze, GroupName};
use crate::model::group_state::GroupState;
use crate::model::pack::Catalogue;
use crate::model::time::Timestamp;
use crate::requests::{Cancels, Requests};
use crate::store::damage::leave_out;
use crate::store::groups::{GroupChange, GroupWrite};
use crate::store::{Contents, Groups, StoreError};

/// What the governor needs of its surroundings.
#[derive(Clone)]
pub struct Parts {
    /// The ledger.
    pub groups: Groups,
    /// Where the freeze is kept.
    pub contents: Contents,
    /// Asks for workflows.
    pub requests: Arc<dyn Requests>,
    /// Stops workflows.
    pub cancels: Arc<dyn Cancels>,
    /// What is loaded: whether a group's packs do what they must.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids, and chance.
    pub ids: Arc<dyn Ids>,
    /// Hints.
    pub bus: Arc<dyn Bus>,
}

/// Admits or refuses every change of a group's size, whoever asks for it.
#[derive(Clone)]
pub struct Governor {
    pub(super) parts: Parts,
    pub(super) freezer: Freezer,
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Governor")
    }
}

/// Each try loses only to somebody who got on: so many in a row mean that something is wrong.
pub(super) const TRIES: usize = 50;

impl Governor {
    /// A governor among its surroundings.
    pub fn new(parts: Parts) -> Self {
        let freezer = Freezer::new(parts.contents.clone(), parts.groups.clone());
        Self { parts, freezer }
    }

    /// The freeze that holds now.
    pub async fn frozen(&self) -> Result<Option<Freeze>, GovernorError> {
        Ok(self.freezer.active(self.now()).await?)
    }

    /// Stops all effects from the moment this returns, until `thaw` or for so long.
    pub async fn freeze(&self, author: &str, reason: &str, lasting: Option<Duration>) -> Result<Freeze, GovernorError> {
        let freeze = freeze::asked(author, reason, lasting, self.now());
        self.freezer.freeze(&freeze).await?;
        tracing::warn!(author, reason, "frozen: everything is recorded and nothing is done");
        Ok(freeze)
    }

    /// Freezes because a backup was restored.
    pub async fn freeze_after_restore(&self, made_at: Option<Timestamp>) -> Result<Freeze, GovernorError> {
        let freeze = freeze::after_restore(made_at, self.now());
        self.freezer.freeze(&freeze).await?;
        Ok(freeze)
    }

    /// Ends the freeze, and gives it back if there was one.
    pub async fn thaw(&self, author: &str) -> Result<Option<Freeze>, GovernorError> {
        let ended = self.freezer.thaw(self.now()).await?;
        tracing::info!(author, "thawed");
        Ok(ended)
    }

    /// The names of all groups, in order.
    pub async fn names(&self) -> Result<Vec<GroupName>, GovernorError> {
        let names = self.parts.groups.group_names().await?;
        let parsed = names.iter().filter_map(|name| match name.parse() {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                leave_out("asg_groups", name, &StoreError::Corrupt(format!("{problem}")));
                None
            }
        });
        Ok(parsed.collect())
    }

    /// A group at its present version.
    pub(super) async fn read(&self, name: &GroupName) -> Result<Versioned, GovernorError> {
        match self.parts.groups.group_get(name.as_str()).await {
            Ok(row) => Ok(rows::read(row)?),
            Err(StoreError::NotFound(_)) => Err(GovernorError::NoSuchGroup(name.clone())),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Changes a group without a decision. `step` is repeated on a newer state if somebody else was quicker.
    pub(super) async fn change<T: Send>(
        &self,
        name: &GroupName,
        step: impl Fn(&mut GroupState, Timestamp) -> Result<T, GovernorError> + Send + Sync,
    ) -> Result<T, GovernorError> {
        for _ in 0..TRIES {
            let Versioned { version, state: before } = self.read(name).await?;
            let (mut after, now) = (before.clone(), self.now());
            let value = step(&mut after, now)?;
            let writes = rows::changes(&before, &after);
            if writes.is_empty() || self.write(name, version, writes, now).await? {
                return Ok(value);
            }
        }
        Err(GovernorError::Busy(name.clone()))
    }

    /// Writes rows if the group still has that version.
    pub(super) async fn write(
        &self,
        name: &GroupName,
        version: i64,
        writes: Vec<GroupWrite>,
        at: Timestamp,
    ) -> Result<bool, GovernorError> {
        let group = name.to_string();
        let change = GroupChange { group, version, writes, decision: None, execution: None, at };
        let written = self.parts.groups.group_change(&change).await?;
        if written {
            self.hint();
        }
        Ok(written)
    }

    /// Waits by the governor's clock.
    pub(super) async fn pause(&self, span: Duration) {
        self.parts.clock.sleep_for(span).await;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Says that a group has changed.
    pub(super) fn hint(&self) {
        self.parts.bus.hint(Topic::Groups);
        self.parts.bus.hint(Topic::Announcements);
    }
}
