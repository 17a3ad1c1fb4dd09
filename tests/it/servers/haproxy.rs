//! An HAProxy of our own, whose servers come and go by its runtime API. It can be killed and started again.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::guarded::Guarded;
use super::packages::HAPROXY;
use super::ports::free_port;
use crate::support::eventually;

/// Without `option redispatch`: what goes to a server that is dead shows, and is not mended by another one. A check that is
/// answered late is answered: without a time of its own it would have to be there within the interval, which a busy
/// machine misses now and then.
const DEFAULTS: &str = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n    \
                        timeout queue 10s\n    timeout check 5s\n";

/// A load balancer that runs, or the place where one ran.
pub(crate) struct Haproxy {
    guarded: Guarded,
    program: PathBuf,
    admin: u16,
    /// What people visit, backend by backend.
    doors: Vec<(String, u16)>,
}

impl Haproxy {
    /// Makes one that has these backends, each with a port of its own for visitors, and waits until it answers. What
    /// stands below a backend is given; a check of `/health` and a dynamic balance come before.
    pub(crate) async fn start(backends: &[(&str, &str)]) -> Self {
        super::announce();
        let program = HAPROXY.programs().await.join("haproxy");
        let guarded = Guarded::new(HAPROXY.name, "TERM");
        let admin = free_port();
        let socket = guarded.folder().join("admin.sock");
        let mut text = format!(
            "global\n    stats socket {} mode 600 level admin\n    stats socket ipv4@127.0.0.1:{admin} level admin\n    \
             maxconn 2000\n{DEFAULTS}",
            socket.display()
        );
        let mut doors = Vec::new();
        for (backend, below) in backends {
            let port = free_port();
            write!(
                text,
                "frontend to_{backend}\n    bind 127.0.0.1:{port}\n    default_backend {backend}\n\
                 backend {backend}\n    balance leastconn\n    option httpchk GET /health\n{below}\n"
            )
            .expect("a text");
            doors.push(((*backend).to_owned(), port));
        }
        fs::write(guarded.folder().join("haproxy.cfg"), text).expect("our own folder");
        let mut haproxy = Self { guarded, program, admin, doors };
        haproxy.start_again().await;
        haproxy
    }

    /// Where visitors of a backend go.
    pub(crate) fn url(&self, backend: &str) -> String {
        let (_, port) = self.doors.iter().find(|(name, _)| name == backend).expect("one of its backends");
        format!("http://127.0.0.1:{port}")
    }

    /// Where it takes commands, as a socket in the file system.
    pub(crate) fn socket(&self) -> PathBuf {
        self.guarded.folder().join("admin.sock")
    }

    /// Where it takes commands, as a port.
    pub(crate) fn admin(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin).into()
    }

    /// Says a command as somebody who is not Petrel; gives back the answer.
    pub(crate) async fn say(&self, command: &str) -> String {
        self.try_say(command).await.unwrap_or_else(|| panic!("HAProxy does not answer `{command}`"))
    }

    /// The servers of a backend that get requests, by name.
    pub(crate) async fn serving(&self, backend: &str) -> Vec<String> {
        let said = self.say(&format!("show servers state {backend}")).await;
        let rows = said.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect::<Vec<_>>());
        let mut names: Vec<String> =
            rows.filter(|fields| fields.len() > 6 && fields[5] == "2").map(|fields| fields[3].to_owned()).collect();
        names.sort();
        names
    }

    async fn try_say(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin()).await.ok()?;
        stream.write_all(format!("{command}\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill_9(&mut self) {
        self.guarded.kill_9().await;
    }

    /// Starts it after its end, on the same ports, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-db").arg("-f").arg(self.guarded.folder().join("haproxy.cfg"));
        self.guarded.start(command);
        eventually("HAProxy answers a command", async || {
            self.guarded.assert_alive();
            self.try_say("show info").await
        })
        .await;
    }
}
