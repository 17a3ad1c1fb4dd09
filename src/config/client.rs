//! How a client finds the daemon: what was bound is written down beside the data, with the first admin's key.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Environment;
use crate::private;
use crate::secrets::SecretText;

/// What a daemon has bound, as written in `<data-dir>/endpoints.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// URL of the API, without a slash at its end.
    pub api: String,
    /// URLs of the sensors' listeners by name.
    #[serde(default)]
    pub listeners: BTreeMap<String, String>,
}

impl Endpoints {
    /// Writes them in one step: a reader sees the old file or the new one.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let path = data_dir.join(FILE_NAME);
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        private::replace_file(&path, &text)
    }

    /// Reads what the last daemon over this directory has bound. It may be gone by now.
    pub fn read(data_dir: &Path) -> Result<Self, TargetError> {
        let path = data_dir.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        serde_json::from_str(&text).map_err(|source| TargetError::Damaged { path, source })
    }
}

const FILE_NAME: &str = "endpoints.json";
const KEY_NAME: &str = "admin.key";

/// Where a client sends its requests, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTarget {
    /// URL of the API, without a slash at its end.
    pub url: String,
    /// Sent as `St2-Api-Key`.
    pub api_key: SecretText,
}

/// Why a client does not know where to turn.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No daemon has run there.
    #[error(
        "no daemon has written {}: start one with `petrel serve`, name its directory with `--data-dir`, or set \
         PETREL_URL and PETREL_API_KEY",
        path.display()
    )]
    NoDaemon {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file is there but not for us.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there but makes no sense.
    #[error("{} is damaged: restart the daemon to write it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// A daemon was named by its URL, and nothing says as whom to come.
    #[error("PETREL_URL is set but PETREL_API_KEY is not: set it to an API key of that daemon")]
    NoApiKey,
}

/// The daemon that `PETREL_URL` and `PETREL_API_KEY` name, else the one over `data_dir`. The local admin's key is never
/// sent to a URL from the environment.
pub fn client_target(environment: &Environment, data_dir: &Path) -> Result<ClientTarget, TargetError> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let api_key = set("PETREL_API_KEY").map(SecretText::new);
    if let Some(url) = set("PETREL_URL") {
        let api_key = api_key.ok_or(TargetError::NoApiKey)?;
        return Ok(ClientTarget { url: url.trim_end_matches('/').to_owned(), api_key });
    }
    let url = Endpoints::read(data_dir)?.api;
    let api_key = api_key.map_or_else(|| read_admin_key(data_dir), Ok)?;
    Ok(ClientTarget { url, api_key })
}

fn read_admin_key(data_dir: &Path) -> Result<SecretText, TargetError> {
    let path = data_dir.join(KEY_NAME);
    let key = fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
    Ok(SecretText::new(key.trim()))
}

fn unreadable(path: &Path, source: io::Error) -> TargetError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::NotFound {
        return TargetError::NoDaemon { path };
    }
    TargetError::Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn data_dir_of_a_daemon() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = Endpoints { api: "http://127.0.0.1:4711".to_owned(), listeners: BTreeMap::new() };
        endpoints.write(folder.path()).unwrap();
        fs::write(folder.path().join(KEY_NAME), "local-key\n").unwrap();
        folder
    }

    fn target(url: &str, key: &str) -> ClientTarget {
        ClientTarget { url: url.to_owned(), api_key: SecretText::new(key) }
    }

    #[test]
    fn endpoints_are_written_as_scripts_expect_them_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let listeners = BTreeMap::from([("newrelic".to_owned(), "http://127.0.0.1:10001".to_owned())]);
        let endpoints = Endpoints { api: "http://127.0.0.1:9101".to_owned(), listeners };
        endpoints.write(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        let expected = r#"{"api":"http://127.0.0.1:9101","listeners":{"newrelic":"http://127.0.0.1:10001"}}"#;
        assert_eq!(text.trim_end(), expected);
        assert_eq!(Endpoints::read(folder.path()).unwrap(), endpoints);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn the_environment_names_the_daemon_before_the_data_directory_does() {
        let folder = data_dir_of_a_daemon();
        let find = |pairs| client_target(&environment(pairs), folder.path()).unwrap();
        assert_eq!(find(&[]), target("http://127.0.0.1:4711", "local-key"));
        assert_eq!(find(&[("PETREL_API_KEY", "k")]), target("http://127.0.0.1:4711", "k"));
        assert_eq!(find(&[("PETREL_URL", "http://far/"), ("PETREL_API_KEY", "k")]), target("http://far", "k"));
    }

    #[test]
    fn the_local_admins_key_is_not_sent_elsewhere() {
        let folder = data_dir_of_a_daemon();
        let refusal = client_target(&environment(&[("PETREL_URL", "http://far")]), folder.path());
        assert!(matches!(refusal, Err(TargetError::NoApiKey)));
    }

    #[test]
    fn without_a_daemon_the_way_out_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = client_target(&Environment::new(), folder.path()).unwrap_err();
        assert!(matches!(refusal, TargetError::NoDaemon { .. }));
        assert!(refusal.to_string().contains("petrel serve"));
        fs::write(folder.path().join(FILE_NAME), "{").unwrap();
        let refusal = client_target(&Environment::new(), folder.path()).unwrap_err();
        assert!(matches!(refusal, TargetError::Damaged { .. }));
    }
}
