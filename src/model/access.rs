//! Roles and permissions as nouns: what metadata, the store and requests name. Which role has which permission is
//! decided in one table, in `auth`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a person or a program may do, from everything down to looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Observer,
    /// Looks and acts, with what is there.
    Operator,
    /// Everything.
    Admin,
}

/// Something that only some roles may do, through a route of the API or by an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See everything that is not secret.
    View,
    /// Run an action or an alias.
    ExecutionRun,
    /// Cancel, pause, resume or repeat an execution.
    ExecutionControl,
    /// Switch a rule, sensor or policy on or off.
    ContentSwitch,
    /// Create, change or delete rules, actions, aliases and policies.
    ContentWrite,
    /// Install, remove, register or configure packs.
    PackManage,
    /// Set and delete key-values.
    KeyWrite,
    /// See an encrypted key-value in clear.
    KeyDecrypt,
    /// Answer an inquiry (which may narrow it further).
    InquiryRespond,
    /// Send to a webhook that asks for an API key.
    WebhookSend,
    /// Inject or re-emit trigger instances.
    TriggerEmit,
    /// Expand, deflate, suspend and approve in autoscaling groups, and handle the nodes that providers keep for them.
    GroupOperate,
    /// Create, change or delete autoscaling groups, and write their ledger.
    GroupWrite,
    /// Freeze and thaw the installation: who is awake at night must be able to stop everything.
    Freeze,
    /// Act in the name of another user, as a chat adapter does. `auth.act_as` gives it to single users.
    ActAs,
    /// See who did what.
    AuditView,
    /// Create, change or delete users.
    UserManage,
    /// Create, change or delete API keys and the tokens of others.
    ApiKeyManage,
    /// Back up, drain and change limits.
    SystemManage,
}

/// Every permission with the name that metadata (`permission:`), errors and the audit log use.
pub const PERMISSIONS: [(&str, Permission); 19] = [
    ("view", Permission::View),
    ("execution_run", Permission::ExecutionRun),
    ("execution_control", Permission::ExecutionControl),
    ("content_switch", Permission::ContentSwitch),
    ("content_write", Permission::ContentWrite),
    ("pack_manage", Permission::PackManage),
    ("key_write", Permission::KeyWrite),
    ("key_decrypt", Permission::KeyDecrypt),
    ("inquiry_respond", Permission::InquiryRespond),
    ("webhook_send", Permission::WebhookSend),
    ("trigger_emit", Permission::TriggerEmit),
    ("group_operate", Permission::GroupOperate),
    ("group_write", Permission::GroupWrite),
    ("freeze", Permission::Freeze),
    ("act_as", Permission::ActAs),
    ("audit_view", Permission::AuditView),
    ("user_manage", Permission::UserManage),
    ("api_key_manage", Permission::ApiKeyManage),
    ("system_manage", Permission::SystemManage),
];

/// Triggers whose payload says on whose behalf something is done.
const SPEAKS_FOR_USERS: [&str; 1] = ["slack.command"];

impl Permission {
    /// What is needed to emit a trigger of this type by hand. Who can make `slack.command` happen says who spoke.
    pub fn to_emit(trigger_type: &str) -> Self {
        if SPEAKS_FOR_USERS.contains(&trigger_type) { Self::ActAs } else { Self::TriggerEmit }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PERMISSIONS.iter().find(|(_, known)| known == self).map_or("unknown", |(name, _)| *name);
        f.write_str(name)
    }
}

impl Role {
    /// As written and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Observer => "observer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a role; write admin, operator or observer")]
pub struct BadRole {
    /// What was given.
    pub text: String,
}

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        let known = [Self::Admin, Self::Operator, Self::Observer];
        known.into_iter().find(|role| role.as_str() == text).ok_or_else(|| BadRole { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in [Role::Admin, Role::Operator, Role::Observer] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn every_permission_has_a_name_of_its_own() {
        let names: std::collections::HashSet<String> = PERMISSIONS.iter().map(|(_, one)| one.to_string()).collect();
        assert!(names.len() == PERMISSIONS.len() && !names.contains("unknown"), "{names:?}");
    }
}
