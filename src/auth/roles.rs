//! Three roles and what each may do. One table; whoever guards a door asks it and nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::time::Timestamp;

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

/// Something that a door lets only some people do.
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
    /// Expand, deflate, suspend and approve in autoscaling groups.
    GroupOperate,
    /// Create, change or delete autoscaling groups.
    GroupWrite,
    /// Freeze and thaw the installation: who is awake at night must be able to stop everything.
    Freeze,
    /// See who did what.
    AuditView,
    /// Create, change or delete users.
    UserManage,
    /// Create, change or delete API keys.
    ApiKeyManage,
    /// Back up, drain and change limits.
    SystemManage,
}

/// Who may do it, at least.
const NEEDS: [(Permission, Role); 18] = [
    (Permission::View, Role::Observer),
    (Permission::ExecutionRun, Role::Operator),
    (Permission::ExecutionControl, Role::Operator),
    (Permission::ContentSwitch, Role::Operator),
    (Permission::ContentWrite, Role::Admin),
    (Permission::PackManage, Role::Admin),
    (Permission::KeyWrite, Role::Operator),
    (Permission::KeyDecrypt, Role::Admin),
    (Permission::InquiryRespond, Role::Operator),
    (Permission::WebhookSend, Role::Operator),
    (Permission::TriggerEmit, Role::Operator),
    (Permission::GroupOperate, Role::Operator),
    (Permission::GroupWrite, Role::Admin),
    (Permission::Freeze, Role::Operator),
    (Permission::AuditView, Role::Admin),
    (Permission::UserManage, Role::Admin),
    (Permission::ApiKeyManage, Role::Admin),
    (Permission::SystemManage, Role::Admin),
];

impl Role {
    /// May this role do that? What the table does not know is for admins.
    pub fn may(self, permission: Permission) -> bool {
        let needed = NEEDS.iter().find(|(known, _)| *known == permission).map_or(Role::Admin, |(_, role)| *role);
        self >= needed
    }

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

/// Somebody whose credentials were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How they proved it.
    pub method: AuthMethod,
}

impl Principal {
    /// May they do that?
    pub fn may(&self, permission: Permission) -> bool {
        self.role.may(permission)
    }
}

/// How somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// With a token.
    Token {
        /// It is worth nothing from then on.
        expires: Timestamp,
    },
    /// With an API key.
    ApiKey,
    /// With user and password.
    Password,
}

impl AuthMethod {
    /// The words that StackStorm's `whoami` uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token { .. } => "authentication token",
            Self::ApiKey => "API key",
            Self::Password => "password",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashSet;

    fn allowed(role: Role) -> usize {
        NEEDS.iter().filter(|(permission, _)| role.may(*permission)).count()
    }

    #[test]
    fn an_observer_only_looks_an_operator_acts_and_an_admin_does_everything() {
        assert_eq!((allowed(Role::Observer), allowed(Role::Operator), allowed(Role::Admin)), (1, 10, NEEDS.len()));
        assert!(Role::Observer.may(Permission::View));
        for acts in [Permission::ExecutionRun, Permission::GroupOperate, Permission::Freeze, Permission::KeyWrite] {
            assert!(Role::Operator.may(acts) && !Role::Observer.may(acts), "{acts:?}");
        }
        for governs in [Permission::KeyDecrypt, Permission::UserManage, Permission::ApiKeyManage] {
            assert!(!Role::Operator.may(governs) && Role::Admin.may(governs), "{governs:?}");
        }
    }

    #[test]
    fn the_table_has_every_permission_once() {
        let distinct: HashSet<Permission> = NEEDS.iter().map(|(permission, _)| *permission).collect();
        assert_eq!(distinct.len(), NEEDS.len());
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in [Role::Admin, Role::Operator, Role::Observer] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
