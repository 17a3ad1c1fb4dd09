//! An OpenSSH server of our own on the loopback: it lets in whoever starts it, by a key that it makes. It can be killed,
//! started again, and made anew with another host key.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::guarded::Guarded;
use super::packages::OPENSSH;
use super::ports::free_port;
use crate::support::{eventually, stat};

/// Where it puts a process between itself and the network; it does not start without.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";
/// Nothing that lies in the home of whoever runs the tests is asked or changed.
const SETTINGS: &str = "ListenAddress 127.0.0.1\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
                        PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n";

/// A server that runs, or the place where one ran.
pub(crate) struct Sshd {
    guarded: Guarded,
    program: PathBuf,
    port: u16,
}

impl Sshd {
    /// Makes one with a host key and a key to log in with, and waits until it answers.
    pub(crate) async fn start() -> Self {
        super::announce();
        let program = OPENSSH.programs().await.join("sshd");
        if geteuid().is_root() {
            fs::create_dir_all(PRIVILEGE_SEPARATION).expect("root may make it");
        }
        let guarded = Guarded::new(OPENSSH.name, "TERM");
        let mut sshd = Self { guarded, program, port: free_port() };
        let place = |name: &str| sshd.file(name).display().to_string();
        let own = [("HostKey", "host_key"), ("AuthorizedKeysFile", "authorized_keys")];
        let own = own.map(|(key, name)| format!("{key} {}\n", place(name))).concat();
        fs::write(sshd.file("sshd_config"), format!("Port {}\n{own}{SETTINGS}", sshd.port)).expect("our own folder");
        sshd.make_key("host_key", "").await;
        let public = sshd.make_key("id", "").await;
        fs::write(sshd.authorized_keys(), public).expect("our own folder");
        sshd.start_again().await;
        sshd
    }

    /// As it is named in a list of hosts.
    pub(crate) fn host(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The key that it lets in, as text.
    pub(crate) fn private_key(&self) -> String {
        fs::read_to_string(self.file("id")).expect("it was made")
    }

    /// Whom it lets in.
    pub(crate) fn authorized_keys(&self) -> PathBuf {
        self.file("authorized_keys")
    }

    /// Makes a pair of keys in the server's folder; the public one, as a line.
    pub(crate) async fn make_key(&self, name: &str, passphrase: &str) -> String {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f"]).arg(self.file(name));
        self.guarded.run(command).await;
        fs::read_to_string(self.file(&format!("{name}.pub"))).expect("it was made")
    }

    /// A file in the server's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.guarded.folder().join(name)
    }

    /// The same address with another machine behind it.
    pub(crate) async fn replace(&mut self) {
        self.kill_9().await;
        for name in ["host_key", "host_key.pub"] {
            fs::remove_file(self.file(name)).expect("it was made");
        }
        self.make_key("host_key", "").await;
        self.start_again().await;
    }

    /// Ends it as a power cut would, with all of its connections.
    pub(crate) async fn kill_9(&mut self) {
        let listeners = self.guarded.members();
        self.guarded.pause().await;
        let connections = children_of(&listeners);
        self.guarded.kill_9().await;
        for pid in connections {
            match kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL) {
                // It ended by itself in the meantime.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => panic!("cannot end the connection {pid}: {error}"),
            }
        }
    }

    /// Starts it after its end, on the same port, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-D", "-e", "-f"]).arg(self.file("sshd_config"));
        self.guarded.start(command);
        let port = self.port;
        eventually("the SSH server says its name", async || {
            self.guarded.assert_alive();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
            let mut said = [0; 4];
            stream.read_exact(&mut said).await.ok()?;
            (&said == b"SSH-").then_some(())
        })
        .await;
    }
}

/// The processes that these have started and that are alive.
fn children_of(parents: &[i32]) -> Vec<i32> {
    let processes =
        fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &i32| {
        let parent = stat(*pid).and_then(|fields| fields.get(1)?.parse().ok());
        parent.is_some_and(|parent: i32| parents.contains(&parent))
    };
    processes.filter(is_child).collect()
}

/// Whether a file exists, for commands that wait for it.
pub(crate) fn waits_for(file: &Path) -> String {
    format!("while [ ! -e '{}' ]; do sleep 0.05; done", file.display())
}
