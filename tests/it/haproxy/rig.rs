//! What the stories share: an HAProxy with the pack's actions in front of it, nodes, and visitors.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use petrel::clock::{Clock, SystemClock};
use petrel::haproxy::actions::add_actions;
use petrel::local::nodes::{Knobs, LocalNodes, Registration, Running};
use petrel::model::execution::ExecutionStatus;
use petrel::model::group::GroupName;
use petrel::model::pack::{Catalogue, Pack};
use petrel::model::time::Timestamp;
use petrel::runners::native::Native;
use petrel::runners::{Call, Outcome, RunEnd, Runner, Stop};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::servers::haproxy::Haproxy;
use crate::support::native;

/// Long enough for what happens at once, also on a slow machine.
const SOON: Duration = Duration::from_secs(20);

/// The actions, configured for one HAProxy.
pub(super) struct Desk {
    native: Native,
    _catalogue: watch::Sender<Arc<Catalogue>>,
}

impl Desk {
    /// Actions that reach HAProxy by its socket in the file system.
    pub(super) fn of(haproxy: &Haproxy) -> Self {
        Self::configured(json!({ "socket": haproxy.socket(), "check_interval": "50ms", "rise": 2, "fall": 2 }))
    }

    /// Actions that reach it by a port.
    pub(super) fn at(place: SocketAddr) -> Self {
        Self::configured(json!({ "socket": place.to_string(), "check_interval": "50ms", "rise": 1, "fall": 2 }))
    }

    /// Actions with this content of `configs/haproxy.yaml`.
    pub(super) fn configured(config: Value) -> Self {
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        let catalogue = Catalogue { packs: [("haproxy".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        let catalogue = watch::Sender::new(Arc::new(catalogue));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let mut native = Native::default();
        add_actions(&mut native, &catalogue.subscribe(), &clock);
        Self { native, _catalogue: catalogue }
    }

    /// Runs an action to its end.
    pub(super) async fn run(&self, action: &str, parameters: Value, stop: Stop) -> Outcome {
        match self.native.run(call(action, &parameters), stop).await {
            RunEnd::Finished(outcome) => outcome,
            other => panic!("it did not end: {other:?}"),
        }
    }

    /// Runs an action to its good end.
    pub(super) async fn succeed(&self, action: &str, parameters: Value) -> Value {
        let outcome = self.run(action, parameters, Stop::default()).await;
        assert_eq!(outcome.status, ExecutionStatus::Succeeded, "{action}: {}", outcome.result);
        outcome.result
    }

    /// Runs an action that must fail; its reason.
    pub(super) async fn fail(&self, action: &str, parameters: Value) -> String {
        let outcome = self.run(action, parameters, Stop::default()).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{action}: {}", outcome.result);
        outcome.result["error"].as_str().unwrap().to_owned()
    }

    /// Brings a node into service.
    pub(super) async fn add(&self, name: &str, place: SocketAddr) -> Value {
        self.succeed("add_backend", node_at(name, place)).await
    }

    /// Name and state of all servers of the group `web`.
    pub(super) async fn list(&self) -> Vec<(String, String)> {
        let listed = self.succeed("list_backends", json!({ "group": "web" })).await;
        let rows = listed["backends"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (text(&row["name"]), text(&row["state"]))).collect()
    }
}

/// Parameters that name a node of the group `web`.
pub(super) fn node(name: &str) -> Value {
    json!({ "group": "web", "name": name })
}

/// Parameters of `add_backend`.
pub(super) fn node_at(name: &str, place: SocketAddr) -> Value {
    json!({ "group": "web", "name": name, "address": place.ip(), "port": place.port(), "within": "20s" })
}

/// With how servers are named and what they are, as [`Desk::list`] says it.
pub(super) fn states<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(name, state)| (name.to_owned(), state.to_owned())).into()
}

fn call(action: &str, parameters: &Value) -> Call {
    native::call(&format!("haproxy.{action}"), parameters)
}

/// Real nodes of the provider `local`. They end with their folder.
pub(super) struct Nodes {
    nodes: LocalNodes,
    _folder: TempDir,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let nodes = LocalNodes::new(&folder.path().join("nodes"), env!("CARGO_BIN_EXE_petrel"), clock).unwrap();
        Self { nodes, _folder: folder }
    }

    /// Starts a node and waits until it is ready.
    pub(super) async fn start(&self, name: &str) -> SocketAddr {
        self.start_with(name, Knobs { service_time_ms: 5, ..Knobs::default() }).await;
        let (group, name) = (web(), name.parse().unwrap());
        place(&self.nodes.wait_ready(&group, &name, SOON).await.unwrap())
    }

    /// Starts a node that has reason not to be ready.
    pub(super) async fn start_with(&self, name: &str, knobs: Knobs) -> SocketAddr {
        let (tag, created_at) = ("t".to_owned(), Timestamp::default());
        let wanted = Registration { group: web(), name: name.parse().unwrap(), tag, size: None, knobs, created_at };
        place(&self.nodes.create(&wanted).await.unwrap())
    }

    /// Ends a node at once.
    pub(super) async fn end(&self, name: &str) {
        assert!(self.nodes.delete(&web(), &name.parse().unwrap(), None, Duration::ZERO).await.unwrap());
    }
}

fn web() -> GroupName {
    "web".parse().unwrap()
}

fn place(running: &Running) -> SocketAddr {
    SocketAddr::new(running.address.to_string().parse().unwrap(), running.port)
}

/// A server that is well and answers nobody until it is told to.
pub(super) struct Gate {
    pub(super) place: SocketAddr,
    opened: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Gate {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let place = listener.local_addr().unwrap();
        let opened = watch::Sender::new(false);
        let gate = opened.clone();
        let router = Router::new().fallback(async move |uri: Uri| {
            if uri.path() != "/health" {
                gate.subscribe().wait_for(|is_open| *is_open).await.unwrap();
            }
            StatusCode::OK
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { place, opened, server }
    }

    pub(super) fn open(&self) {
        self.opened.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One visit; what came of it.
pub(super) async fn visit(url: &str) -> StatusCode {
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().status()
}

/// People who visit again and again until they are asked.
pub(super) struct Visitors {
    visits: JoinSet<Vec<String>>,
    served: watch::Sender<usize>,
    enough: watch::Sender<bool>,
}

impl Visitors {
    pub(super) fn come(url: String, how_many: usize) -> Self {
        let (served, enough) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut visits = JoinSet::new();
        for _ in 0..how_many {
            visits.spawn(keep_visiting(url.clone(), served.clone(), enough.subscribe()));
        }
        Self { visits, served, enough }
    }

    /// Waits until so many more were served.
    pub(super) async fn until_served(&self, more: usize) {
        let wanted = *self.served.borrow() + more;
        self.served.subscribe().wait_for(|served| *served >= wanted).await.unwrap();
    }

    /// Sends them home; how often they were served, and what else they met.
    pub(super) async fn go(self) -> (usize, Vec<String>) {
        self.enough.send_replace(true);
        let met = self.visits.join_all().await.concat();
        (*self.served.borrow(), met)
    }
}

async fn keep_visiting(url: String, served: watch::Sender<usize>, enough: watch::Receiver<bool>) -> Vec<String> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut met = Vec::new();
    while !*enough.borrow() {
        match client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => served.send_modify(|served| *served += 1),
            Ok(answer) => met.push(answer.status().to_string()),
            Err(problem) => met.push(problem.to_string()),
        }
    }
    met
}
