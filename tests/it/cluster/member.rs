//! One daemon of several: a process with its own data folder and its own network to the servers, which can be killed,
//! stopped, and started again on the same port.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::door::Door;
use crate::servers::{Proxy, free_port};
use crate::support::{eventually, stat};

/// So much of the log is shown when a story fails.
const SHOWN_LOG_BYTES: usize = 4000;

/// Kills the daemon when nobody holds its input any more: we let go of it, or we are gone, in whatever way.
const GUARD: &str = "while read -r _; do :; done; kill -KILL $1";

/// What makes a daemon one of a cluster.
pub(super) struct Plan {
    pub(super) number: usize,
    /// The site that all of them serve.
    pub(super) site: PathBuf,
    /// Keys of the configuration that are the same for all.
    pub(super) settings: Vec<(String, String)>,
    /// `api,workers`; all if empty.
    pub(super) roles: &'static str,
    pub(super) database: String,
    pub(super) broker: Option<String>,
}

/// A daemon that runs, or the place where one ran.
pub(super) struct Member {
    plan: Plan,
    port: u16,
    life: Option<Life>,
    /// Its network to the database.
    pub(super) database: Proxy,
    /// Its network to the broker.
    pub(super) broker: Option<Proxy>,
    /// Requests to it.
    pub(super) door: Door,
}

struct Life {
    child: Child,
    /// Dropped first when it is to be left alone, see [`Member::kill_9`].
    guard: Child,
}

impl Member {
    /// A place for a daemon; none runs yet.
    pub(super) async fn new(plan: Plan, key: Arc<OnceLock<String>>) -> Self {
        let database = Proxy::in_front_of(&plan.database).await;
        let broker = match &plan.broker {
            Some(url) => Some(Proxy::in_front_of(url).await),
            None => None,
        };
        let port = free_port();
        let door = Door::new(format!("http://127.0.0.1:{port}"), key);
        Self { plan, port, life: None, database, broker, door }
    }

    /// Which one it is.
    pub(super) const fn number(&self) -> usize {
        self.plan.number
    }

    /// Starts its process, and does not wait for anything.
    pub(super) fn spawn(&mut self) {
        assert!(self.life.is_none(), "daemon {} runs already", self.number());
        let child = self.command().spawn().unwrap();
        let pid = child.id().expect("it was not waited for").to_string();
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard", &pid]).current_dir("/").process_group(0).kill_on_drop(true);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.life = Some(Life { child, guard: guard.spawn().unwrap() });
    }

    fn command(&self) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
        command.arg("serve").arg("--data-dir").arg(self.data_dir());
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        if !self.plan.roles.is_empty() {
            command.args(["--roles", self.plan.roles]);
        }
        command.current_dir(&self.plan.site).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut set = |key: &str, value: &str| {
            command.env(format!("PETREL__{}", key.replace('.', "__").to_uppercase()), value);
        };
        set("store.url", &self.database.through(&self.plan.database));
        if let (Some(proxy), Some(url)) = (&self.broker, &self.plan.broker) {
            set("bus.url", &proxy.through(url));
        }
        set("secrets.key_file", &self.plan.site.join("shared.key").display().to_string());
        set("workers.guards_dir", &self.plan.site.join("guards").display().to_string());
        // Its port is one for all daemons of a host.
        set("listeners.newrelic.enabled", "false");
        self.plan.settings.iter().for_each(|(key, value)| set(key, value));
        command.kill_on_drop(true);
        command
    }

    /// Waits until it says that it is ready.
    pub(super) async fn until_ready(&mut self) {
        let number = self.number();
        eventually(&format!("daemon {number} is ready"), async || {
            self.assert_alive();
            let (status, _) = self.door.readiness().await?;
            status.is_success().then_some(())
        })
        .await;
    }

    /// Fails if it has ended by itself.
    pub(super) fn assert_alive(&mut self) {
        let number = self.number();
        let life = self.life.as_mut().unwrap_or_else(|| panic!("daemon {number} was not started"));
        let ended = life.child.try_wait().unwrap();
        assert!(ended.is_none(), "daemon {number} ended by itself: {ended:?}");
    }

    /// Its process.
    pub(super) fn pid(&self) -> Pid {
        let id = self.life.as_ref().and_then(|life| life.child.id()).expect("it runs");
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// Ends it as a power cut would.
    pub(super) async fn kill_9(&mut self) {
        self.assert_alive();
        let mut life = self.life.take().expect("it runs");
        // The guard first: the number of a dead process may soon be another's.
        life.guard.kill().await.unwrap();
        life.child.kill().await.unwrap();
    }

    /// Stops it where it is: it keeps its connections and its ports, and does nothing.
    pub(super) async fn stop(&mut self) {
        self.assert_alive();
        let pid = self.pid();
        kill_process(pid, Signal::STOP).unwrap();
        eventually("the daemon stands still", async || (state(pid) == "T").then_some(())).await;
    }

    /// Lets it go on.
    pub(super) async fn go_on(&mut self) {
        self.assert_alive();
        let pid = self.pid();
        kill_process(pid, Signal::CONT).unwrap();
        eventually("the daemon moves again", async || (state(pid) != "T").then_some(())).await;
    }

    /// Where it keeps what is its own.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.plan.site.join(format!("daemon-{}", self.number()))
    }

    fn log_file(&self) -> PathBuf {
        self.plan.site.join(format!("daemon-{}.log", self.number()))
    }

    /// Everything it has said so far, over all its lives.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

fn state(pid: Pid) -> String {
    stat(pid.as_raw_nonzero().get()).map(|fields| fields[0].clone()).unwrap_or_default()
}

/// Keeps the log for whoever looks for the cause of a failure.
fn keep(log: &Path, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let kept = folder.join(log.file_name().expect("a file"));
    fs::write(&kept, text).unwrap();
    kept
}

impl Drop for Member {
    #[expect(clippy::print_stderr, reason = "whoever reads of the failure wants to read this")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.floor_char_boundary(log.len().saturating_sub(SHOWN_LOG_BYTES));
            let kept = keep(&self.log_file(), &log);
            let end = log.get(from..).unwrap_or_default();
            eprintln!("daemon {} said (all of it is in {}):\n{end}", self.number(), kept.display());
        }
    }
}
