//! A server that ends with us: its processes, its folder, and a guard that outlives this process just long enough to
//! end the first and remove the second.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{eventually, is_dead, stat};

/// Marks every process of a server; its value is the server's folder.
const MARK: &str = "PETREL_TEST_SERVER";

/// So much of the log is shown when a story fails.
const SHOWN_LOG_BYTES: usize = 4000;

/// Waits until nobody holds the other end of its input: we let go of it, or we are gone, in whatever way. A process
/// belongs to the server if it has the mark, or works in the folder `data`: PostgreSQL writes over its environment. So
/// does OpenSSH, which works nowhere and has the folder in its title.
const GUARD: &str = r#"
folder=$1 signal=$2 patience=30
while read -r _; do :; done
members() {
    grep -lszxF "PETREL_TEST_SERVER=$folder" /proc/[0-9]*/environ | cut -d/ -f3
    grep -ls "^sshd: .*$folder/" /proc/[0-9]*/cmdline | cut -d/ -f3
    for process in /proc/[0-9]*; do
        if [ "$process/cwd" -ef "$folder/data" ]; then echo "${process#/proc/}"; fi
    done
}
while pids=$(members); [ -n "$pids" ]; do
    if [ $patience -eq 0 ]; then signal=KILL; else patience=$((patience - 1)); fi
    kill -s "$signal" $pids
    kill -s CONT $pids
    sleep 0.1
done
rm -rf "$folder"
"#;

/// A server in a folder of its own. Dropped, it ends, and the folder is removed.
pub(crate) struct Guarded {
    name: &'static str,
    folder: PathBuf,
    server: Option<Child>,
    guard: Child,
}

impl Guarded {
    /// A folder and a guard. The guard asks with `last_signal` first and kills those who do not listen.
    pub(crate) fn new(name: &'static str, last_signal: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("petrel-test-").tempdir().expect("a temporary folder").keep();
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard"]).arg(&folder).arg(last_signal).current_dir("/");
        // What is sent to our own group from a terminal is not meant for the guard.
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let guard = guard.spawn().expect("a shell");
        Self { name, folder, server: None, guard }
    }

    /// All that the server writes is below.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a process of the server that does its work and ends.
    pub(crate) async fn run(&self, mut command: Command) -> String {
        command.env(MARK, &self.folder).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).output().await.expect("the program starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "a program of {} failed: {said}", self.name);
        said
    }

    /// Starts the server itself.
    pub(crate) fn start(&mut self, mut command: Command) {
        assert!(self.server.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        command.env(MARK, &self.folder).stdin(Stdio::null()).process_group(0);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(command.spawn().expect("the server starts"));
    }

    /// Fails if the server has ended by itself.
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.server.as_mut().expect("it was started").try_wait().expect("our own child");
        assert!(ended.is_none(), "{} ended while it started: {ended:?}", self.name);
    }

    /// Ends all of its processes as a power cut would.
    pub(crate) async fn kill_9(&mut self) {
        let mut server = self.server.take().expect("it runs");
        // First of all: it would notice the end of the others and begin to clean up.
        server.kill().expect("our own child");
        server.wait().expect("our own child");
        eventually("every process of the server is gone", async || {
            let members = self.members();
            send(&members, Signal::KILL);
            members.is_empty().then_some(())
        })
        .await;
    }

    /// Stops all of its processes where they are: connections stay open, nobody answers.
    pub(crate) async fn pause(&self) {
        eventually("every process of the server stands still", async || {
            let members = self.members();
            send(&members, Signal::STOP);
            members.iter().all(|pid| is_stopped(*pid)).then_some(())
        })
        .await;
    }

    /// Lets them go on.
    pub(crate) async fn resume(&self) {
        eventually("no process of the server stands still", async || {
            let members = self.members();
            send(&members, Signal::CONT);
            members.iter().all(|pid| !is_stopped(*pid)).then_some(())
        })
        .await;
    }

    /// Its processes, without those that only wait to be picked up.
    pub(crate) fn members(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.folder.display());
        let data = self.folder.join("data");
        let processes = fs::read_dir("/proc").expect("Linux").filter_map(|entry| Some(entry.ok()?.path()));
        let members = processes.filter(|process| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            let marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
            let title = fs::read(process.join("cmdline")).unwrap_or_default();
            let title = String::from_utf8_lossy(&title).into_owned();
            let listens = title.starts_with("sshd: ") && title.contains(&format!("{}/", self.folder.display()));
            marked || listens || fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == data)
        });
        let pids = members.filter_map(|process| process.file_name()?.to_str()?.parse().ok());
        pids.filter(|pid| !is_dead(*pid)).collect()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }
}

fn send(processes: &[i32], signal: Signal) {
    for pid in processes {
        match kill_process(Pid::from_raw(*pid).expect("a pid"), signal) {
            // It ended by itself in the meantime.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("cannot signal {pid}: {error}"),
        }
    }
}

fn is_stopped(pid: i32) -> bool {
    stat(pid).is_none_or(|fields| fields[0] == "T")
}

impl Drop for Guarded {
    #[expect(clippy::print_stderr, reason = "whoever reads of the failure wants to read this")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.log_file()).unwrap_or_default();
            let end = log.get(log.len().saturating_sub(SHOWN_LOG_BYTES)..).unwrap_or_default();
            eprintln!("{} said:\n{}", self.name, String::from_utf8_lossy(end));
        }
        drop(self.guard.stdin.take());
        for child in [Some(&mut self.guard), self.server.as_mut()].into_iter().flatten() {
            child.wait().expect("our own child");
        }
    }
}
