//! A person who sits in the chat room, gives commands and hears everything.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::clock::{self, Clock};

/// The room of the story.
pub(super) const ROOM: &str = "#bot-testing";
/// Who sits in it.
const NICK: &str = "ann";

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The person.
#[derive(Debug)]
pub(super) struct Person {
    clock: Arc<dyn Clock>,
    memory: Arc<Mutex<Memory>>,
    writer: Arc<Mouth>,
}

type Mouth = tokio::sync::Mutex<OwnedWriteHalf>;

#[derive(Debug, Default)]
struct Memory {
    said: Vec<String>,
    present: BTreeSet<String>,
}

impl Person {
    /// Comes into the room. What is heard there is kept by a task that the caller runs.
    pub(super) async fn join(
        port: u16,
        password: &str,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<(Self, impl Future<Output = anyhow::Result<()>> + use<>)> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("going to the chat")?;
        let (reader, writer) = stream.into_split();
        let person = Self { clock, memory: Arc::default(), writer: Arc::new(Mouth::new(writer)) };
        let greeting = format!("PASS {password}\r\nNICK {NICK}\r\nUSER {NICK} 0 * :{NICK}\r\nJOIN {ROOM}");
        send(&person.writer, &greeting).await?;
        let listening = listen(reader, Arc::clone(&person.writer), Arc::clone(&person.memory));
        Ok((person, listening))
    }

    /// Gives a command.
    pub(super) async fn say(&self, text: &str) -> anyhow::Result<()> {
        send(&self.writer, &format!("PRIVMSG {ROOM} :{text}")).await
    }

    /// What was said so far.
    pub(super) fn heard(&self) -> Vec<String> {
        locked(&self.memory).said.clone()
    }

    /// Waits until a line is said that has this in it, after the first `from` ones.
    pub(super) async fn hear(&self, part: &str, from: usize) -> anyhow::Result<String> {
        let begun = self.clock.monotonic();
        loop {
            let found = locked(&self.memory).said.iter().skip(from).find(|line| line.contains(part)).cloned();
            if let Some(line) = found {
                return Ok(line);
            }
            let waited = self.clock.monotonic().saturating_sub(begun);
            ensure!(waited < PATIENCE, "nobody said `{part}` in {ROOM}, only {:?}", self.heard());
            clock::sleep(&*self.clock, LOOK_EVERY).await;
        }
    }

    /// Waits until the bot is in the room.
    pub(super) async fn meet(&self, bot: &str) -> anyhow::Result<()> {
        let begun = self.clock.monotonic();
        loop {
            send(&self.writer, &format!("NAMES {ROOM}")).await?;
            clock::sleep(&*self.clock, LOOK_EVERY * 4).await;
            if locked(&self.memory).present.contains(bot) {
                return Ok(());
            }
            let waited = self.clock.monotonic().saturating_sub(begun);
            ensure!(waited < PATIENCE, "{bot} does not come into {ROOM}");
        }
    }
}

/// Keeps what is said in the room, and who is there, until the server closes.
async fn listen(reader: OwnedReadHalf, writer: Arc<Mouth>, memory: Arc<Mutex<Memory>>) -> anyhow::Result<()> {
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await.context("listening in the chat")? {
        if let Some(token) = line.strip_prefix("PING ") {
            send(&writer, &format!("PONG {token}")).await?;
        } else if let Some((_, text)) = line.split_once(&format!(" PRIVMSG {ROOM} :")) {
            locked(&memory).said.push(text.to_owned());
        } else if let Some((_, names)) = line.split_once(&format!(" {ROOM} :")).filter(|_| line.contains(" 353 ")) {
            let names = names.split_whitespace().map(|name| name.trim_start_matches(['@', '+']).to_owned());
            locked(&memory).present.extend(names);
        }
    }
    Ok(())
}

async fn send(writer: &Mouth, line: &str) -> anyhow::Result<()> {
    writer.lock().await.write_all(format!("{line}\r\n").as_bytes()).await.context("speaking in the chat")
}

fn locked(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
