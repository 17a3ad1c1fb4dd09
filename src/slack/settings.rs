//! What `configs/slack.yaml` says.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use crate::model::pack::Catalogue;
use crate::secrets::SecretText;

/// As whom, where, and who may give commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Settings {
    /// Without it nothing is said.
    pub(super) token: Option<SecretText>,
    /// Without it nobody is let in.
    pub(super) signing_secret: Option<SecretText>,
    /// Names or ids.
    #[serde(default)]
    pub(super) channels: Vec<String>,
    /// Who may give commands: member id to user.
    #[serde(default)]
    pub(super) users: BTreeMap<String, String>,
    /// Where the Web API answers.
    #[serde(default = "slack_itself")]
    api: String,
}

fn slack_itself() -> String {
    "https://slack.com/api".to_owned()
}

impl Settings {
    /// The pack's configuration as it is now; `None`: there is none.
    pub(super) fn of(catalogue: &Catalogue) -> Result<Option<Self>, String> {
        let given = catalogue.configuration("slack");
        if given.is_empty() {
            return Ok(None);
        }
        let settings: Self = serde_json::from_value(Value::Object(given))
            .map_err(|problem| format!("cannot read configs/slack.yaml: {problem}"))?;
        settings.checked().map(Some)
    }

    /// An empty secret is as good as none: it would let in whoever leaves theirs empty.
    fn checked(self) -> Result<Self, String> {
        let given = |secret: &SecretText| !secret.expose().is_empty();
        let settings = Self {
            token: self.token.filter(given),
            signing_secret: self.signing_secret.filter(given),
            api: self.api.trim_end_matches('/').to_owned(),
            ..self
        };
        let is_word = |token: &SecretText| token.expose().chars().all(|letter| letter.is_ascii_graphic());
        if !settings.token.as_ref().is_none_or(is_word) {
            return Err("`token` of configs/slack.yaml is one word, as `xoxb-…`".to_owned());
        }
        let url = settings.api.parse::<Url>().ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host()) {
            return Err(format!("`api` of configs/slack.yaml is `{}`; write https://slack.com/api", settings.api));
        }
        Ok(settings)
    }

    /// Where a method of the Web API answers.
    pub(super) fn method_url(&self, method: &str) -> String {
        format!("{}/{method}", self.api)
    }

    /// The channel that something is announced for, as the configuration has it, without its mark.
    pub(super) fn channel(&self, announced: &str) -> Option<&str> {
        let wanted = announced.trim_start_matches('#');
        self.channels.iter().map(|channel| channel.trim_start_matches('#')).find(|channel| *channel == wanted)
    }
}

/// Ids are written like `C0123456789`, names of channels in lower case.
pub(super) fn is_channel_id(text: &str) -> bool {
    is_id(text, &['C', 'G', 'D'])
}

/// `U0123456789`, or `W…` in large organisations.
pub(super) fn is_member_id(text: &str) -> bool {
    is_id(text, &['U', 'W'])
}

fn is_id(text: &str, first: &[char]) -> bool {
    let rest = text.strip_prefix(first).unwrap_or_default();
    rest.len() > 3 && rest.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use serde_json::json;

    use crate::model::pack::Pack;

    fn settings(config: Value) -> Result<Option<Settings>, String> {
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        Settings::of(&Catalogue { packs: [("slack".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() })
    }

    #[test]
    fn without_a_configuration_there_is_no_chat_and_empty_secrets_are_none() {
        assert_eq!(settings(json!({ "token": null })), Ok(None));
        let empty = settings(json!({ "token": "", "signing_secret": "" })).unwrap().unwrap();
        assert_eq!((empty.token, empty.signing_secret), (None, None));
    }

    #[test]
    fn a_channel_is_found_with_and_without_its_mark_and_by_its_id() {
        let settings = settings(json!({ "channels": ["#ops", "C0123456789"] })).unwrap().unwrap();
        let found = ["ops", "#ops", "C0123456789", "dev"].map(|name| settings.channel(name));
        assert_eq!(found, [Some("ops"), Some("ops"), Some("C0123456789"), None]);
        assert!(is_channel_id("C0123456789") && !is_channel_id("Cops") && !is_channel_id("ops"));
        assert!(is_member_id("U0PETREL") && !is_member_id("ann") && !is_member_id("U1> <!channel"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_no_secret_is_shown() {
        for (config, said) in [
            (json!({ "token": "xoxb-hunter2\r\nx: y" }), "one word"),
            (json!({ "token": "xoxb-hunter2", "api": "slack.com" }), "write https://slack.com/api"),
        ] {
            let refusal = settings(config).unwrap_err();
            assert!(refusal.contains(said) && !refusal.contains("hunter2"), "{refusal}");
        }
        let shown = settings(json!({ "token": "xoxb-hunter2", "signing_secret": "hunter2" })).unwrap();
        assert!(!format!("{shown:?}").contains("hunter2"));
    }
}
