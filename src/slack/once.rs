//! Says a notice once: each part of it carries a mark that members do not see, and whoever does not know whether a part
//! arrived looks for its mark in the channel before he says it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::settings::{Settings, is_channel_id};
use super::text::parts;
use super::web::{CallError, Web};
use crate::clock::Clock;
use crate::model::time::Timestamp;

/// What the marks are called in Slack's metadata of messages.
const MARK: &str = "petrel_notice";
/// Messages of one look, and looks: what may have arrived is among the last.
const PAGE: &str = "100";
const MOST_PAGES: usize = 5;
/// How far Slack's clock and ours may be apart.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);
/// A channel that is not there is looked for again only after this.
const NAMES_HOLD: Duration = Duration::from_mins(1);

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// Its number among the announcements.
    pub(super) sequence: i64,
    /// When it was announced.
    pub(super) announced_at: Timestamp,
    /// Who announced it.
    pub(super) subject: String,
    /// Who announced it did so for the second time, perhaps.
    pub(super) is_repeated: bool,
    /// The channel, by name or id.
    pub(super) channel: String,
    /// The member who is spoken to, if one is.
    pub(super) member: Option<String>,
    /// As it was announced.
    pub(super) message: String,
}

impl Notice {
    fn parts(&self) -> Vec<String> {
        let mut parts = parts(&self.message);
        if let (Some(member), Some(first)) = (&self.member, parts.first_mut()) {
            *first = format!("<@{member}> {first}");
        }
        parts
    }

    fn mark(&self, part: usize) -> Value {
        let payload = json!({
            "announcement": self.sequence, "announced_at": self.announced_at, "subject": self.subject, "part": part,
        });
        json!({ "event_type": MARK, "event_payload": payload })
    }

    /// Which part of this notice a message is.
    fn part_of(&self, message: &Value) -> Option<usize> {
        let metadata = message.get("metadata").filter(|metadata| metadata["event_type"] == MARK)?;
        let payload = &metadata["event_payload"];
        let is_same = payload["announcement"] == self.sequence && payload["announced_at"] == json!(self.announced_at);
        let is_repetition = self.is_repeated && payload["subject"] == self.subject.as_str();
        let part = payload["part"].as_u64().and_then(|part| usize::try_from(part).ok());
        part.filter(|_| is_same || is_repetition)
    }
}

/// Speaks in channels.
pub(super) struct Mouth {
    /// The workspace it came to.
    pub(super) team: String,
    /// What it is called there.
    pub(super) bot: String,
    web: Web,
    clock: Arc<dyn Clock>,
    /// The next notice may have been said before we came.
    in_doubt: bool,
    /// Channels whose history the token may not see; told once.
    blind_in: BTreeSet<String>,
    names: BTreeMap<String, String>,
    names_read: Option<Duration>,
}

impl Mouth {
    /// Comes to Slack and sees that it is let in. Nobody knows what was said last.
    pub(super) async fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let web = Web::new(settings, clock)?;
        let myself = web.call("auth.test", &[]).await?;
        let text = |name: &str| myself[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            team: text("team"),
            bot: text("user"),
            web,
            clock: Arc::clone(clock),
            in_doubt: true,
            blind_in: BTreeSet::new(),
            names: BTreeMap::new(),
            names_read: None,
        })
    }

    /// Says it, unless it has been said.
    pub(super) async fn say(&mut self, notice: &Notice) -> Result<(), CallError> {
        let channel = self.find(&notice.channel).await?;
        let look = self.in_doubt || notice.is_repeated;
        let said = if look { self.said_if_seen(&channel, notice).await? } else { BTreeSet::new() };
        for (number, part) in notice.parts().iter().enumerate().filter(|(number, _)| !said.contains(number)) {
            let mark = notice.mark(number).to_string();
            let form = [
                ("channel", channel.as_str()),
                ("text", part),
                ("metadata", &mark),
                ("unfurl_links", "false"),
                ("unfurl_media", "false"),
            ];
            // Until Slack has said yes or no, nobody knows.
            self.in_doubt = true;
            self.web.call("chat.postMessage", &form).await?;
        }
        self.in_doubt = false;
        Ok(())
    }

    /// Which parts of a notice are in the channel, if we may look there. Twice said is better than not at all.
    async fn said_if_seen(&mut self, channel: &str, notice: &Notice) -> Result<BTreeSet<usize>, CallError> {
        match self.said(channel, notice).await {
            Err(refusal) if refusal.is("missing_scope") => {
                if self.blind_in.insert(channel.to_owned()) {
                    tracing::warn!(channel, problem = %refusal, "what is said in this channel may be said twice");
                }
                Ok(BTreeSet::new())
            }
            answer => answer,
        }
    }

    /// Which parts of a notice are in the channel.
    async fn said(&self, channel: &str, notice: &Notice) -> Result<BTreeSet<usize>, CallError> {
        let earliest = notice.announced_at.minus(CLOCKS_DIFFER).as_seconds();
        let mut said = BTreeSet::new();
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let mut form = vec![("channel", channel), ("limit", PAGE), ("include_all_metadata", "true")];
            if !cursor.is_empty() {
                form.push(("cursor", &cursor));
            }
            let page = self.web.call("conversations.history", &form).await?;
            let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            said.extend(messages.iter().filter_map(|message| notice.part_of(message)));
            let is_old = messages.last().is_none_or(|message| said_at(message) < earliest);
            page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().clone_into(&mut cursor);
            if is_old || cursor.is_empty() {
                break;
            }
        }
        Ok(said)
    }

    /// The id of a channel.
    async fn find(&mut self, channel: &str) -> Result<String, CallError> {
        if is_channel_id(channel) {
            return Ok(channel.to_owned());
        }
        let now = self.clock.monotonic();
        let is_fresh = self.names_read.is_some_and(|read| now.saturating_sub(read) < NAMES_HOLD);
        if !self.names.contains_key(channel) && !is_fresh {
            self.names = self.list().await?;
            self.names_read = Some(now);
        }
        let method = "conversations.list";
        let missing = || CallError::Refused { method, error: "channel_not_found".to_owned(), needed: String::new() };
        self.names.get(channel).cloned().ok_or_else(missing)
    }

    /// All channels that the token may see. Private ones need a scope that not everybody wants to give.
    async fn list(&self) -> Result<BTreeMap<String, String>, CallError> {
        match self.list_of("public_channel,private_channel").await {
            Err(refusal) if refusal.is("missing_scope") => self.list_of("public_channel").await,
            answer => answer,
        }
    }

    async fn list_of(&self, types: &str) -> Result<BTreeMap<String, String>, CallError> {
        let mut names = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let mut form = vec![("types", types), ("exclude_archived", "true"), ("limit", "200")];
            if !cursor.is_empty() {
                form.push(("cursor", &cursor));
            }
            let page = self.web.call("conversations.list", &form).await?;
            for channel in page["channels"].as_array().into_iter().flatten() {
                if let (Some(name), Some(id)) = (channel["name"].as_str(), channel["id"].as_str()) {
                    names.insert(name.to_owned(), id.to_owned());
                }
            }
            let next = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default();
            // A server that goes in circles is left.
            if next.is_empty() || next == cursor {
                return Ok(names);
            }
            next.clone_into(&mut cursor);
        }
    }
}

/// The second of a message: `1795289156.000001`.
fn said_at(message: &Value) -> i64 {
    let seconds = message["ts"].as_str().and_then(|ts| ts.split('.').next()?.parse().ok());
    seconds.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            sequence: 7,
            announced_at: Timestamp::from_micros(1_795_289_156_000_000),
            subject: "e1".to_owned(),
            is_repeated: false,
            channel: "ops".to_owned(),
            member: Some("U0ANN".to_owned()),
            message: "a < b".to_owned(),
        }
    }

    #[test]
    fn only_who_is_spoken_to_is_mentioned() {
        assert_eq!(notice().parts(), ["<@U0ANN> a &lt; b"]);
    }

    #[test]
    fn a_notice_is_recognised_by_its_number_and_time_and_a_repetition_by_who_announced_it() {
        let first = notice();
        let message = json!({ "metadata": first.mark(2), "ts": "1795289156.000001" });
        let found = |notice: Notice| notice.part_of(&message);
        assert_eq!(found(notice()), Some(2));
        assert_eq!(found(Notice { sequence: 8, ..notice() }), None);
        assert_eq!(found(Notice { sequence: 8, is_repeated: true, ..notice() }), Some(2));
        let later = Timestamp::from_micros(first.announced_at.as_micros() + 1);
        assert_eq!(found(Notice { announced_at: later, ..notice() }), None, "numbers begin anew after a restore");
        assert_eq!(notice().part_of(&json!({ "text": "petrel_notice" })), None);
        assert_eq!(said_at(&message), 1_795_289_156);
    }
}
