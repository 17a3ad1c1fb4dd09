//! The command line and the environment of one connection of the machine's own OpenSSH client. Pure.
//!
//! A command line is read by everybody on the host, so it never holds what was meant for one machine: the key lies in a
//! private file, passwords wait in the environment until [`super::askpass`] is asked, and what is to be done comes on
//! standard input. The operator's `~/.ssh/config` holds: what is not said here is as it says.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::askpass;
use super::hosts::{Host, Username};
use crate::runners::shell::quote;

/// A machine that does not even accept a connection within this time is not there.
const CONNECT_SECONDS: u32 = 15;
/// A connection is given up if the other side is silent three times as long.
const ALIVE_SECONDS: u32 = 10;

/// How to log in.
#[derive(Clone, Default, Deserialize)]
pub struct Login {
    /// As whom; the client's own configuration knows, if it is not said.
    pub username: Option<Username>,
    /// By which key.
    pub private_key: Option<PrivateKey>,
    /// What opens the key.
    pub passphrase: Option<String>,
    /// By which password.
    pub password: Option<String>,
    /// Where, if the host does not say.
    pub port: Option<NonZeroU16>,
    /// Through which machine, with the same login.
    pub bastion_host: Option<Host>,
}

/// A key, or where it is. It has no way to show itself.
#[derive(Clone, PartialEq, Eq)]
pub enum PrivateKey {
    /// As it lies in a file.
    Text(String),
    /// The file.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let trimmed = text.trim();
        if trimmed.starts_with("-----BEGIN ") {
            return Ok(Self::Text(format!("{}\n", trimmed.replace("\r\n", "\n"))));
        }
        if trimmed.starts_with('/') && !trimmed.contains(char::is_control) {
            return Ok(Self::File(trimmed.into()));
        }
        Err(serde::de::Error::custom(
            "`private_key` is neither a key (its text begins with `-----BEGIN`) nor the absolute path of one",
        ))
    }
}

/// Files of this host that a connection uses.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// Where hosts are remembered that were met for the first time.
    pub(super) known_hosts: PathBuf,
    /// Where the client writes what it has to say.
    pub(super) said: PathBuf,
    /// Where a key lies that was given as text.
    pub(super) key: PathBuf,
    /// Who answers when the client asks for a password.
    pub(super) askpass: PathBuf,
}

/// One connection.
pub(super) struct Connection<'c> {
    pub(super) host: &'c Host,
    pub(super) login: &'c Login,
    pub(super) files: &'c Files,
    /// The name under which the host's key is remembered, if it is not the host's own.
    pub(super) known_as: Option<&'c str>,
}

impl Connection<'_> {
    /// The client that runs `command` in the login shell of the other side.
    pub(super) fn argv(&self, command: &str) -> Vec<String> {
        let mut argv = words(&["ssh", "-T", "-a", "-x", "-E"]);
        argv.push(text(&self.files.said));
        argv.extend(self.options());
        if let Some(name) = self.known_as {
            argv.extend(option("HostKeyAlias", name));
        }
        if let Some(bastion) = &self.login.bastion_host {
            argv.extend(option("ProxyCommand", &self.through(bastion)));
        }
        argv.extend(self.whereto(self.host));
        argv.push(command.to_owned());
        argv
    }

    /// What [`super::askpass`] answers with.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let Login { password, passphrase, .. } = self.login;
        let secrets = [(askpass::PASSWORD, password), (askpass::PASSPHRASE, passphrase)];
        let secrets = secrets.into_iter().filter_map(|(name, secret)| Some((name.to_owned(), secret.clone()?)));
        let mut env: BTreeMap<String, String> = secrets.collect();
        if !env.is_empty() {
            env.insert("SSH_ASKPASS".to_owned(), text(&self.files.askpass));
            env.insert("SSH_ASKPASS_REQUIRE".to_owned(), "force".to_owned());
        }
        env
    }

    /// What lies in [`Files::key`].
    pub(super) fn private_file(&self) -> Option<String> {
        match &self.login.private_key {
            Some(PrivateKey::Text(text)) => Some(text.clone()),
            Some(PrivateKey::File(_)) | None => None,
        }
    }

    fn options(&self) -> Vec<String> {
        let known_hosts = format!("{} ~/.ssh/known_hosts", in_option(&self.files.known_hosts));
        let mut argv = Vec::new();
        for (name, value) in [
            ("StrictHostKeyChecking", "accept-new"),
            ("UserKnownHostsFile", &known_hosts),
            ("UpdateHostKeys", "no"),
            ("ConnectTimeout", &CONNECT_SECONDS.to_string()),
            ("ServerAliveInterval", &ALIVE_SECONDS.to_string()),
            ("ControlMaster", "no"),
            ("ClearAllForwardings", "yes"),
            ("PermitLocalCommand", "no"),
            ("NumberOfPasswordPrompts", "1"),
        ] {
            argv.extend(option(name, value));
        }
        argv.extend(self.ways_in().into_iter().flat_map(|(name, value)| option(name, value)));
        match &self.login.private_key {
            Some(PrivateKey::Text(_)) => argv.extend(identity(&self.files.key)),
            Some(PrivateKey::File(file)) => argv.extend(identity(file)),
            None => {}
        }
        argv
    }

    /// Only what was given is tried, so that a refusal is about that; a client that may ask nobody asks nobody.
    fn ways_in(&self) -> Vec<(&'static str, &'static str)> {
        let Login { private_key, passphrase, password, .. } = self.login;
        let mut ways = Vec::new();
        if password.is_none() {
            ways.extend([("PasswordAuthentication", "no"), ("KbdInteractiveAuthentication", "no")]);
            if passphrase.is_none() {
                ways.push(("BatchMode", "yes"));
            }
        } else if private_key.is_none() {
            ways.push(("PubkeyAuthentication", "no"));
        }
        ways
    }

    /// A client that takes this one's bytes on, started by it in a shell.
    fn through(&self, bastion: &Host) -> String {
        let mut argv = words(&["ssh", "-T", "-a", "-x", "-W", "[%h]:%p"]);
        let own = self.options().into_iter().chain(self.whereto(bastion));
        // What has `%` for the outer client is not meant for the inner one, except for where it is to go.
        argv.extend(own.map(|word| word.replace('%', "%%")));
        argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }

    fn whereto(&self, host: &Host) -> Vec<String> {
        let mut argv = Vec::new();
        if let Some(user) = &self.login.username {
            argv.extend(["-l".to_owned(), user.to_string()]);
        }
        if let Some(port) = host.port().or(self.login.port) {
            argv.extend(["-p".to_owned(), port.to_string()]);
        }
        argv.extend(["--".to_owned(), host.name().to_owned()]);
        argv
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn option(name: &str, value: &str) -> [String; 2] {
    ["-o".to_owned(), format!("{name}={value}")]
}

/// This key and no other.
fn identity(file: &Path) -> Vec<String> {
    let [only, file] = [option("IdentitiesOnly", "yes"), option("IdentityFile", &in_option(file))];
    [only, file].concat()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path as a value of an option: one word, and no `%` that stands for something.
fn in_option(path: &Path) -> String {
    let text = text(path).replace('%', "%%").replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn argv(login: Value, host: &str) -> Vec<String> {
        let login: Login = serde_json::from_value(login).unwrap();
        let files = Files {
            known_hosts: "/data 50%/known_hosts".into(),
            said: "/guards/0.said".into(),
            key: "/guards/0.private".into(),
            askpass: "/guards/petrel-askpass".into(),
        };
        let host = host.parse().unwrap();
        Connection { host: &host, login: &login, files: &files, known_as: None }.argv("true")
    }

    #[test]
    fn host_port_user_and_command_stand_behind_everything_else() {
        let argv = argv(json!({ "username": "petrel", "port": 2200 }), "web:2201");
        assert_eq!(argv[argv.len() - 7..], ["-l", "petrel", "-p", "2201", "--", "web", "true"]);
        assert!(argv.contains(&"BatchMode=yes".to_owned()));
        let known = r#"UserKnownHostsFile="/data 50%%/known_hosts" ~/.ssh/known_hosts"#;
        assert!(argv.contains(&known.to_owned()), "{argv:?}");
    }

    #[test]
    fn no_secret_is_on_the_command_line() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----";
        let login =
            json!({ "private_key": key, "passphrase": "hunter2", "password": "hunter2", "bastion_host": "door" });
        let line = argv(login, "web").join(" ");
        assert!(!line.contains("hunter2") && line.contains("/guards/0.private"), "{line}");
        assert!(!line.contains("BatchMode"), "{line}");
    }

    #[test]
    fn a_bastion_is_reached_with_the_same_login() {
        let argv = argv(json!({ "username": "petrel", "bastion_host": "door:2222" }), "web");
        let proxy = argv.iter().find(|word| word.starts_with("ProxyCommand=")).unwrap();
        assert!(proxy.starts_with("ProxyCommand='ssh' '-T'") && proxy.contains("'-W' '[%h]:%p'"), "{proxy}");
        assert!(proxy.ends_with("'-l' 'petrel' '-p' '2222' '--' 'door'"), "{proxy}");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        let refused = serde_json::from_value::<Login>(json!({ "private_key": "hunter2" })).err().unwrap().to_string();
        assert!(refused.contains("-----BEGIN") && !refused.contains("hunter2"), "{refused}");
    }
}
