//! One connection to a server: lines in and out, with an end to every wait.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::line::{Line, say, whole};
use super::settings::Settings;
use crate::clock::{Clock, timeout};

/// Connecting, being greeted, joining.
const GREETED_WITHIN: Duration = Duration::from_secs(20);
/// A line that cannot be handed to the network within this time is not.
const SENT_WITHIN: Duration = Duration::from_secs(10);
/// Servers end a bot that talks faster for long.
const PACE: Duration = Duration::from_millis(200);
/// Far longer than any line.
const LONGEST_LINE: u64 = 16 * 1024;

/// Where lines come from. Reading may be given up and taken up again.
pub(super) struct Ear {
    reader: BufReader<OwnedReadHalf>,
    unfinished: Vec<u8>,
}

/// Where lines go.
pub(super) struct Mouth {
    writer: OwnedWriteHalf,
}

/// Connects, is greeted, and joins the rooms.
pub(super) async fn connect(settings: &Settings, clock: &dyn Clock) -> anyhow::Result<(Ear, Mouth)> {
    let greeted = timeout(clock, GREETED_WITHIN, greet(settings, clock)).await;
    let server = &settings.server;
    greeted.map_err(|elapsed| anyhow::anyhow!(elapsed)).flatten().with_context(|| format!("joining {server}"))
}

async fn greet(settings: &Settings, clock: &dyn Clock) -> anyhow::Result<(Ear, Mouth)> {
    let (reader, writer) = TcpStream::connect(&settings.server).await?.into_split();
    let mut ear = Ear { reader: BufReader::new(reader), unfinished: Vec::new() };
    let mut mouth = Mouth { writer };
    let Settings { nick, password, channels, .. } = settings;
    if let Some(password) = password {
        mouth.send(&format!("PASS {password}"), clock).await?;
    }
    mouth.send(&format!("NICK {nick}"), clock).await?;
    mouth.send(&format!("USER {nick} 0 * :Petrel"), clock).await?;
    loop {
        let line = ear.hear().await?;
        match line.command.as_str() {
            "001" => break,
            "PING" => mouth.send(&format!("PONG :{}", line.parameter(0)), clock).await?,
            "433" => bail!("the nickname `{nick}` is taken"),
            "464" => bail!("the server wants another password"),
            "ERROR" => bail!("the server said: {}", line.parameter(0)),
            _ => {}
        }
    }
    for channel in channels {
        mouth.send(&format!("JOIN {channel}"), clock).await?;
    }
    Ok((ear, mouth))
}

impl Ear {
    /// The next line. Nothing is lost if this is given up while it waits.
    pub(super) async fn hear(&mut self) -> anyhow::Result<Line> {
        loop {
            let room = LONGEST_LINE.saturating_sub(u64::try_from(self.unfinished.len()).unwrap_or(u64::MAX));
            let read = (&mut self.reader).take(room).read_until(b'\n', &mut self.unfinished).await?;
            ensure!(read > 0, "the server hung up");
            if self.unfinished.last() != Some(&b'\n') {
                continue;
            }
            let bytes = std::mem::take(&mut self.unfinished);
            if let Some(line) = Line::parse(&String::from_utf8_lossy(&bytes)) {
                return Ok(line);
            }
        }
    }
}

impl Mouth {
    /// Says something to a room or a person.
    pub(super) async fn say(&mut self, to: &str, message: &str, clock: &dyn Clock) -> anyhow::Result<()> {
        for line in say(to, message) {
            self.send(&line, clock).await?;
            clock.sleep_for(PACE).await;
        }
        Ok(())
    }

    /// Sends a line of the protocol.
    pub(super) async fn send(&mut self, line: &str, clock: &dyn Clock) -> anyhow::Result<()> {
        let line = format!("{}\r\n", whole(line));
        timeout(clock, SENT_WITHIN, self.writer.write_all(line.as_bytes())).await??;
        Ok(())
    }
}
