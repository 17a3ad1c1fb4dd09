//! What makes one daemon one of several: the store they share, the roles it plays, and what all of them on one host have
//! to find in the same place.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::reader::{Section, text, texts};
use super::sections::at_least_one;
use super::source::Entry;
use crate::secrets::SecretText;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// `postgres://user:password@host/database`. Without it the store is a file in the data folder.
    pub url: Option<SecretText>,
    /// Connections to PostgreSQL at most. 16
    pub connections: usize,
    /// Certificates to trust beside the machine's own, as PEM.
    pub ca_file: Option<PathBuf>,
}

/// What is encrypted, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The key of encrypted values; the same for all daemons over one store. `<data_dir>/datastore.key`
    pub key_file: Option<PathBuf>,
}

/// The provider `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNodes {
    /// Where its nodes live; the same for all daemons of a host. `<data_dir>/nodes`
    pub nodes_dir: Option<PathBuf>,
}

/// What a daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Answers at the API and at the listeners of sensors.
    Api,
    /// Timers and polling sensors.
    Sensors,
    /// Matches trigger instances.
    Rules,
    /// Runs actions and workflows.
    Workers,
    /// Runs the actions of the pack `autoscale`.
    Governor,
}

impl Role {
    /// All of them: what a daemon does that is told nothing.
    pub const ALL: [Self; 5] = [Self::Api, Self::Sensors, Self::Rules, Self::Workers, Self::Governor];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Sensors => "sensors",
            Self::Rules => "rules",
            Self::Workers => "workers",
            Self::Governor => "governor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text.trim());
        known.ok_or_else(|| format!("`{text}` is not a role; write some of {names}"))
    }
}

pub(super) fn read_store(mut section: Section<'_>) -> Store {
    let store = Store {
        url: section.read_optional("url", postgres_url),
        connections: section.read("connections", 16, at_least_one),
        ca_file: section.read_optional("ca_file", text).map(PathBuf::from),
    };
    section.close();
    store
}

pub(super) fn read_secrets(mut section: Section<'_>) -> Secrets {
    let secrets = Secrets { key_file: section.read_optional("key_file", text).map(PathBuf::from) };
    section.close();
    secrets
}

pub(super) fn read_local(mut section: Section<'_>) -> LocalNodes {
    let local = LocalNodes { nodes_dir: section.read_optional("nodes_dir", text).map(PathBuf::from) };
    section.close();
    local
}

pub(super) fn roles(entry: &Entry) -> Result<BTreeSet<Role>, String> {
    let roles: BTreeSet<Role> = texts(entry)?.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    if roles.is_empty() { Err("write at least one role, or leave it out for all".to_owned()) } else { Ok(roles) }
}

fn postgres_url(entry: &Entry) -> Result<SecretText, String> {
    let url = text(entry)?;
    let is_known = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if is_known {
        return Ok(SecretText::new(url));
    }
    Err("write a URL as \"postgres://user:password@host/database\", or leave it out for the embedded store".to_owned())
}
