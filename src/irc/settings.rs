//! What `configs/irc.yaml` says.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::pack::Catalogue;

/// Which server, as whom, and who may give commands.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Settings {
    /// `host:port`
    pub(super) server: String,
    /// What the bot is called.
    #[serde(default = "own_name")]
    pub(super) nick: String,
    /// What the server asks for, if it does.
    pub(super) password: Option<String>,
    /// The rooms, as `#ops`.
    #[serde(default)]
    pub(super) channels: Vec<String>,
    /// Who may give commands: nickname to user.
    #[serde(default)]
    pub(super) users: BTreeMap<String, String>,
}

fn own_name() -> String {
    "petrel".to_owned()
}

impl Settings {
    /// The pack's configuration as it is now; `None`: no server is named.
    pub(super) fn of(catalogue: &Catalogue) -> Result<Option<Self>, String> {
        let given = catalogue.configuration("irc");
        if !given.contains_key("server") {
            return Ok(None);
        }
        let settings: Self = serde_json::from_value(Value::Object(given))
            .map_err(|problem| format!("cannot read configs/irc.yaml: {problem}"))?;
        // The password may be what is wrong: none is shown.
        let refusal = || "server, nick, password and channels of configs/irc.yaml are one word each".to_owned();
        if settings.words_are_words() { Ok(Some(settings)) } else { Err(refusal()) }
    }

    /// What stands in lines of the protocol must not end them.
    fn words_are_words(&self) -> bool {
        let Self { server, nick, password, channels, .. } = self;
        let mut words = channels.iter().chain([server, nick]).chain(password);
        words.all(|word| !word.is_empty() && !word.contains([' ', '\r', '\n', '\0', ',']))
    }

    /// The room that something is announced for, if the bot is in it. Groups say `ops` for `#ops`.
    pub(super) fn room(&self, channel: &str) -> Option<&str> {
        let is_it = |room: &&String| room.as_str() == channel || room.trim_start_matches('#') == channel;
        self.channels.iter().find(is_it).map(String::as_str)
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("server", &self.server)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use serde_json::json;

    use crate::model::pack::Pack;

    fn settings(config: Value) -> Result<Option<Settings>, String> {
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        Settings::of(&Catalogue { packs: [("irc".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() })
    }

    #[test]
    fn without_a_server_there_is_no_chat() {
        assert_eq!(settings(json!({ "server": null, "nick": "petrel" })), Ok(None));
    }

    #[test]
    fn a_room_is_found_with_and_without_its_mark() {
        let settings = settings(json!({ "server": "irc:6667", "channels": ["#ops"] })).unwrap().unwrap();
        assert_eq!(
            (settings.room("ops"), settings.room("#ops"), settings.room("dev")),
            (Some("#ops"), Some("#ops"), None)
        );
        assert_eq!(settings.nick, "petrel");
    }

    #[test]
    fn what_would_be_a_command_of_its_own_is_refused_and_no_password_is_shown() {
        let said = settings(json!({ "server": "irc:6667", "password": "hunter2\r\nQUIT" })).unwrap_err();
        assert!(said.contains("one word each") && !said.contains("hunter2"), "{said}");
        let shown = settings(json!({ "server": "irc:6667", "password": "hunter2" })).unwrap().unwrap();
        assert!(!format!("{shown:?}").contains("hunter2"));
    }
}
