//! What the operator decides: `petrel.toml`, overridden by `PETREL__SECTION__KEY` variables, checked as a whole before
//! anything starts. The only reader of the environment.

mod bus;
mod client;
mod cluster;
mod listening;
mod reader;
mod rights;
mod sections;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::bus::Bus;
pub use self::client::{ClientTarget, Endpoints, TargetError, client_target};
pub use self::cluster::{LocalNodes, Role, Secrets, Store};
pub use self::listening::{AllowedHosts, Networks};
pub use self::rights::{Auth, LocalRunners, Runners};
pub use self::sections::{
    Config, Limits, Listener, Log, LogFormat, MisfirePolicy, Retention, Server, Timers, Webhooks, Workers,
};

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// The environment of this process; variables that are not UTF-8 are left out.
pub fn process_environment() -> Environment {
    let pairs = std::env::vars_os().map(|(name, value)| (name.into_string(), value.into_string()));
    pairs.filter_map(|pair| Some((pair.0.ok()?, pair.1.ok()?))).collect()
}

impl Config {
    /// Reads `file` if one is named, else `petrel.toml` if there is one, and what `environment` overrides.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, ConfigErrors> {
        let path = file.unwrap_or_else(|| Path::new("petrel.toml"));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(error) => return Err(ConfigErrors::unreadable(path, &error)),
        };
        Self::parse(path, &text, environment)
    }

    /// Reads the text of the file at `path`, and what `environment` overrides.
    pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut tree = source::parse_file(path, text)?;
        let misplaced = source::override_by(&mut tree, environment);
        let (config, mut errors) = sections::read(tree);
        errors.extend(misplaced);
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file.
    File {
        /// Its path.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// In an environment variable of this name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{problem}", key_prefix(key))]
pub struct ConfigError {
    /// Where it is written.
    pub origin: Origin,
    /// The key, as `limits.body_bytes`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what to write.
    pub problem: String,
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// Everything that is wrong in the configuration, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let origin = Origin::File { path: path.to_owned(), line: 1, column: 1 };
        Self(vec![ConfigError { origin, key: String::new(), problem: format!("cannot read the file: {error}") }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests;
