//! The loop: of several daemons one says in Slack what is announced. How far it has read is kept, so that a daemon that
//! comes back goes on where it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::once::{Mouth, Notice};
use super::settings::{Settings, is_channel_id, is_member_id};
use super::web::CallError;
use crate::bus::{Bus, Topic};
use crate::clock::Clock;
use crate::cluster::Turns;
use crate::model::pack::Catalogue;
use crate::store::stream::AnnouncementRow;
use crate::store::{Announcements, Contents};
use crate::supervise::Backoff;

/// Answers to commands that were given here come back by it.
pub(super) const ROUTE: &str = "slack";
const TURN: &str = "chat:slack";
/// How far announcements were read.
const CURSOR: &str = "chat:slack";
/// A lost hint costs this much.
const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);
const BATCH: i64 = 100;
/// What was sent and not answered has arrived or will not, before it is looked for.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// More different problems than this are told anew.
const MOST_TOLD: usize = 100;

/// What is said in Slack.
pub struct Adapter {
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
        f.write_str("slack::Adapter")
    }
}

impl Adapter {
    /// Says what is announced until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut trouble = Trouble::new();
        let mut catalogue = self.catalogue.clone();
        while !stop.is_cancelled() {
            let settings = Settings::of(&catalogue.borrow_and_update());
            if let Err(problem) = &settings {
                tracing::error!(problem, "nothing is said in Slack");
            }
            let settings = settings.ok().flatten().filter(|settings| settings.token.is_some());
            let pause = match settings {
                None => None,
                Some(settings) if self.turns.take(TURN).await? => {
                    let left = self.be_there(settings, &mut trouble, &stop).await;
                    Some(trouble.pause_after(left))
                }
                Some(_) => Some(Turns::EVERY),
            };
            tokio::select! {
                () = self.clock.sleep_for(pause.unwrap_or_default()), if pause.is_some() => {}
                changed = catalogue.changed() => changed?,
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Until the configuration changes, the turn is lost, the daemon stops or something goes wrong.
    async fn be_there(
        &self,
        settings: Settings,
        trouble: &mut Trouble,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        // Before it is known whether Slack lets us in: what is announced from now on waits until it does.
        let cursor = self.cursor().await?;
        let mouth = tokio::select! {
            mouth = Mouth::open(&settings, &self.clock) => mouth?,
            () = stop.cancelled() => return Ok(()),
        };
        let kept_at = self.clock.monotonic();
        let mut visit = Visit { adapter: self, settings, mouth, cursor, kept_at, told: BTreeSet::new() };
        let mut catalogue = self.catalogue.clone();
        let mut news = self.bus.listen(Topic::Announcements);
        let mut is_told = false;
        while visit.has_the_turn().await? && visit.pass_on(stop).await? {
            *trouble = Trouble::new();
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!(team = visit.mouth.team, bot = visit.mouth.bot, "in Slack");
            }
            tokio::select! {
                () = news.heard() => {}
                () = self.clock.sleep_for(LOOK_BY_ITSELF) => {}
                changed = catalogue.changed() => {
                    changed?;
                    if Settings::of(&catalogue.borrow_and_update()).ok().flatten().as_ref() != Some(&visit.settings) {
                        return Ok(());
                    }
                }
                () = stop.cancelled() => return Ok(()),
            }
        }
        Ok(())
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
}

/// The time in which one configuration holds and nothing goes wrong.
struct Visit<'a> {
    adapter: &'a Adapter,
    settings: Settings,
    mouth: Mouth,
    cursor: i64,
    kept_at: Duration,
    /// What was told of messages that could not be said.
    told: BTreeSet<String>,
}

impl Visit<'_> {
    async fn has_the_turn(&mut self) -> anyhow::Result<bool> {
        let now = self.adapter.clock.monotonic();
        if now < self.kept_at.saturating_add(Turns::EVERY) {
            return Ok(true);
        }
        self.kept_at = now;
        Ok(self.adapter.turns.take(TURN).await?)
    }

    /// Says what was announced since the last time, one after the other. `false`: it is for somebody else to go on.
    async fn pass_on(&mut self, stop: &CancellationToken) -> anyhow::Result<bool> {
        let begun_at = self.cursor;
        for row in self.adapter.announcements.announcements_read(self.cursor, BATCH).await? {
            let sequence = row.sequence;
            let notice = notice(&self.settings, row);
            if let Some(notice) = &notice {
                if !self.say(notice, stop).await? {
                    return Ok(false);
                }
                self.keep(sequence).await?;
            }
            self.cursor = sequence;
        }
        if self.cursor != begun_at {
            self.keep(self.cursor).await?;
        }
        Ok(true)
    }

    async fn keep(&self, cursor: i64) -> anyhow::Result<()> {
        Ok(self.adapter.contents.setting_put(CURSOR, Some(&cursor.to_string())).await?)
    }

    /// Says one thing, however long Slack wants to be left alone before. What cannot be said there holds up nothing.
    async fn say(&mut self, notice: &Notice, stop: &CancellationToken) -> anyhow::Result<bool> {
        loop {
            if stop.is_cancelled() || !self.has_the_turn().await? {
                return Ok(false);
            }
            let said = tokio::select! {
                said = self.mouth.say(notice) => said,
                lost = lose_the_turn(self.adapter) => return lost.map(|()| false),
                // Whether it arrived is looked for by whoever goes on.
                () = stop.cancelled() => return Ok(false),
            };
            match said {
                Ok(()) => {
                    let about = about(notice);
                    self.told.retain(|told| !told.starts_with(&about));
                    return Ok(true);
                }
                Err(CallError::Limited { rest, .. }) => {
                    tokio::select! {
                        () = self.adapter.clock.sleep_for(rest) => {}
                        lost = lose_the_turn(self.adapter) => return lost.map(|()| false),
                        () = stop.cancelled() => return Ok(false),
                    }
                }
                Err(error) if error.is_about_the_message() => {
                    self.tell(notice, &error);
                    return Ok(true);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Once for each trouble and not for each message.
    fn tell(&mut self, notice: &Notice, error: &CallError) {
        if self.told.len() >= MOST_TOLD {
            self.told.clear();
        }
        if self.told.insert(format!("{}{error}", about(notice))) {
            tracing::warn!(channel = notice.channel, problem = %error, "messages for this channel are not said in Slack");
        }
    }
}

/// Keeps the turn, and returns when that does not go well any more.
async fn lose_the_turn(adapter: &Adapter) -> anyhow::Result<()> {
    loop {
        adapter.clock.sleep_for(Turns::EVERY).await;
        if !adapter.turns.take(TURN).await? {
            return Ok(());
        }
    }
}

fn about(notice: &Notice) -> String {
    format!("{}: ", notice.channel)
}

/// Says what keeps us out of Slack once and not at every attempt, and tries less often meanwhile.
struct Trouble {
    problem: Option<String>,
    backoff: Backoff,
}

impl Trouble {
    const fn new() -> Self {
        Self { problem: None, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    /// How long to wait after a visit has ended like this.
    fn pause_after(&mut self, left: anyhow::Result<()>) -> Duration {
        let Err(problem) = left else {
            return Duration::ZERO;
        };
        let problem = format!("{problem:#}");
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(problem, "nothing can be said in Slack; trying again");
            *self = Self { problem: Some(problem), ..Self::new() };
        }
        self.backoff.next_delay()
    }
}

/// What an announcement is in Slack; `None`: it is for nobody there.
fn notice(settings: &Settings, row: AnnouncementRow) -> Option<Notice> {
    let AnnouncementRow { sequence, name, subject, payload, announced_at } = row;
    let whole = payload.filter(|_| name.starts_with("st2.announcement__"))?;
    let payload = whole.get("payload").unwrap_or(&whole);
    let text = |name: &str| payload[name].as_str().filter(|text| !text.is_empty());
    let (announced, message) = (text("channel")?, text("message")?);
    let is_answer = text("route") == Some(ROUTE);
    let channel = match settings.channel(announced) {
        Some(channel) => channel,
        // Where somebody gave a command, the bot is.
        None if is_answer && is_channel_id(announced) => announced,
        None => return None,
    };
    let member = text("user").filter(|user| is_member_id(user)).map(str::to_owned);
    let message = match text("user").filter(|_| member.is_none()) {
        Some(user) => format!("{user}: {message}"),
        None => message.to_owned(),
    };
    let is_repeated = whole["repeated"] == true;
    Some(Notice { sequence, announced_at, subject, is_repeated, channel: channel.to_owned(), member, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::{Value, json};

    fn said(name: &str, payload: Value) -> Option<(String, Option<String>, String)> {
        let settings = json!({ "channels": ["#ops"] });
        let row = AnnouncementRow {
            sequence: 1,
            name: name.to_owned(),
            subject: "e1".to_owned(),
            payload: Some(payload),
            announced_at: crate::model::time::Timestamp::default(),
        };
        let notice = notice(&serde_json::from_value(settings).unwrap(), row)?;
        Some((notice.channel, notice.member, notice.message))
    }

    #[test]
    fn what_is_announced_goes_to_the_channels_of_the_list_and_answers_to_where_they_were_asked_for() {
        let chat = "st2.announcement__chatops";
        let ops = |message: &str| Some(("ops".to_owned(), None, message.to_owned()));
        let notice = json!({ "channel": "ops", "message": "hi" });
        assert_eq!(said(chat, notice.clone()), ops("hi"));
        assert_eq!(said(chat, json!({ "payload": notice })), ops("hi"));
        assert_eq!(said(chat, json!({ "channel": "#ops", "message": "hi", "user": "ann" })), ops("ann: hi"));
        assert_eq!(said("st2.execution__update", notice), None);
        let answer = |route: &str| {
            let answer = json!({ "channel": "D0123456789", "message": "hi", "user": "U0ANN", "route": route });
            said("st2.announcement__slack", answer)
        };
        assert_eq!(answer(ROUTE), Some(("D0123456789".to_owned(), Some("U0ANN".to_owned()), "hi".to_owned())));
        assert_eq!(answer("irc"), None);
        assert_eq!(said(chat, json!({ "channel": "dev", "message": "hi", "route": ROUTE })), None);
        assert_eq!(said(chat, json!({ "channel": "ops", "message": "" })), None);
    }
}
