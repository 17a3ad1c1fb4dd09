//! Where the programs of a server are, and the Debian package that brings them where they are missing and we may.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// A server that these tests need.
pub(crate) struct Need {
    pub(super) name: &'static str,
    /// Names a running server to use instead of a private one. Without it, all are private.
    pub(super) variable: Option<&'static str>,
    /// One, or several with blanks between them.
    packages: &'static str,
    /// Where the programs are, newest last; a `*` stands for a version, if they have one.
    folders: &'static str,
    /// One of them.
    program: &'static str,
}

pub(crate) const POSTGRES: Need = Need {
    name: "PostgreSQL",
    variable: Some("PETREL_TEST_POSTGRES_URL"),
    packages: "postgresql",
    folders: "/usr/lib/postgresql/*/bin",
    program: "postgres",
};

/// Not the program of the same name in `/usr/sbin`: that one becomes another user first.
pub(crate) const RABBITMQ: Need = Need {
    name: "RabbitMQ",
    variable: Some("PETREL_TEST_AMQP_URL"),
    packages: "rabbitmq-server",
    folders: "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
    program: "rabbitmq-server",
};

/// Each story has its own: what it adds to it is forgotten with it.
pub(crate) const HAPROXY: Need =
    Need { name: "HAProxy", variable: None, packages: "haproxy", folders: "/usr/sbin", program: "haproxy" };

pub(crate) const BIND: Need =
    Need { name: "BIND", variable: None, packages: "bind9 bind9-dnsutils", folders: "/usr/sbin", program: "named" };

pub(crate) const NGIRCD: Need =
    Need { name: "ngircd", variable: None, packages: "ngircd", folders: "/usr/sbin", program: "ngircd" };

/// The client is needed as well; it comes with the same packages.
pub(crate) const OPENSSH: Need = Need {
    name: "OpenSSH",
    variable: None,
    packages: "openssh-server openssh-client",
    folders: "/usr/sbin",
    program: "sshd",
};

pub(crate) const PROMETHEUS: Need =
    Need { name: "Prometheus", variable: None, packages: "prometheus", folders: "/usr/bin", program: "prometheus" };

pub(crate) const ALERTMANAGER: Need = Need {
    name: "Alertmanager",
    variable: None,
    packages: "prometheus-alertmanager",
    folders: "/usr/bin",
    program: "prometheus-alertmanager",
};

/// Makes pixels of pictures; without a font there are no letters on them.
pub(crate) const RSVG: Need = Need {
    name: "rsvg-convert",
    variable: None,
    packages: "librsvg2-bin fonts-dejavu-core",
    folders: "/usr/bin",
    program: "rsvg-convert",
};

/// What `petrel demo --full` starts by itself.
pub(crate) const DEMO: [&Need; 7] = [&HAPROXY, &BIND, &NGIRCD, &OPENSSH, &PROMETHEUS, &ALERTMANAGER, &RSVG];

/// Python can make environments only with a part that Debian has in a package of its own.
pub(super) const PYTHON: Need = Need {
    name: "Python",
    variable: None,
    packages: "python3-venv",
    folders: "/usr/lib/python*/ensurepip",
    program: "__init__.py",
};

/// Brings the program `node` as well, which is too old for some servers: those come with one of their own.
pub(super) const NPM: Need = Need { name: "npm", variable: None, packages: "npm", folders: "/usr/bin", program: "npm" };

/// Held while packages are looked for or installed: what another test process installs is not there by halves.
const LOCK: &str = "/run/lock/petrel-test-packages";

/// Asked by packages whether their services may start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Need {
    /// The server that the environment names.
    pub(super) fn given(&self) -> Option<String> {
        std::env::var(self.variable?).ok().filter(|url| !url.is_empty())
    }

    /// Where it will come from, in words.
    pub(super) fn source(&self) -> String {
        if let Some(variable) = self.variable.filter(|_| self.given().is_some()) {
            return format!("the one that {variable} names; a private one where a story kills it");
        }
        let way = match self.find() {
            Some(folder) => format!("from {}", folder.display()),
            None => format!("after `apt-get install {}`", self.packages),
        };
        let unset = self.variable.map(|variable| format!(" ({variable} is not set)")).unwrap_or_default();
        format!("a private one on a free port, {way}{unset}")
    }

    /// The folder of its programs, which are installed if they have to be.
    pub(crate) async fn programs(&'static self) -> PathBuf {
        tokio::task::spawn_blocking(|| self.find_or_install()).await.expect("a folder with programs")
    }

    /// The same for whoever may block.
    pub(super) fn find_or_install(&self) -> PathBuf {
        let alone = geteuid().is_root().then(|| {
            let lock = File::create(LOCK).expect("a file to lock");
            lock.lock().expect("whoever installs comes to an end");
            lock
        });
        let folder = self.find().map_or_else(|| self.install(), Ok);
        drop(alone);
        folder.unwrap_or_else(|why| {
            let or_given = self.variable.map(|it| format!(", or set {it} to the URL of one that the tests may use"));
            panic!(
                "these tests need {}: {why}. Install it (on Debian: `apt-get install {}`; it is looked for in {}){}",
                self.name,
                self.packages,
                self.folders,
                or_given.unwrap_or_default()
            )
        })
    }

    fn find(&self) -> Option<PathBuf> {
        let has_program = |folder: &str| Path::new(folder).join(self.program).exists();
        let Some((before, after)) = self.folders.split_once('*') else {
            return has_program(self.folders).then(|| self.folders.into());
        };
        let (parent, start) = before.rsplit_once('/').expect("an absolute path");
        let names = fs::read_dir(parent).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let versions = names.filter_map(|name| name.strip_prefix(start).map(str::to_owned));
        let found = versions.filter(|version| has_program(&format!("{before}{version}{after}")));
        let newest = found.max_by_key(|version| major(version))?;
        Some(PathBuf::from(format!("{before}{newest}{after}")))
    }

    fn install(&self) -> Result<PathBuf, String> {
        if !geteuid().is_root() {
            return Err("it is not installed, and only root could do that".to_owned());
        }
        let before = port_mappers();
        let held_back = hold_services_back();
        let installed = apt_get_install(self.packages).or_else(|_| {
            apt_get(&["update"])?;
            apt_get_install(self.packages)
        });
        if held_back {
            fs::remove_file(POLICY).expect("our own file");
        }
        end(port_mappers().into_iter().filter(|pid| !before.contains(pid)));
        installed?;
        self.find().ok_or_else(|| format!("the package {} does not bring {}", self.packages, self.folders))
    }
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

fn apt_get_install(packages: &str) -> Result<(), String> {
    let options = ["install", "-y", "--no-install-recommends"];
    apt_get(&options.into_iter().chain(packages.split_whitespace()).collect::<Vec<_>>())
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=120"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let output =
        command.output().map_err(|error| format!("it is not installed, and apt-get does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("`apt-get {}` failed: {said}", arguments.join(" ")))
}

/// No package starts its service while this process lives, whatever happens to the file. `false`: somebody has a
/// policy already.
fn hold_services_back() -> bool {
    if Path::new(POLICY).exists() {
        return false;
    }
    let script =
        format!("#!/bin/sh\n# Petrel's tests install a server.\n[ ! -d /proc/{} ] || exit 101\n", std::process::id());
    fs::write(POLICY, script).expect("root may write it");
    fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).expect("our own file");
    true
}

/// Erlang's port mappers that belong to the user `rabbitmq`. Installing the package leaves one that listens to the
/// whole network.
fn port_mappers() -> Vec<i32> {
    let Some((user, _)) = user("rabbitmq") else { return Vec::new() };
    let processes = fs::read_dir("/proc").expect("Linux").filter_map(|entry| Some(entry.ok()?.path()));
    let mappers = processes.filter(|process| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        name.trim() == "epmd" && fs::metadata(process).is_ok_and(|owned| owned.uid() == user)
    });
    mappers.filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
}

fn end(processes: impl Iterator<Item = i32>) {
    for pid in processes {
        // It may have ended by itself.
        if let Err(error) = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::TERM) {
            assert_eq!(error, rustix::io::Errno::SRCH, "the port mapper {pid} does not go");
        }
    }
}

/// The ids of a user and of his group.
pub(super) fn user(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2);
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}
