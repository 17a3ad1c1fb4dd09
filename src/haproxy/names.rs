//! Names as HAProxy takes them: one word each, so that no name can be a second command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::group::GroupName;
use crate::model::node::NodeName;

/// Stands for the group in the name of a backend.
pub(super) const GROUP: &str = "{group}";

/// The name of a backend or a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name that HAProxy takes; use letters, digits, `-`, `_`, `.` and `:`")]
pub(super) struct BadName {
    text: String,
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = !text.is_empty() && text.chars().all(is_of_names);
        fits.then(|| Self(text.to_owned())).ok_or_else(|| BadName { text: text.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&NodeName> for Name {
    fn from(node: &NodeName) -> Self {
        Self(node.as_str().to_owned())
    }
}

/// How the backend of a group is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackendTemplate(String);

/// Why a text does not say how backends are called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` does not say how the backend of a group is called; write `{GROUP}` where the group's name stands, and \
     around it letters, digits, `-`, `_`, `.` and `:`"
)]
pub(super) struct BadTemplate {
    text: String,
}

impl BackendTemplate {
    /// The backend of a group.
    pub(super) fn backend_of(&self, group: &GroupName) -> Name {
        Name(self.0.replace(GROUP, group.as_str()))
    }
}

impl From<Name> for BackendTemplate {
    /// Of one group, whose owner says how its backend is called.
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

impl Default for BackendTemplate {
    fn default() -> Self {
        Self(GROUP.to_owned())
    }
}

impl FromStr for BackendTemplate {
    type Err = BadTemplate;

    /// One backend for all groups is refused: a group that is deleted would take the servers of the others with it.
    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        let fits = text.contains(GROUP) && text.replace(GROUP, "").chars().all(is_of_names);
        fits.then(|| Self(text.to_owned())).ok_or_else(|| BadTemplate { text: text.to_owned() })
    }
}

impl<'de> Deserialize<'de> for BackendTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

const fn is_of_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_named_after_its_group() {
        let web = "web".parse().unwrap();
        for (template, name) in [("{group}", "web"), ("be_{group}.v2", "be_web.v2"), ("{group}-{group}", "web-web")] {
            assert_eq!(template.parse::<BackendTemplate>().unwrap().backend_of(&web).to_string(), name);
        }
    }

    #[test]
    fn no_name_can_be_a_second_command() {
        for text in ["", "web;help", "web help", "web\nhelp", "web\thelp", "web/n1", "wéb", "<<", "#1\\", "web\0"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
            assert!(format!("{{group}}{text}").parse::<BackendTemplate>().is_err() || text.is_empty(), "{text:?}");
        }
        let refusal = "everybody".parse::<BackendTemplate>().unwrap_err().to_string();
        assert!(refusal.contains("write `{group}`"), "{refusal}");
    }
}
