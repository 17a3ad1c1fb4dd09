//! `[auth]`: who may act for whom.

use crate::config::reader::{Section, texts};

/// Who may act in the name of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// Users that may say in whose name they act, as adapters of chat do; admins may without being listed. None
    pub act_as: Vec<String>,
}

pub(super) fn read_auth(mut section: Section<'_>) -> Auth {
    let auth = Auth { act_as: section.read("act_as", Vec::new(), texts) };
    section.close();
    auth
}
