//! The programs that the whole story is played with. They must be there; the demo installs nothing.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::config::process_environment;

/// Where servers are although no path of an ordinary user leads there.
const ELSEWHERE: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where each of them is.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) haproxy: PathBuf,
    pub(super) named: PathBuf,
    pub(super) dig: PathBuf,
    pub(super) sshd: PathBuf,
    pub(super) ssh_keygen: PathBuf,
    pub(super) ngircd: PathBuf,
    pub(super) prometheus: PathBuf,
    pub(super) alertmanager: PathBuf,
    pub(super) rsvg_convert: PathBuf,
}

/// Looks for programs and remembers the packages of those that are missing.
struct Search {
    folders: Vec<PathBuf>,
    missing: Vec<(&'static str, &'static str)>,
}

impl Programs {
    /// All of them, or a list of those that are missing.
    pub(super) fn find() -> anyhow::Result<Self> {
        let environment = process_environment();
        let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
        let folders = path.split(':').chain(ELSEWHERE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self::among(folders.collect())
    }

    fn among(folders: Vec<PathBuf>) -> anyhow::Result<Self> {
        let mut search = Search { folders, missing: Vec::new() };
        let found = Self {
            haproxy: search.one_of(&["haproxy"], "haproxy"),
            named: search.one_of(&["named"], "bind9"),
            dig: search.one_of(&["dig"], "bind9-dnsutils"),
            sshd: search.one_of(&["sshd"], "openssh-server"),
            ssh_keygen: search.one_of(&["ssh-keygen"], "openssh-client"),
            ngircd: search.one_of(&["ngircd"], "ngircd"),
            prometheus: search.one_of(&["prometheus"], "prometheus"),
            alertmanager: search.one_of(&["prometheus-alertmanager", "alertmanager"], "prometheus-alertmanager"),
            rsvg_convert: search.one_of(&["rsvg-convert"], "librsvg2-bin"),
        };
        let names: Vec<&str> = search.missing.iter().map(|(name, _)| *name).collect();
        let packages: Vec<&str> = search.missing.iter().map(|(_, package)| *package).collect();
        ensure!(
            names.is_empty(),
            "the whole story is played with real servers, and there is no {} on this machine; on Debian: apt-get install \
             --no-install-recommends {}",
            names.join(", no "),
            packages.join(" ")
        );
        Ok(found)
    }
}

impl Search {
    fn one_of(&mut self, names: &[&'static str], package: &'static str) -> PathBuf {
        let places = names.iter().flat_map(|name| self.folders.iter().map(move |folder| folder.join(name)));
        let found = places.into_iter().find(|place| is_program(place));
        found.unwrap_or_else(|| {
            self.missing.extend(names.first().map(|name| (*name, package)));
            PathBuf::new()
        })
    }
}

fn is_program(place: &Path) -> bool {
    place.is_absolute() && place.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_said_at_once_with_where_it_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["haproxy", "named", "dig", "ssh-keygen", "ngircd", "alertmanager", "rsvg-convert"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let refusal = Programs::among(vec![folder.path().to_owned()]).unwrap_err().to_string();
        assert!(refusal.contains("there is no sshd, no prometheus on this machine"), "{refusal}");
        assert!(refusal.ends_with("--no-install-recommends openssh-server prometheus"), "{refusal}");
        for name in ["sshd", "prometheus"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = Programs::among(vec![folder.path().to_owned()]).unwrap();
        assert_eq!(found.alertmanager, folder.path().join("alertmanager"));
    }
}
