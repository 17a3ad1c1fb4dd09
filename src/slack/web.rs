//! Calls of Slack's Web API: limited in time and size, with what their refusals mean for whoever has to mend it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, redirect};
use serde_json::Value;

use super::settings::Settings;
use crate::clock::{Clock, timeout};
use crate::secrets::SecretText;

/// Shorter than a lease lasts, so that nobody else takes our turn while an answer is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);
/// A page of a hundred messages has a few hundred kilobytes.
const MOST_ANSWER_BYTES: usize = 8 << 20;
/// Slack says seconds; whoever says nothing or days is not believed.
const LONGEST_REST: Duration = Duration::from_mins(5);

/// What Slack says of its own troubles: it may have done what was asked.
const TROUBLES: [&str; 5] =
    ["internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"];
/// What is wrong with the token, and so with every message.
const OF_THE_TOKEN: [&str; 9] = [
    "not_authed",
    "invalid_auth",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "no_permission",
    "missing_scope",
    "not_allowed_token_type",
    "access_denied",
];

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Too many calls; this one did nothing.
    #[error("Slack wants fewer calls of {method}")]
    Limited {
        /// Which method.
        method: &'static str,
        /// How long to wait.
        rest: Duration,
    },
    /// A clear no.
    #[error("Slack refuses {method} with `{error}`: {}", way_out(error, needed))]
    Refused {
        /// Which method.
        method: &'static str,
        /// In Slack's word.
        error: String,
        /// The scopes that are missing, if it is that.
        needed: String,
    },
    /// It may have been done or not.
    #[error("no answer of Slack to {method}")]
    Lost {
        /// Which method.
        method: &'static str,
        /// What happened to it.
        source: anyhow::Error,
    },
}

impl CallError {
    /// Another message may do better.
    pub(super) fn is_about_the_message(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if !OF_THE_TOKEN.contains(&error.as_str()))
    }

    /// Is it this word of Slack's?
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Refused { error, .. } if error == word)
    }
}

/// What to do about a refusal.
fn way_out(error: &str, needed: &str) -> String {
    match error {
        "channel_not_found" | "not_in_channel" => {
            "say `/invite @` with the bot's name in that channel, or correct `channels` in configs/slack.yaml"
                .to_owned()
        }
        "is_archived" => "the channel is archived; name another one".to_owned(),
        "missing_scope" => {
            format!("give the app the scope `{needed}` (OAuth & Permissions) and install it again")
        }
        error if OF_THE_TOKEN.contains(&error) => {
            "put the token of the installed app (xoxb-…) into `token` of configs/slack.yaml".to_owned()
        }
        _ => "Slack's page of this method says what it means".to_owned(),
    }
}

/// Slack, asked with the token of the configuration.
pub(super) struct Web {
    settings: Settings,
    http: Client,
    clock: Arc<dyn Clock>,
}

impl Web {
    /// With the configuration as it is now.
    pub(super) fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let http = Client::builder().redirect(redirect::Policy::none()).build();
        let http = http.context("making an HTTP client for Slack")?;
        Ok(Self { settings: settings.clone(), http, clock: Arc::clone(clock) })
    }

    /// Calls a method once. What comes back has said `ok`.
    pub(super) async fn call(&self, method: &'static str, form: &[(&str, &str)]) -> Result<Value, CallError> {
        let exchanged = timeout(&*self.clock, ANSWERED_WITHIN, self.exchange(method, form)).await;
        let late = |_| Err(anyhow!("there was none within {ANSWERED_WITHIN:?}"));
        let answer = exchanged.unwrap_or_else(late).map_err(|source| CallError::Lost { method, source })?;
        match answer {
            Answer::Limited(rest) => Err(CallError::Limited { method, rest }),
            Answer::Said(said) => judged(method, said),
        }
    }

    async fn exchange(&self, method: &str, form: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let token = self.settings.token.as_ref().map(SecretText::expose).unwrap_or_default();
        let request = self.http.post(self.settings.method_url(method)).bearer_auth(token).form(form);
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        if response.status().as_u16() == 429 {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let rest = Duration::from_secs(seconds.unwrap_or(1).max(1));
            return Ok(Answer::Limited(rest.min(LONGEST_REST)));
        }
        let status = response.status();
        ensure!(status.is_success(), "it answered {status}");
        serde_json::from_slice(&read(response).await?).map(Answer::Said).context("its answer is no JSON")
    }
}

enum Answer {
    Limited(Duration),
    Said(Value),
}

fn judged(method: &'static str, said: Value) -> Result<Value, CallError> {
    if said["ok"] == true {
        return Ok(said);
    }
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    match text("error") {
        error if error == "ratelimited" => Err(CallError::Limited { method, rest: Duration::from_secs(1) }),
        error if error.is_empty() || TROUBLES.contains(&error.as_str()) => {
            Err(CallError::Lost { method, source: anyhow!("it says `{error}`") })
        }
        error => Err(CallError::Refused { method, error, needed: text("needed") }),
    }
}

async fn read(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        let fits = bytes.len() + part.len() <= MOST_ANSWER_BYTES;
        ensure!(fits, "the answer has more than {MOST_ANSWER_BYTES} bytes");
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::json;

    fn refused(said: Value) -> CallError {
        judged("chat.postMessage", said).unwrap_err()
    }

    #[test]
    fn a_refusal_says_the_way_out_and_whom_it_concerns() {
        for (said, concerns_message, way) in [
            (json!({ "ok": false, "error": "channel_not_found" }), true, "/invite"),
            (json!({ "ok": false, "error": "is_archived" }), true, "another one"),
            (json!({ "ok": false, "error": "msg_too_long" }), true, "Slack's page"),
            (json!({ "ok": false, "error": "invalid_auth" }), false, "`token` of configs/slack.yaml"),
            (json!({ "ok": false, "error": "missing_scope", "needed": "chat:write" }), false, "`chat:write`"),
        ] {
            let error = refused(said);
            assert_eq!(error.is_about_the_message(), concerns_message, "{error}");
            assert!(error.to_string().contains(way), "{error}");
        }
    }

    #[test]
    fn what_slack_may_have_done_is_not_taken_for_a_refusal() {
        for said in [json!({ "ok": false, "error": "internal_error" }), json!({ "ok": false }), json!("hello")] {
            assert!(matches!(refused(said), CallError::Lost { .. }));
        }
    }
}
