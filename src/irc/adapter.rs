//! The loop: of several daemons one is in the rooms; it hears commands, hands them to chat's desk, and says what is
//! announced. How far it has read the announcements is kept, so that a daemon that comes back goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::session::{Mouth, connect};
use super::settings::Settings;
use crate::bus::{Bus, Hints, Topic};
use crate::chat::desk::{Desk, Speaker};
use crate::clock::Clock;
use crate::cluster::Turns;
use crate::model::pack::Catalogue;
use crate::store::{Announcements, Contents};
use crate::supervise::Backoff;

const TURN: &str = "chat:irc";
/// How far announcements were read.
const CURSOR: &str = "chat:irc";
/// Answers to commands that were given here come back by it.
const ROUTE: &str = "irc";
/// A lost hint costs this much.
const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);
const BATCH: i64 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Chat over IRC.
pub struct Adapter {
    /// Understands commands.
    pub desk: Desk,
    /// What is to be said.
    pub announcements: Announcements,
    /// Where the cursor is kept.
    pub contents: Contents,
    /// Tells of news.
    pub bus: Arc<dyn Bus>,
    /// The configuration.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// One daemon at a time.
    pub turns: Turns,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("irc::Adapter")
    }
}

impl Adapter {
    /// Is in the rooms until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut trouble = Trouble::new();
        while !stop.is_cancelled() {
            let mut catalogue = self.catalogue.clone();
            let settings = Settings::of(&catalogue.borrow_and_update());
            if let Err(problem) = &settings {
                tracing::error!(problem, "nobody is in the rooms of IRC");
            }
            let Ok(Some(settings)) = settings else {
                tokio::select! {
                    changed = catalogue.changed() => changed?,
                    () = stop.cancelled() => {}
                }
                continue;
            };
            let pause = if self.turns.take(TURN).await? {
                let left = self.be_there(&settings, catalogue, &mut trouble, &stop).await;
                trouble.pause_after(left)
            } else {
                Turns::EVERY
            };
            tokio::select! {
                () = self.clock.sleep_for(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One connection, until the configuration changes, the turn is lost or the daemon stops.
    async fn be_there(
        &self,
        settings: &Settings,
        mut catalogue: watch::Receiver<Arc<Catalogue>>,
        trouble: &mut Trouble,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (mut ear, mut mouth) = tokio::select! {
            joined = connect(settings, &*self.clock) => joined?,
            () = stop.cancelled() => return Ok(()),
        };
        *trouble = Trouble::new();
        tracing::info!(server = settings.server, channels = ?settings.channels, "in the rooms of IRC");
        let mut news = self.bus.listen(Topic::Announcements);
        let mut kept_at = self.clock.monotonic();
        let mut cursor = self.cursor().await?;
        loop {
            self.pass_on(settings, &mut mouth, &mut cursor).await?;
            // Only waiting is given up when something else happens; what was begun for a line is finished.
            let mut heard = None;
            tokio::select! {
                line = ear.hear() => heard = Some(line?),
                () = self.wait(&mut news) => {}
                changed = catalogue.changed() => {
                    changed?;
                    if Settings::of(&catalogue.borrow_and_update()).ok().flatten().as_ref() != Some(settings) {
                        return Ok(());
                    }
                }
                () = stop.cancelled() => return mouth.send("QUIT :Petrel stops", &*self.clock).await,
            }
            if let Some(line) = heard {
                self.react(settings, &line, &mut mouth).await?;
            }
            if self.clock.monotonic() >= kept_at.saturating_add(Turns::EVERY) {
                kept_at = self.clock.monotonic();
                if !self.turns.take(TURN).await? {
                    return Ok(());
                }
            }
        }
    }

    async fn wait(&self, news: &mut Hints) {
        tokio::select! {
            () = news.heard() => {}
            () = self.clock.sleep_for(LOOK_BY_ITSELF) => {}
        }
    }

    /// What a line asks for.
    async fn react(&self, settings: &Settings, line: &Line, mouth: &mut Mouth) -> anyhow::Result<()> {
        match line.command.as_str() {
            "PING" => mouth.send(&format!("PONG :{}", line.parameter(0)), &*self.clock).await,
            "ERROR" => anyhow::bail!("the server said: {}", line.parameter(0)),
            "PRIVMSG" if line.parameter(1).starts_with('!') => {
                let to =
                    if line.parameter(0) == settings.nick { line.from.clone() } else { line.parameter(0).to_owned() };
                let answer = self.answer(settings, line, &to).await;
                match answer {
                    Some(answer) => mouth.say(&to, &format!("{}: {answer}", line.from), &*self.clock).await,
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    async fn answer(&self, settings: &Settings, line: &Line, room: &str) -> Option<String> {
        let said = line.parameter(1);
        if said.trim() == "!help" {
            return Some(self.desk.book().aliases().map(|alias| alias.help()).collect());
        }
        let Some(user) = settings.users.get(&line.from) else {
            return Some("I do not know you; somebody has to add you to `users` in configs/irc.yaml".to_owned());
        };
        let speaking = async {
            let speaker = Speaker {
                user: user.clone(),
                role: self.desk.role_of(user).await?,
                chat_user: line.from.clone(),
                channel: room.to_owned(),
                route: ROUTE.to_owned(),
            };
            self.desk.say(said, &speaker).await
        };
        match speaking.await {
            Ok(begun) => begun.message,
            Err(refusal) => Some(refusal.to_string()),
        }
    }

    /// Who comes for the first time does not say what is old.
    async fn cursor(&self) -> anyhow::Result<i64> {
        if let Some(text) = self.contents.setting_get(CURSOR).await? {
            return Ok(text.parse()?);
        }
        let last = self.announcements.announcements_last().await?;
        self.contents.setting_put(CURSOR, Some(&last.to_string())).await?;
        Ok(last)
    }

    /// Says what was announced since the last time. What was said is remembered one by one.
    async fn pass_on(&self, settings: &Settings, mouth: &mut Mouth, cursor: &mut i64) -> anyhow::Result<()> {
        let begun_at = *cursor;
        for row in self.announcements.announcements_read(*cursor, BATCH).await? {
            *cursor = row.sequence;
            let meant = row.name.starts_with("st2.announcement__").then_some(row.payload).flatten();
            if let Some((to, message)) = meant.and_then(|payload| said_to(settings, &payload)) {
                mouth.say(&to, &message, &*self.clock).await?;
                self.contents.setting_put(CURSOR, Some(&cursor.to_string())).await?;
            }
        }
        if *cursor != begun_at {
            self.contents.setting_put(CURSOR, Some(&cursor.to_string())).await?;
        }
        Ok(())
    }
}

/// Says what keeps us out of the rooms once and not at every attempt, and tries less often meanwhile.
struct Trouble {
    problem: Option<String>,
    backoff: Backoff,
}

impl Trouble {
    fn new() -> Self {
        Self { problem: None, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// How long to wait after a connection has ended like this.
    fn pause_after(&mut self, left: anyhow::Result<()>) -> Duration {
        let Err(problem) = left else {
            return Duration::ZERO;
        };
        let problem = format!("{problem:#}");
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(problem, "out of the rooms of IRC; trying again");
            *self = Self { problem: Some(problem), ..Self::new() };
        }
        self.backoff.next_delay()
    }
}

/// Whom an announcement is for, and in what words; `None`: nobody here.
fn said_to(settings: &Settings, payload: &Value) -> Option<(String, String)> {
    let payload = payload.get("payload").unwrap_or(payload);
    let text = |name: &str| payload[name].as_str();
    let (channel, message) = (text("channel")?, text("message")?);
    let to = match settings.room(channel) {
        Some(room) => room,
        // Somebody who asked for it in private.
        None if text("route") == Some(ROUTE) && settings.users.contains_key(channel) => channel,
        None => return None,
    };
    let message = match text("user").filter(|user| !user.is_empty() && *user != to) {
        Some(user) => format!("{user}: {message}"),
        None => message.to_owned(),
    };
    Some((to.to_owned(), message))
}
