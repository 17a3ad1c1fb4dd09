//! What may stand where a host or a user is named. The grammar is strict because what it lets through becomes a word of
//! a command line: nothing that begins with a dash, nothing that a shell or `ssh` reads as anything but a name.

use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// More machines than this are a list that somebody built wrongly.
const MOST_HOSTS: usize = 1000;
/// No name in the DNS is longer.
const LONGEST_NAME: usize = 253;
/// No system has longer names of users.
const LONGEST_USER: usize = 64;

/// A machine, and the port on which it listens if one is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As it was written: results are found by it.
    given: String,
    name: String,
    port: Option<NonZeroU16>,
}

/// Why a text does not name a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` does not name a host: write a name, an IPv4 address or an IPv6 address, with `:port` behind it or without \
     (IPv6 with a port as `[::1]:2222`); the user goes into `username`"
)]
pub struct BadHost {
    text: String,
}

/// Why a list of hosts is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHosts {
    /// One of them.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// None of them.
    #[error("no host is named: write names or addresses with commas between them in `hosts`")]
    None,
    /// All of them.
    #[error("{count} hosts are named; at most {MOST_HOSTS} can be spoken to at once")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Host {
    /// As it was written.
    pub fn given(&self) -> &str {
        &self.given
    }

    /// The name or address alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, if the text says so.
    pub const fn port(&self) -> Option<NonZeroU16> {
        self.port
    }

    /// The same machine, on this port or on that of the login.
    #[must_use]
    pub fn on_port(self, port: Option<NonZeroU16>) -> Self {
        Self { port, ..self }
    }

    /// The hosts of a list with commas, each once, in the list's order.
    pub fn list(text: &str) -> Result<Vec<Self>, BadHosts> {
        let mut hosts: Vec<Self> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let host: Self = part.parse()?;
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        match hosts.len() {
            0 => Err(BadHosts::None),
            count if count > MOST_HOSTS => Err(BadHosts::TooMany { count }),
            _ => Ok(hosts),
        }
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let bad = || BadHost { text: text.chars().take(LONGEST_NAME).collect() };
        let (name, port) = split(text).ok_or_else(bad)?;
        let port = port.map(str::parse).transpose().map_err(|_| bad())?;
        if !is_name(name) && name.parse::<Ipv6Addr>().is_err() {
            return Err(bad());
        }
        Ok(Self { given: text.to_owned(), name: name.to_owned(), port })
    }
}

fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (name, rest) = bracketed.split_once(']')?;
        name.parse::<Ipv6Addr>().ok()?;
        return if rest.is_empty() { Some((name, None)) } else { Some((name, Some(rest.strip_prefix(':')?))) };
    }
    match text.split_once(':') {
        Some((name, port)) if !port.contains(':') => Some((name, Some(port))),
        Some(_) | None => Some((text, None)),
    }
}

fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins_well && text.len() <= LONGEST_NAME && text.chars().all(legal)
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// As whom one logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

/// Why a text is no name of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a user: letters, digits, `_`, `.`, `-`, `+` and `@`, not beginning with `-`")]
pub struct BadUsername {
    text: String,
}

impl FromStr for Username {
    type Err = BadUsername;

    fn from_str(text: &str) -> Result<Self, BadUsername> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '@');
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if begins_well && text.len() <= LONGEST_USER && text.chars().all(legal) {
            return Ok(Self(text.to_owned()));
        }
        Err(BadUsername { text: text.chars().take(LONGEST_USER).collect() })
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Username {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_people_write_them() {
        let cases = [
            ("web-1.example.org", "web-1.example.org", None),
            ("10.0.0.1:2222", "10.0.0.1", Some(2222)),
            ("::1", "::1", None),
            ("[fe80::1]:22", "fe80::1", Some(22)),
            ("[::1]", "::1", None),
            ("under_score", "under_score", None),
        ];
        for (text, name, port) in cases {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.given(), host.name(), host.port().map(NonZeroU16::get)), (text, name, port));
        }
    }

    #[test]
    fn what_could_be_anything_but_a_host_is_refused() {
        let hostile = [
            "-oProxyCommand=touch /tmp/x",
            "-l",
            "",
            "a b",
            "a;b",
            "$(id)",
            "`id`",
            "a\nb",
            "root@web",
            "a:0",
            "a:70000",
            "a:-1",
            "a:b",
            "[a]:1",
            "[::1",
            "[::1]2",
            "ssh://web",
            "%h",
            "a/b",
            "é",
            "a\0",
        ];
        for text in hostile {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
        assert!(Host::list("good, -oProxyCommand=x").is_err());
        assert_eq!(Host::list(" , "), Err(BadHosts::None));
    }

    #[test]
    fn a_host_that_is_named_twice_is_spoken_to_once() {
        let given: Vec<String> = Host::list("b, a:22,,b").unwrap().iter().map(|host| host.given().to_owned()).collect();
        assert_eq!(given, ["b", "a:22"]);
    }

    #[test]
    fn what_could_be_anything_but_a_user_is_refused() {
        for text in ["-l", "", "a b", "a;b", "$x", "a\n", "ä", "a:b", "'"] {
            assert!(text.parse::<Username>().is_err(), "{text:?}");
        }
        for text in ["root", "_apt", "first.last", "me@corp"] {
            assert!(text.parse::<Username>().is_ok(), "{text}");
        }
    }
}
