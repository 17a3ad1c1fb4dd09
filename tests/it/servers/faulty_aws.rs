//! AWS on its worse days: stands before an emulator, and for each action does what a script says before all is well again.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use petrel::clock::{Clock, SystemClock};
use petrel::model::time::Timestamp;
use reqwest::{Client, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::aws::Emulator;

/// What happens to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered.
    None,
    /// It is refused as AWS refuses, and not done.
    Refuse(u16, &'static str),
    /// It is not done, and somebody says so in HTML.
    Html(u16),
    /// It is done, and AWS says it had trouble.
    DoneAndHtml(u16),
    /// It is done, and the connection breaks.
    Swallow,
    /// It is not done, and the connection breaks.
    Break,
    /// It is done, and whoever waits for the answer finds that his time is over: see [`FaultyAws::clock`].
    Slow,
    /// It is done, and never answered.
    Hold,
    /// The connection breaks, and it is done when the story lets it be heard.
    Late,
    /// It is answered with this, and not done.
    Say(u16, String),
}

/// The way to an emulator.
pub(crate) struct FaultyAws {
    place: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    target: String,
    client: Client,
    scripts: Mutex<BTreeMap<String, VecDeque<Fault>>>,
    /// All that came, whatever became of it.
    asked: Mutex<Vec<Asked>>,
    /// Actions that the emulator has heard, in order.
    heard: Mutex<Vec<String>>,
    /// Those who wait for an answer hear this.
    too_late: Arc<Notify>,
    /// Late questions wait for this.
    let_through: watch::Sender<bool>,
}

impl FaultyAws {
    /// Opens one before an emulator.
    pub(crate) async fn before(emulator: &Emulator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: emulator.url().to_owned(),
            client: Client::builder().no_proxy().build().unwrap(),
            scripts: Mutex::default(),
            asked: Mutex::default(),
            heard: Mutex::default(),
            too_late: Arc::default(),
            let_through: watch::Sender::new(false),
        });
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move { state.serve(stream).await });
            }
        });
        Self { place, state, server }
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.place)
    }

    /// The next questions for an action meet these, one after the other.
    pub(crate) fn script(&self, action: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.scripts.lock().unwrap().entry(action.to_owned()).or_default().extend(faults);
    }

    /// From now on all is well.
    pub(crate) fn clear(&self) {
        self.state.scripts.lock().unwrap().clear();
    }

    /// How often the emulator has heard an action.
    pub(crate) fn heard(&self, action: &str) -> usize {
        self.state.heard.lock().unwrap().iter().filter(|heard| *heard == action).count()
    }

    /// A clock by which waits of this length are over when an answer is slow, and not because the machine is.
    pub(crate) fn clock(&self, limit: Duration) -> Arc<dyn Clock> {
        Arc::new(Hurried { clock: SystemClock::new(), limit, too_late: Arc::clone(&self.state.too_late) })
    }

    /// All questions that came so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Questions that were late are heard now.
    pub(crate) fn let_through(&self) {
        self.state.let_through.send_replace(true);
    }
}

#[derive(Debug)]
struct Hurried {
    clock: SystemClock,
    limit: Duration,
    too_late: Arc<Notify>,
}

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn follow(&self, shown: Timestamp) {
        self.clock.follow(shown);
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.clock.sleep_until(at).await;
    }

    async fn sleep_for(&self, duration: Duration) {
        tokio::select! {
            () = self.clock.sleep_for(duration) => {}
            () = self.too_late.notified(), if duration == self.limit => {}
        }
    }
}

impl Drop for FaultyAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A question as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// With what stands behind it.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl State {
    /// One question on each connection, so that breaking one hurts nobody else.
    async fn serve(&self, mut stream: TcpStream) {
        let Some(asked) = read(&mut stream).await else { return };
        let action = asked.action();
        self.asked.lock().unwrap().push(asked.clone());
        let next = self.scripts.lock().unwrap().get_mut(&action).and_then(VecDeque::pop_front);
        match next.unwrap_or(Fault::None) {
            Fault::None => {
                let (status, text) = self.pass(&asked, &action).await;
                write(&mut stream, status, &text).await;
            }
            Fault::Refuse(status, code) => {
                let text = format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>as scripted</Message></Error></Errors></Response>"
                );
                write(&mut stream, status, &text).await;
            }
            Fault::Html(status) => write(&mut stream, status, "<!doctype html>\n<h1>as scripted</h1>").await,
            Fault::DoneAndHtml(status) => {
                self.pass(&asked, &action).await;
                write(&mut stream, status, "<!doctype html>\n<h1>as scripted</h1>").await;
            }
            Fault::Swallow => drop(self.pass(&asked, &action).await),
            Fault::Break => {}
            Fault::Slow => {
                self.pass(&asked, &action).await;
                self.too_late.notify_waiters();
                until_given_up(stream).await;
            }
            Fault::Hold => {
                self.pass(&asked, &action).await;
                until_given_up(stream).await;
            }
            Fault::Late => {
                drop(stream);
                self.let_through.subscribe().wait_for(|open| *open).await.unwrap();
                self.pass(&asked, &action).await;
            }
            Fault::Say(status, text) => write(&mut stream, status, &text).await,
        }
    }

    async fn pass(&self, asked: &Asked, action: &str) -> (u16, String) {
        let mut request = self.client.request(asked.method.clone(), format!("{}{}", self.target, asked.path));
        let own = ["host", "content-length", "connection"];
        for (name, value) in asked.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            request = request.header(name, value);
        }
        let response = request.body(asked.body.clone()).send().await.expect("the emulator answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("the emulator answers");
        self.heard.lock().unwrap().push(action.to_owned());
        (status, text)
    }
}

impl Asked {
    /// What a query API is asked, or the method and the last words of the path.
    fn action(&self) -> String {
        let form = String::from_utf8_lossy(&self.body);
        let named = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
        named.map_or_else(|| format!("{} {}", self.method, self.noun()), str::to_owned)
    }

    fn noun(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        let words = ["rrset", "change", "hostedzonesbyname", "hostedzone"];
        words.into_iter().find(|word| path.contains(&format!("/{word}"))).unwrap_or("?")
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.parse().ok()?, first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Some(0), |(_, length)| length.parse().ok())?;
    let mut body = bytes[head + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Asked { method, path, headers, body })
}

/// Until the other side goes away, in whatever way.
async fn until_given_up(mut stream: TcpStream) {
    drop(stream.read_to_end(&mut Vec::new()).await);
}

async fn write(stream: &mut TcpStream, status: u16, text: &str) {
    let head = format!(
        "HTTP/1.1 {status} as scripted\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    // Whoever has gone away needs no answer.
    drop(stream.write_all(format!("{head}{text}").as_bytes()).await);
}
