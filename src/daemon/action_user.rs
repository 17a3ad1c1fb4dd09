//! As whom actions run, and where their scripts lie: with `runners.local.user`, outside of the data folder, which only
//! the daemon's own user can enter.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{Config, LocalRunners};
use crate::private::Readers;
use crate::runners::user::{ActionUser, Machine, NamedUser, UserError};

/// What child processes of actions need.
#[derive(Debug)]
pub(super) struct RunnersHome {
    /// Where shipped and published packs are unpacked.
    pub(super) dir: PathBuf,
    /// Who must be able to read them.
    pub(super) readers: Readers,
    /// As whom actions run; `None`: as the daemon.
    pub(super) user: Option<ActionUser>,
}

impl RunnersHome {
    /// Finds the user and makes the folders, or says which setting cannot be kept.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let LocalRunners { user, group, supplementary_groups } = &config.runners.local;
        let Some(user) = user.clone() else {
            return Ok(Self { dir: config.data_dir.clone(), readers: Readers::Owner, user: None });
        };
        let named = NamedUser { user, group: group.clone(), supplementary: supplementary_groups.clone() };
        let dir = config.runners.dir.clone().unwrap_or_else(|| beside(&config.data_dir));
        let dir = std::path::absolute(dir)?;
        let machine = Machine::this().context("reading the users of this machine for runners.local.user")?;
        let user = machine.find(&named, dir.join("scripts"))?;
        let making = || format!("making runners.dir, {}", dir.display());
        Readers::Everybody.create_folder(&user.scripts).with_context(making)?;
        // Who knows a file's name gets to it; nobody else learns which there are.
        fs::set_permissions(&user.scripts, Permissions::from_mode(0o711)).with_context(making)?;
        user.check_reach(&user.scripts).with_context(making)??;
        tracing::info!(user = user.name, dir = %dir.display(), "actions run as a user of their own");
        warn_of_hidden_packs(&user, &config.packs)?;
        Ok(Self { dir, readers: Readers::Everybody, user: Some(user) })
    }
}

/// The operator's own folders keep their modes.
fn warn_of_hidden_packs(user: &ActionUser, packs: &[PathBuf]) -> anyhow::Result<()> {
    for folder in packs.iter().filter(|folder| folder.is_dir()) {
        let looking = || format!("looking at the packs in {}", folder.display());
        if let Err(UserError::Unreachable { name, folder: closed }) = user.check_reach(folder).with_context(looking)? {
            let (packs, closed) = (folder.display(), closed.display());
            tracing::warn!(
                "`{name}` (runners.local.user) may not enter {closed}: scripts of packs in {packs} cannot run"
            );
        }
    }
    Ok(())
}

/// The data folder with another ending: `.petrel-runners` beside `.petrel`.
fn beside(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push("-runners");
    PathBuf::from(name)
}
