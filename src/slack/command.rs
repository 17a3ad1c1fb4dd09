//! The action `slack.command`: does what a member has said, if they may, and has the answer said where it was asked.
//! Repeated after a crash, it finds what it began.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::adapter::ROUTE;
use super::settings::Settings;
use crate::bus::{Bus, Topic};
use crate::chat::desk::{Desk, Speaker};
use crate::clock::Clock;
use crate::model::access::Permission;
use crate::model::pack::Catalogue;
use crate::model::refs::ExecutionId;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};
use crate::store::{Announcements, Contents};

/// What the action works with.
#[derive(Clone)]
pub struct Tools {
    /// Understands commands.
    pub desk: Desk,
    /// The configuration.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Where the answer is announced.
    pub announcements: Announcements,
    /// Remembers which strangers were told so.
    pub contents: Contents,
    /// Tells of news.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("slack::Tools")
    }
}

/// Adds it to the native runner.
pub fn register(native: &mut Native, tools: Tools) {
    native.add("slack.command", Permission::ActAs, Arc::new(Command(tools)));
}

struct Command(Tools);

#[derive(Debug, Deserialize)]
struct Said {
    user: String,
    channel: String,
    line: String,
}

#[async_trait]
impl NativeAction for Command {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |said: Said| self.0.react(call, &said).await).await
    }
}

impl Tools {
    async fn react(&self, call: &Call, said: &Said) -> anyhow::Result<Value> {
        let Some(message) = self.message(call, said).await? else {
            return Ok(json!({ "message": null }));
        };
        let payload = json!({
            "channel": said.channel, "message": message, "user": said.user, "route": ROUTE, "whisper": false,
        });
        // An earlier attempt may have announced it: then it is looked for before it is said.
        let payload = json!({ "payload": payload, "repeated": call.attempt > 1 });
        let (name, subject) = (format!("st2.announcement__{ROUTE}"), call.execution.to_string());
        self.announcements
            .announce(&name, &subject, &payload, self.clock.now())
            .await
            .context("announcing an answer")?;
        self.bus.hint(Topic::Announcements);
        Ok(json!({ "message": message }))
    }

    /// What is answered, if anything is.
    async fn message(&self, call: &Call, said: &Said) -> anyhow::Result<Option<String>> {
        if said.line == "help" {
            return Ok(Some(self.desk.book().aliases().map(|alias| alias.help()).collect()));
        }
        let settings = Settings::of(&self.catalogue.borrow()).map_err(anyhow::Error::msg)?;
        let Some(user) = settings.as_ref().and_then(|settings| settings.users.get(&said.user)) else {
            return Ok(self.is_told(call, &said.user).await?.then(|| stranger(&said.user)));
        };
        let speaking = async {
            let speaker = Speaker {
                user: user.clone(),
                role: self.desk.role_of(user).await?,
                chat_user: said.user.clone(),
                channel: said.channel.clone(),
                route: ROUTE.to_owned(),
            };
            self.desk.say_once(&said.line, &speaker, begun_by(call.execution)).await
        };
        Ok(match speaking.await {
            Ok(begun) => begun.message,
            Err(refusal) => Some(refusal.to_string()),
        })
    }

    /// A stranger is told once, and by the execution that came first, however often that is tried.
    async fn is_told(&self, call: &Call, user: &str) -> anyhow::Result<bool> {
        let execution = call.execution.to_string();
        let first = self.contents.setting_agree(&format!("slack:stranger:{user}"), &execution).await;
        Ok(first.context("remembering who was told")? == execution)
    }
}

/// What somebody hears who may not give commands.
pub(super) fn stranger(user: &str) -> String {
    format!(
        "I am sorry, I do not know you; somebody who keeps Petrel has to add `{user}` to `users` in configs/slack.yaml"
    )
}

/// The execution that a command begins has an id that follows from the command's own, so it is begun once.
fn begun_by(command: ExecutionId) -> ExecutionId {
    let digest = Sha256::digest([b"slack.command ".as_slice(), command.as_bytes()].concat());
    let mut bytes = *command.as_bytes();
    // Ids begin with their second.
    for (place, byte) in bytes.iter_mut().skip(4).zip(digest) {
        *place = byte;
    }
    ExecutionId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_begins_has_one_id_of_the_same_second() {
        let command = ExecutionId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let begun = begun_by(command);
        assert_eq!(begun, begun_by(command));
        assert!(begun != command && begun.to_string().starts_with("01020304"));
    }
}
