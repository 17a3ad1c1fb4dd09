//! Three roles and what each may do. One table: routes, actions that users request, and chat ask it and nothing else.

use crate::model::time::Timestamp;

pub use crate::model::access::{BadRole, Permission, Role};

/// Who may do it, at least.
const NEEDS: [(Permission, Role); 19] = [
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
    (Permission::ActAs, Role::Admin),
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

    use crate::model::access::PERMISSIONS;

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
        assert_eq!((distinct.len(), NEEDS.len()), (PERMISSIONS.len(), PERMISSIONS.len()));
    }
}
