//! `petrel freeze` and `thaw`: a setting of the installation that every decision asks for.
//!
//! A freeze that has run out needs nobody to end it: it counts only while it is active.

use std::time::Duration;

use serde_json::json;

use crate::model::group::Freeze;
use crate::model::time::Timestamp;
use crate::store::{Contents, Groups, StoreError, StoreResult};

/// The setting's name, for whoever writes it into a database that is not in use (a restored backup).
pub const FREEZE_SETTING: &str = "freeze";

/// Puts the freeze in place and takes it away.
#[derive(Debug, Clone)]
pub struct Freezer {
    contents: Contents,
    groups: Groups,
}

impl Freezer {
    /// Over the installation's settings.
    pub const fn new(contents: Contents, groups: Groups) -> Self {
        Self { contents, groups }
    }

    /// The freeze that holds at `now`.
    pub async fn active(&self, now: Timestamp) -> StoreResult<Option<Freeze>> {
        let Some(text) = self.contents.setting_get(FREEZE_SETTING).await? else { return Ok(None) };
        let freeze: Freeze = serde_json::from_str(&text)
            .map_err(|problem| StoreError::Corrupt(format!("setting `{FREEZE_SETTING}`: {problem}")))?;
        Ok(Some(freeze).filter(|freeze| freeze.is_active(now)))
    }

    /// From the moment this returns nothing is admitted any more: what was being admitted meets a new version of its
    /// group, looks again and sees the freeze.
    pub async fn freeze(&self, freeze: &Freeze) -> StoreResult<()> {
        self.contents.setting_put(FREEZE_SETTING, Some(&json!(freeze).to_string())).await?;
        self.groups.groups_touch().await
    }

    /// Ends the freeze. Says whether there was one.
    pub async fn thaw(&self, now: Timestamp) -> StoreResult<Option<Freeze>> {
        let freeze = self.active(now).await?;
        self.contents.setting_put(FREEZE_SETTING, None).await?;
        Ok(freeze)
    }
}

/// A freeze as somebody asks for it.
pub fn asked(author: &str, reason: &str, lasting: Option<Duration>, now: Timestamp) -> Freeze {
    Freeze {
        author: author.to_owned(),
        reason: reason.to_owned(),
        since: now,
        until: lasting.map(|lasting| now.plus(lasting)),
    }
}

/// The freeze in which a restored backup starts: its ledger is as old as the backup, the nodes are not.
pub fn after_restore(backup_made_at: Option<Timestamp>, now: Timestamp) -> Freeze {
    let of_when = backup_made_at.map_or_else(String::new, |at| format!(" of {at}"));
    let reason = format!(
        "a backup{of_when} was restored, and groups may have changed since; compare `petrel asg list` with what \
         really runs, then `petrel thaw`"
    );
    asked("restore", &reason, None, now)
}
