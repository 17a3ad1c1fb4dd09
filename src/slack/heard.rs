//! What a delivery of Slack says: a command, a challenge, or nothing that is for us. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::text::typed;

/// What one delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Slack wants to see that somebody answers at this address.
    Challenge(String),
    /// Somebody wants something.
    Command(Spoken),
    /// Talk, edits, what bots say.
    Nothing,
}

/// A command as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spoken {
    /// Equal for repetitions of the same delivery.
    pub(super) key: String,
    /// The member's id.
    pub(super) user: String,
    /// The channel's id.
    pub(super) channel: String,
    /// Without what marks it as a command.
    pub(super) line: String,
}

/// The body of the Events API.
#[derive(Debug, Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    challenge: Option<String>,
    event_id: Option<String>,
    event: Option<Event>,
    #[serde(default)]
    authorizations: Vec<Authorization>,
}

#[derive(Debug, Deserialize)]
struct Authorization {
    user_id: Option<String>,
    #[serde(default)]
    is_bot: bool,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    /// Edits, joins, what was deleted: everything but plain messages has one.
    subtype: Option<String>,
    bot_id: Option<String>,
    edited: Option<Value>,
    // of what does not concern us, these may be objects
    user: Option<Value>,
    channel: Option<Value>,
    text: Option<Value>,
}

/// The form of a slash command.
#[derive(Debug, Deserialize)]
struct Slash {
    command: String,
    #[serde(default)]
    text: String,
    user_id: String,
    channel_id: String,
    trigger_id: String,
}

impl Heard {
    /// What a body of the Events API says.
    pub(super) fn event(body: &[u8]) -> serde_json::Result<Self> {
        let envelope: Envelope = serde_json::from_slice(body)?;
        if let ("url_verification", Some(challenge)) = (envelope.kind.as_str(), &envelope.challenge) {
            return Ok(Self::Challenge(challenge.clone()));
        }
        Ok(envelope.spoken().map_or(Self::Nothing, Self::Command))
    }

    /// What a slash command says. `/asg list` is `asg list`; without words, help is wanted.
    pub(super) fn slash(body: &[u8]) -> Result<Spoken, String> {
        let pairs = form_urlencoded::parse(body).into_owned();
        let form: serde_json::Map<String, Value> = pairs.map(|(name, value)| (name, value.into())).collect();
        let slash: Slash = serde_json::from_value(form.into()).map_err(|problem| problem.to_string())?;
        let words = typed(slash.text.trim());
        let line = match words.as_str() {
            "" | "help" => "help".to_owned(),
            words => format!("{} {words}", slash.command.trim_start_matches('/')),
        };
        let key = format!("slack slash {}", slash.trigger_id);
        Ok(Spoken { key, user: slash.user_id, channel: slash.channel_id, line })
    }
}

impl Envelope {
    /// A message that begins with `!`, or one that begins with the bot's name. Of one that has both, Slack tells twice: as
    /// a message and as a mention. No message has both beginnings, so no command is heard twice.
    fn spoken(self) -> Option<Spoken> {
        let ours = self.authorizations.iter().filter(|authorization| authorization.is_bot);
        let own_ids: Vec<&String> = ours.filter_map(|authorization| authorization.user_id.as_ref()).collect();
        let event = self.event.filter(|event| event.is_plain() && self.kind == "event_callback")?;
        let text_of = |value: &Option<Value>| value.as_ref()?.as_str().map(str::to_owned);
        let (user, channel) = (text_of(&event.user)?, text_of(&event.channel)?);
        if own_ids.contains(&&user) {
            return None;
        }
        let text = typed(text_of(&event.text)?.trim());
        let line = match event.kind.as_str() {
            "message" => text.strip_prefix('!')?,
            "app_mention" => {
                let (named, words) = text.strip_prefix("<@")?.split_once('>')?;
                let named = named.split('|').next().unwrap_or_default();
                if !own_ids.is_empty() && !own_ids.iter().any(|id| *id == named) {
                    return None;
                }
                words.trim_start().trim_start_matches('!')
            }
            _ => return None,
        };
        let key = format!("slack event {}", self.event_id?);
        Some(Spoken { key, user, channel, line: line.trim().to_owned() }).filter(|spoken| !spoken.line.is_empty())
    }
}

impl Event {
    fn is_plain(&self) -> bool {
        self.subtype.is_none() && self.bot_id.is_none() && self.edited.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn line(event: &Value) -> Option<String> {
        let mut whole = json!({ "type": "message", "user": "U0ANN", "channel": "C0OPS", "ts": "1.2" });
        whole.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        let authorizations = json!([{ "user_id": "U0PETREL", "is_bot": true }]);
        let envelope = json!({
            "type": "event_callback", "event_id": "Ev1", "event": whole, "authorizations": authorizations,
        });
        match Heard::event(envelope.to_string().as_bytes()).unwrap() {
            Heard::Command(spoken) => {
                assert_eq!((spoken.user.as_str(), spoken.channel.as_str()), ("U0ANN", "C0OPS"));
                assert_eq!(spoken.key, "slack event Ev1");
                Some(spoken.line)
            }
            Heard::Nothing => None,
            Heard::Challenge(challenge) => panic!("{challenge}"),
        }
    }

    #[test]
    fn commands_are_what_begins_with_the_mark_or_with_the_name_of_the_bot() {
        let mention = |text: &str| line(&json!({ "type": "app_mention", "text": text }));
        assert_eq!(line(&json!({ "text": " !asg list" })).as_deref(), Some("asg list"));
        assert_eq!(line(&json!({ "text": "asg list" })), None);
        assert_eq!(line(&json!({ "text": "!" })), None);
        assert_eq!(mention("<@U0PETREL> asg list").as_deref(), Some("asg list"));
        assert_eq!(mention("<@U0PETREL|petrel>  !asg list").as_deref(), Some("asg list"));
        assert_eq!(mention("<@U0BOB> ask <@U0PETREL>"), None, "somebody else is spoken to");
    }

    #[test]
    fn a_command_that_mentions_the_bot_is_told_twice_by_slack_and_heard_once() {
        for text in ["!asg list <@U0PETREL>", "<@U0PETREL> !asg list"] {
            let heard = ["message", "app_mention"].map(|kind| line(&json!({ "type": kind, "text": text })).is_some());
            assert_eq!(heard.iter().filter(|heard| **heard).count(), 1, "{text}");
        }
    }

    #[test]
    fn edits_bots_and_what_we_say_ourselves_are_no_commands() {
        for other in [
            json!({ "subtype": "message_changed" }),
            json!({ "subtype": "bot_message" }),
            json!({ "bot_id": "B0" }),
            json!({ "edited": { "user": "U0ANN", "ts": "1.3" } }),
            json!({ "user": "U0PETREL" }),
            json!({ "user": null }),
            json!({ "type": "reaction_added" }),
        ] {
            let mut event = json!({ "text": "!asg list" });
            event.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            assert_eq!(line(&event), None, "{event}");
        }
    }

    #[test]
    fn a_challenge_is_one_and_what_is_no_event_is_an_error() {
        let challenge = br#"{"type": "url_verification", "token": "x", "challenge": "3eZbrw"}"#;
        assert_eq!(Heard::event(challenge).unwrap(), Heard::Challenge("3eZbrw".to_owned()));
        assert!(Heard::event(b"payload=1").is_err());
    }

    #[test]
    fn a_slash_command_is_its_name_and_its_words() {
        let form = "command=%2Fasg&user_id=U0ANN&channel_id=C0OPS&trigger_id=13.37&text=";
        let line = |text: &str| Heard::slash(format!("{form}{text}").as_bytes()).unwrap().line;
        assert_eq!(line("+list+"), "asg list");
        assert_eq!(line(""), "help");
        let refusal = Heard::slash(b"command=%2Fasg&text=list").unwrap_err();
        assert!(refusal.contains("user_id"), "{refusal}");
    }
}
