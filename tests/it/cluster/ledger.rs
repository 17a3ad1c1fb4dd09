//! The world outside: an HTTP server in this process that actions call, which notes every call with its time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use petrel::clock::{Clock, SystemClock};
use petrel::model::time::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One call: what was done to what, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) verb: String,
    pub(super) tag: String,
    pub(super) at: Timestamp,
}

/// Notes what is done to the world. It ends when it is dropped.
pub(super) struct Ledger {
    address: SocketAddr,
    effects: Effects,
    server: JoinHandle<()>,
}

type Effects = Arc<Mutex<Vec<Effect>>>;

impl Ledger {
    /// An empty one, on a port of its own.
    pub(super) async fn start() -> Self {
        let effects = Effects::default();
        let router = Router::new().route("/{verb}/{tag}", post(note)).with_state(Arc::clone(&effects));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, effects, server }
    }

    /// An action that does `verb` to what its parameter `tag` names.
    pub(super) fn action(&self, name: &str, verb: &str, on_lost: &str) -> String {
        format!(
            "name: {name}\nrunner_type: http-request\non_lost: {on_lost}\nparameters:\n  tag: {{type: string}}\n  \
             method: {{immutable: true, default: POST}}\n  url:\n    immutable: true\n    default: \
             'http://{}/{verb}/{{{{ tag }}}}'\n",
            self.address
        )
    }

    /// Everything that was done so far, oldest first.
    pub(super) fn effects(&self) -> Vec<Effect> {
        self.effects.lock().unwrap().clone()
    }

    /// How often this verb was done to each tag.
    pub(super) fn times(&self, verb: &str) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for effect in self.effects().into_iter().filter(|effect| effect.verb == verb) {
            *times.entry(effect.tag).or_default() += 1;
        }
        times
    }
}

async fn note(State(effects): State<Effects>, Path((verb, tag)): Path<(String, String)>) -> &'static str {
    let at = SystemClock::new().now();
    effects.lock().unwrap().push(Effect { verb, tag, at });
    "noted\n"
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.server.abort();
    }
}
