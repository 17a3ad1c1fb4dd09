//! Chat over Slack, against an emulator of Slack's Web API and with requests that are signed as Slack signs them. Nothing
//! here was tried against Slack itself.

mod incoming;
mod outgoing;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::scaling;
use crate::servers::slack::{BOT_TOKEN, SIGNING_SECRET, Slack, event, signed};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

const ANN: &str = "xoxp-ann";
const MALLORY: &str = "xoxp-mallory";
const EVENTS: &str = "/v1/webhooks/slack/events";
const COMMANDS: &str = "/v1/webhooks/slack/commands";

/// A workspace with the channel in which everything happens.
struct Workspace {
    slack: Slack,
    channel: String,
    ann: String,
}

impl Workspace {
    async fn open() -> Self {
        let slack = Slack::start().await;
        let (channel, ann) = (slack.channel("bot-testing").await, slack.member(ANN).await);
        Self { slack, channel, ann }
    }

    fn configuration(&self) -> String {
        self.configuration_with(BOT_TOKEN)
    }

    fn configuration_with(&self, token: &str) -> String {
        let (api, ann) = (self.slack.api(), &self.ann);
        format!(
            "token: {token}\nsigning_secret: {SIGNING_SECRET}\nchannels: [bot-testing, nowhere]\n\
             users: {{{ann}: st2admin}}\napi: {api}\n"
        )
    }

    fn site(&self) -> Site {
        scaling::site("none").file("configs/slack.yaml", &self.configuration())
    }

    /// A daemon that is in Slack: what was announced before it came there for the first time is not said.
    async fn start<'s>(&self, site: &'s Site) -> Daemon<'s> {
        let daemon = Daemon::start(site).await;
        eventually("the daemon is in Slack", async || daemon.log().contains("in Slack team=").then_some(())).await;
        daemon
    }

    /// Somebody writes, and the daemon is told as Slack tells.
    async fn write(&self, daemon: &Daemon<'_>, token: &str, text: &str, id: &str) -> Answer {
        let message = self.slack.write(token, &self.channel, text).await;
        tell(daemon, event(id, "message", &self.channel, &message)).await
    }

    async fn said(&self) -> Vec<String> {
        self.slack.said(&self.channel).await
    }

    async fn until_said(&self, words: &str) -> Vec<String> {
        self.slack.until_said(&self.channel, words).await
    }
}

/// Status and body.
type Answer = (StatusCode, String);

async fn tell(daemon: &Daemon<'_>, body: String) -> Answer {
    send(signed(daemon.bare(Method::POST, EVENTS), SIGNING_SECRET, 0, body)).await
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// Has something said in the channel, and returns when it is announced.
async fn announce(daemon: &Daemon<'_>, channel: &str, message: &str) -> Value {
    let id = daemon.run("chatops.post_message", json!({ "channel": channel, "message": message })).await;
    daemon.end_of(&id).await
}
