//! An emulator of Slack's Web API (`emulate`), and people who write in its channels. It does not carry events to an app,
//! so whoever tells of a message signs it here as Slack does; and a weather before it, since it never limits rates and
//! never loses an answer.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use petrel::clock::{Clock, SystemClock};
use petrel::secrets::hex;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::guarded::Guarded;
use super::node::EMULATE;
use super::ports::free_port;
use crate::support::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

/// The bot, as the emulator is told.
pub(crate) const BOT: &str = "U0PETREL";
pub(crate) const BOT_TOKEN: &str = "xoxb-petrel-secret";
/// What the app and whoever signs know.
pub(crate) const SIGNING_SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Scopes are looked at as Slack looks at them: the bot has what README asks for and no more.
const SEED: &str = r#"
slack:
  strict_scopes: true
  team: {name: Petrel, domain: petrel}
  users: [{name: ann}, {name: mallory}]
  channels: [{name: ops}, {name: bot-testing}]
  oauth_apps:
    - {client_id: "1.2", client_secret: s, app_id: A000000001, name: Petrel, bot_id: B0PETREL, bot_user_id: U0PETREL,
       bot_name: petrel, redirect_uris: [], scopes: ["chat:write", "channels:read", "channels:history"]}
  tokens:
    - {token: xoxb-petrel-secret, type: bot, user_id: U0PETREL, bot_id: B0PETREL, bot_user_id: U0PETREL,
       app_id: A000000001, scopes: ["chat:write", "channels:read", "channels:history"]}
    - {token: xoxb-mute, type: bot, user_id: U0PETREL, scopes: ["channels:read", "channels:history"]}
    - {token: xoxb-blind, type: bot, user_id: U0PETREL, scopes: ["chat:write", "channels:read"]}
    - {token: xoxp-ann, type: user, user: ann}
    - {token: xoxp-mallory, type: user, user: mallory}
"#;

/// An emulator that runs, with the weather before it.
pub(crate) struct Slack {
    _guarded: Guarded,
    target: String,
    weather: Arc<Weather>,
    front: JoinHandle<()>,
    url: String,
}

/// What happens to one message that the bot posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused for this many seconds' sake.
    Limit(u64),
    /// It is posted, and never answered.
    Hold,
    /// It is posted, and answered with an error of the server.
    PostedAndBroken,
}

struct Weather {
    target: String,
    client: Client,
    script: Mutex<VecDeque<Fault>>,
    /// Messages that the bot has asked for, whatever became of them.
    asked: Mutex<Vec<Duration>>,
    clock: SystemClock,
    held: Notify,
}

impl Slack {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        super::announce();
        let mut guarded = Guarded::new(EMULATE.name, "TERM");
        let port = free_port();
        let seed = guarded.folder().join("seed.yaml");
        fs::write(&seed, SEED).expect("our own folder");
        let mut server = EMULATE.command().await;
        server.args(["start", "--service", "slack", "--port", &port.to_string(), "--seed"]).arg(seed);
        server.current_dir(guarded.folder());
        guarded.start(server);
        let target = format!("http://127.0.0.1:{port}");
        let weather = Arc::new(Weather {
            target: target.clone(),
            client: client(),
            script: Mutex::default(),
            asked: Mutex::default(),
            clock: SystemClock::new(),
            held: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/api", listener.local_addr().expect("a port"));
        let routes = Router::new().route("/api/{method}", post(pass)).with_state(Arc::clone(&weather));
        let front = tokio::spawn(async move { axum::serve(listener, routes).await.expect("our own server") });
        let slack = Self { _guarded: guarded, target, weather, front, url };
        eventually("the emulator of Slack answers", async || slack.try_ask(BOT_TOKEN, "auth.test", &[]).await).await;
        slack
    }

    /// Where the Web API answers.
    pub(crate) fn api(&self) -> &str {
        &self.url
    }

    /// What happens to the next messages of the bot, before all is well again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.weather.script.lock().unwrap().extend(faults);
    }

    /// Returns when a message has been posted whose answer is held back.
    pub(crate) async fn until_held(&self) {
        self.weather.held.notified().await;
    }

    /// When the bot has asked to post, on one clock.
    pub(crate) fn asked(&self) -> Vec<Duration> {
        self.weather.asked.lock().unwrap().clone()
    }

    /// A method of the Web API, called by whoever has this token.
    pub(crate) async fn ask(&self, token: &str, method: &str, form: &[(&str, &str)]) -> Value {
        let answer = self.try_ask(token, method, form).await.expect("the emulator answers");
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        answer
    }

    async fn try_ask(&self, token: &str, method: &str, form: &[(&str, &str)]) -> Option<Value> {
        let request = client().post(format!("{}/api/{method}", self.target)).bearer_auth(token).form(form);
        request.send().await.ok()?.json().await.ok()
    }

    /// The id of a channel.
    pub(crate) async fn channel(&self, name: &str) -> String {
        let list = self.ask(BOT_TOKEN, "conversations.list", &[("types", "public_channel")]).await;
        let found = list["channels"].as_array().unwrap().iter().find(|channel| channel["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))["id"].as_str().unwrap().to_owned()
    }

    /// The id of whoever has a token.
    pub(crate) async fn member(&self, token: &str) -> String {
        self.ask(token, "auth.test", &[]).await["user_id"].as_str().unwrap().to_owned()
    }

    /// Everything in a channel, oldest first.
    pub(crate) async fn history(&self, channel: &str) -> Vec<Value> {
        let answer = self.ask(BOT_TOKEN, "conversations.history", &[("channel", channel), ("limit", "1000")]).await;
        let mut messages = answer["messages"].as_array().unwrap().clone();
        messages.reverse();
        messages
    }

    /// What the bot has said in a channel, oldest first.
    pub(crate) async fn said(&self, channel: &str) -> Vec<String> {
        let messages = self.history(channel).await.into_iter().filter(|message| message["user"] == BOT);
        messages.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    }

    /// What the bot has said in a channel once one of it has these words.
    pub(crate) async fn until_said(&self, channel: &str, words: &str) -> Vec<String> {
        let what = format!("somebody says `{words}`");
        eventually(&what, async || {
            let said = self.said(channel).await;
            said.iter().any(|text| text.contains(words)).then_some(said)
        })
        .await
    }

    /// Somebody writes; the message as the emulator keeps it.
    pub(crate) async fn write(&self, token: &str, channel: &str, text: &str) -> Value {
        let posted = self.ask(token, "chat.postMessage", &[("channel", channel), ("text", text)]).await;
        let history = self.history(channel).await;
        history.into_iter().find(|message| message["ts"] == posted["ts"]).expect("what was just written")
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.front.abort();
    }
}

/// A message of a channel as the Events API tells of it.
pub(crate) fn event(id: &str, kind: &str, channel: &str, message: &Value) -> String {
    let mut event = message.clone();
    event["type"] = json!(kind);
    event["channel"] = json!(channel);
    let authorizations = json!([{ "team_id": "T000000001", "user_id": BOT, "is_bot": true }]);
    let envelope = json!({
        "token": "deprecated", "team_id": "T000000001", "api_app_id": "A000000001", "type": "event_callback",
        "event_id": id, "event_time": 1_795_289_156, "event": event, "authorizations": authorizations,
    });
    envelope.to_string()
}

/// A request as Slack signs it, this many seconds ago.
pub(crate) fn signed(request: RequestBuilder, secret: &str, seconds_ago: i64, body: String) -> RequestBuilder {
    let timestamp = SystemClock::new().now().as_seconds() - seconds_ago;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let digits = hex(&mac.finalize().into_bytes());
    let request = request.header("x-slack-request-timestamp", timestamp.to_string());
    request.header("x-slack-signature", format!("v0={digits}")).body(body)
}

async fn pass(
    State(weather): State<Arc<Weather>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut fault = None;
    if method == "chat.postMessage" {
        weather.asked.lock().unwrap().push(weather.clock.monotonic());
        fault = weather.script.lock().unwrap().pop_front();
    }
    match fault {
        Some(Fault::Limit(seconds)) => {
            let head = [("retry-after", seconds.to_string())];
            return (StatusCode::TOO_MANY_REQUESTS, head).into_response();
        }
        Some(Fault::Hold | Fault::PostedAndBroken) | None => {}
    }
    let mut request = weather.client.post(format!("{}/api/{method}", weather.target)).body(body);
    for name in ["authorization", "content-type"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let text = request.send().await.expect("the emulator answers").text().await.expect("the emulator answers");
    match fault {
        Some(Fault::Hold) => {
            weather.held.notify_one();
            std::future::pending().await
        }
        Some(Fault::PostedAndBroken) => StatusCode::BAD_GATEWAY.into_response(),
        _ => text.into_response(),
    }
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client")
}
