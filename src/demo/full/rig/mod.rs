//! All servers of the whole story, started privately on free ports, with their files in one folder.

mod setting;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustix::process::geteuid;

use self::setting::Setting;
use super::programs::Programs;
use super::server::{self, Server};
use crate::clock::{Clock, Ids, SystemIds};

/// The zone that the nodes are named in.
pub(super) const DOMAIN: &str = "petrel.test";

/// What one node of the story serves, in requests a second: four at a time, each for 50 ms.
pub(super) const NODE_CAPACITY: u32 = 80;

/// Where OpenSSH wants to lock itself in if it runs as root.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// A socket's path has a limit of 107 bytes.
const LONGEST_FOLDER: usize = 80;

/// Files below the rig's folder.
const FILES: [(&str, &str); 9] = [
    ("haproxy.cfg", include_str!("haproxy.cfg")),
    ("bind/named.conf", include_str!("named.conf")),
    ("bind/key.conf", include_str!("key.conf")),
    ("bind/zone", include_str!("zone")),
    ("ssh/sshd_config", include_str!("sshd_config")),
    ("ngircd.conf", include_str!("ngircd.conf")),
    ("prometheus/prometheus.yml", include_str!("prometheus.yml")),
    ("prometheus/rules.yml", include_str!("rules.yml")),
    ("prometheus/alertmanager.yml", include_str!("alertmanager.yml")),
];

/// Doors that are needed.
const PORTS: [&str; 9] =
    ["WEB", "HAPROXY_METRICS", "DNS", "SSH", "IRC", "PROMETHEUS", "ALERTMANAGER", "PETREL", "NEWRELIC"];
/// What nobody else may know.
const SECRETS: [&str; 3] = ["DNS_SECRET", "IRC_PASSWORD", "ALERTMANAGER_PASSWORD"];

/// The servers while they run.
#[derive(Debug)]
pub(super) struct Rig {
    folder: PathBuf,
    programs: Programs,
    setting: Setting,
    servers: Vec<Server>,
}

impl Rig {
    /// Starts all of them, in a folder of their own below `folder`.
    pub(super) async fn start(folder: &Path, programs: Programs, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let folder = folder.join("servers");
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
        let plain = folder.to_string_lossy().chars().all(letter) && folder.as_os_str().len() <= LONGEST_FOLDER;
        ensure!(
            plain,
            "servers are told of files below {}, which has other letters than a-z, 0-9, `.`, `_` and `-` or is longer than \
             {LONGEST_FOLDER} bytes: name another folder with --data-dir",
            folder.display()
        );
        let setting = setting(&folder, clock)?;
        for (name, template) in FILES {
            setting.write(&folder.join(name), template)?;
        }
        let mut rig = Self { folder, programs, setting, servers: Vec::new() };
        rig.make_keys().await?;
        rig.start_servers(clock).await?;
        Ok(rig)
    }

    /// Writes a file in which ports, secrets and the folder stand as `@NAME@`.
    pub(super) fn write(&self, file: &Path, template: &str) -> anyhow::Result<()> {
        self.setting.write(file, template)
    }

    /// One of [`PORTS`] on this machine.
    pub(super) fn port(&self, name: &str) -> u16 {
        self.setting.get(name).parse().unwrap_or(0)
    }

    /// Where visitors go.
    pub(super) fn web(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port("WEB"))
    }

    /// Where HAProxy takes commands.
    pub(super) fn haproxy_socket(&self) -> PathBuf {
        self.folder.join("haproxy.sock")
    }

    /// What people must say to be let into the chat.
    pub(super) fn irc_password(&self) -> &str {
        self.setting.get("IRC_PASSWORD")
    }

    /// The names in the zone, without those that every zone has, as the server itself gives them.
    pub(super) async fn records(&self) -> anyhow::Result<Vec<String>> {
        let (port, key) = (self.port("DNS").to_string(), self.folder.join("bind/key.conf"));
        let words = [
            "@127.0.0.1",
            "-p",
            &port,
            "-k",
            &key.to_string_lossy(),
            "+tcp",
            "+noall",
            "+answer",
            "+onesoa",
            DOMAIN,
            "AXFR",
        ];
        let said = server::run(&self.programs.dig, &words).await?;
        let names = said.lines().filter_map(|line| line.split_whitespace().next());
        let names =
            names.map(|name| name.trim_end_matches('.')).filter(|name| name.ends_with(&format!(".web.{DOMAIN}")));
        Ok(names.map(str::to_owned).collect())
    }

    /// Makes a PNG of a picture.
    pub(super) async fn rasterise(&self, svg: &Path, png: &Path) -> anyhow::Result<()> {
        let (from, to) = (svg.to_string_lossy(), png.to_string_lossy());
        server::run(&self.programs.rsvg_convert, &["--zoom", "1.5", "-o", &to, &from]).await?;
        Ok(())
    }

    /// Ends all of them, the last one first.
    pub(super) async fn end(self, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        for server in self.servers.into_iter().rev() {
            server.end(clock).await?;
        }
        Ok(())
    }

    /// The host's key and the one that Petrel logs in with.
    async fn make_keys(&self) -> anyhow::Result<()> {
        let ssh = self.folder.join("ssh");
        for name in ["host_key", "id"] {
            let file = ssh.join(name);
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file.to_string_lossy()];
            server::run(&self.programs.ssh_keygen, &words).await?;
        }
        std::fs::copy(ssh.join("id.pub"), ssh.join("authorized_keys"))?;
        if geteuid().is_root() {
            std::fs::create_dir_all(PRIVILEGE_SEPARATION).with_context(|| {
                format!("making {PRIVILEGE_SEPARATION}, without which no SSH server of root starts")
            })?;
        }
        Ok(())
    }

    async fn start_servers(&mut self, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let listen = |port: &str| format!("--web.listen-address=127.0.0.1:{}", self.port(port));
        let prometheus = [
            format!("--config.file={}", at("prometheus/prometheus.yml")),
            format!("--storage.tsdb.path={}", at("prometheus/tsdb")),
            listen("PROMETHEUS"),
        ];
        let alertmanager = [
            format!("--config.file={}", at("prometheus/alertmanager.yml")),
            format!("--storage.path={}", at("prometheus/alertmanager")),
            listen("ALERTMANAGER"),
            "--cluster.listen-address=".to_owned(),
        ];
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let Programs {
            haproxy,
            named,
            sshd,
            ngircd,
            prometheus: prometheus_program,
            alertmanager: alertmanager_program,
            ..
        } = &self.programs;
        let all = [
            ("haproxy", haproxy, words(&["-db", "-f", &at("haproxy.cfg")]), "WEB"),
            ("named", named, words(&["-g", "-n", "1", "-c", &at("bind/named.conf")]), "DNS"),
            ("sshd", sshd, words(&["-D", "-e", "-f", &at("ssh/sshd_config")]), "SSH"),
            ("ngircd", ngircd, words(&["-n", "-f", &at("ngircd.conf")]), "IRC"),
            ("alertmanager", alertmanager_program, alertmanager.to_vec(), "ALERTMANAGER"),
            ("prometheus", prometheus_program, prometheus.to_vec(), "PROMETHEUS"),
        ];
        let mut started = Vec::new();
        for (name, program, arguments, port) in all {
            started.push((Server::start(name, program, &arguments, &self.folder)?, self.port(port)));
        }
        for (mut server, port) in started {
            server.listens(port, clock).await?;
            self.servers.push(server);
        }
        Ok(())
    }
}

/// Ports, secrets and the folder.
fn setting(folder: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Setting> {
    let ids = SystemIds::new(Arc::clone(clock));
    let mut setting = Setting::default();
    setting.set("FOLDER", folder.display().to_string());
    setting.set("NODE_CAPACITY", NODE_CAPACITY.to_string());
    // all are held until each has its own
    let held: io::Result<Vec<TcpListener>> = PORTS.iter().map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
    for (name, listener) in PORTS.iter().zip(&held.context("taking free ports")?) {
        setting.set(name, listener.local_addr()?.port().to_string());
    }
    for name in SECRETS {
        // hex is base64 too
        let (one, two) = (ids.random_u64(), ids.random_u64());
        setting.set(name, format!("{one:016x}{two:016x}"));
    }
    // nobody: who is root need not be heard by everybody
    let user = if geteuid().is_root() { "ServerUID = 65534\nServerGID = 65534" } else { "" };
    setting.set("IRC_USER", user.to_owned());
    Ok(setting)
}
