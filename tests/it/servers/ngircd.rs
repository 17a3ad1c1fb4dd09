//! An ngircd of our own, and people who sit in its rooms.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use petrel::clock::{SystemClock, timeout};
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::guarded::Guarded;
use super::packages::{NGIRCD, user};
use super::ports::free_port;
use crate::support::eventually;

/// Whoever waits longer for the next line waits in vain.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it wants to hear from everybody.
pub(crate) const PASSWORD: &str = "let-me-in";

/// A chat server that runs, or the place where one ran.
pub(crate) struct Ngircd {
    guarded: Guarded,
    program: PathBuf,
    port: u16,
}

impl Ngircd {
    /// Makes one and waits until it answers.
    pub(crate) async fn start() -> Self {
        super::announce();
        let program = NGIRCD.programs().await.join("ngircd");
        let guarded = Guarded::new(NGIRCD.name, "TERM");
        let port = free_port();
        let mut text = format!(
            "[Global]\nName = irc.petrel.test\nInfo = Petrel\nListen = 127.0.0.1\nPorts = {port}\nPassword = {PASSWORD}\n\
             MotdPhrase = \"hi\"\n"
        );
        if geteuid().is_root() {
            let (uid, gid) = user("nobody").expect("a user who is not root");
            writeln!(text, "ServerUID = {uid}\nServerGID = {gid}").expect("a text");
        }
        text += "[Limits]\nMaxConnectionsIP = 0\nMaxPenaltyTime = 0\n[Options]\nIdent = no\nPAM = no\nDNS = no\n";
        fs::write(guarded.folder().join("ngircd.conf"), text).expect("our own folder");
        let mut ngircd = Self { guarded, program, port };
        ngircd.start_again().await;
        ngircd
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill_9(&mut self) {
        self.guarded.kill_9().await;
    }

    /// Starts it after its end, on the same port.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-n").arg("-f").arg(self.guarded.folder().join("ngircd.conf"));
        self.guarded.start(command);
        let address = self.address();
        eventually("ngircd takes connections", async || {
            self.guarded.assert_alive();
            TcpStream::connect(&address).await.ok()
        })
        .await;
    }
}

/// Somebody in a room.
pub(crate) struct Person {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Person {
    /// Comes into a room and waits until they are in it.
    pub(crate) async fn join(server: &Ngircd, nick: &str, room: &str) -> Self {
        let (reader, writer) = TcpStream::connect(server.address()).await.unwrap().into_split();
        let mut person = Self { lines: BufReader::new(reader).lines(), writer };
        person.send(&format!("PASS {PASSWORD}\r\nNICK {nick}\r\nUSER {nick} 0 * :{nick}")).await;
        person.hear(" 001 ").await;
        person.send(&format!("JOIN {room}")).await;
        person.hear(" 366 ").await;
        person
    }

    /// Says something in a room.
    pub(crate) async fn say(&mut self, room: &str, text: &str) {
        self.send(&format!("PRIVMSG {room} :{text}")).await;
    }

    /// Sends a line of the protocol.
    pub(crate) async fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// The next line with this in it; who pings is answered on the way.
    pub(crate) async fn hear(&mut self, part: &str) -> String {
        let mut heard = Vec::new();
        loop {
            let line = timeout(&SystemClock::new(), PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("nobody said `{part}`, only {heard:?}"));
            let line = line.unwrap().expect("the server goes on");
            heard.push(line.clone());
            if let Some(token) = line.strip_prefix("PING ") {
                self.send(&format!("PONG {token}")).await;
            }
            if line.contains(part) {
                return line;
            }
        }
    }
}
