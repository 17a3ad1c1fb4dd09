//! `[auth]` and `[runners]`: who may act for whom, and as whom child processes run.

use std::path::PathBuf;

use crate::config::reader::{Section, text, texts};

/// Who may act in the name of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// Users that may say in whose name they act, as adapters of chat do; admins may without being listed. None
    pub act_as: Vec<String>,
}

/// Child processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runners {
    /// Where scripts of shipped and published packs lie if `local.user` is set. `<data_dir>-runners`
    pub dir: Option<PathBuf>,
    /// `[runners.local]`
    pub local: LocalRunners,
}

/// The runners of this machine, as StackStorm's `system_user`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalRunners {
    /// The user that child processes run as. The daemon's own
    pub user: Option<String>,
    /// Their group. The user's own
    pub group: Option<String>,
    /// Further groups. Those that list the user
    pub supplementary_groups: Option<Vec<String>>,
}

pub(super) fn read_auth(mut section: Section<'_>) -> Auth {
    let auth = Auth { act_as: section.read("act_as", Vec::new(), texts) };
    section.close();
    auth
}

pub(super) fn read_runners(mut section: Section<'_>) -> Runners {
    let dir = section.read_optional("dir", text).map(PathBuf::from);
    let mut own = section.section("local");
    let local = LocalRunners {
        user: own.read_optional("user", text),
        group: own.read_optional("group", text),
        supplementary_groups: own.read_optional("supplementary_groups", texts),
    };
    let has_groups = local.group.is_some() || local.supplementary_groups.is_some();
    if let (None, true, Some(origin)) = (&local.user, has_groups, own.origin()) {
        own.note(origin.clone(), "group", "groups need `user`: say as whom child processes run".to_owned());
    }
    own.close();
    section.close();
    Runners { dir, local }
}
