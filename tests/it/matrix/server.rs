//! The outside behind HTTP: one server for all cells, one world for each, and in each world the troubles that a test wants.
//! It is written by hand because its troubles are those of connections: an answer that never leaves, a caller who goes away.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use petrel::model::time::Timestamp;
use petrel::packs::shipped;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::outside::{Call, Entry, Outside};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// It is refused and not done.
    Error,
    /// It is refused for want of room.
    Capacity,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and there is no answer until the caller gives up.
    Hang,
    /// It is done, and there is no answer until the caller gives up.
    HangAfter,
}

/// Which calls are troubled, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) verb: String,
    pub(super) about: String,
    pub(super) trouble: Trouble,
    pub(super) times: usize,
}

/// Commits of the caller, and its time.
type Counter = Box<dyn Fn() -> (usize, Timestamp) + Send>;

/// One world: what there is, what was asked of it, what will go wrong.
pub(super) struct World {
    state: Mutex<State>,
    hanging: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    outside: Outside,
    log: Vec<Entry>,
    planned: Vec<Planned>,
    commits: Option<Counter>,
}

impl World {
    pub(super) fn new(outside: Outside, log: Vec<Entry>) -> Arc<Self> {
        let state = Mutex::new(State { outside, log, ..State::default() });
        Arc::new(Self { state, hanging: watch::Sender::new(0) })
    }

    /// From now on each entry of the log says how many commits there were.
    pub(super) fn count_commits(&self, counter: impl Fn() -> (usize, Timestamp) + Send + 'static) {
        self.state().commits = Some(Box::new(counter));
    }

    pub(super) fn plan(&self, planned: Planned) {
        self.state().planned.push(planned);
    }

    /// Something happens to it that no caller did.
    pub(super) fn change(&self, change: impl FnOnce(&mut Outside)) {
        change(&mut self.state().outside);
    }

    pub(super) fn outside(&self) -> Outside {
        self.state().outside.clone()
    }

    pub(super) fn log(&self) -> Vec<Entry> {
        self.state().log.clone()
    }

    /// Troubles that have not come about.
    pub(super) fn still_planned(&self) -> usize {
        self.state().planned.iter().map(|planned| planned.times).sum()
    }

    /// Whoever looks will be told everything.
    pub(super) fn shows_all(&self) -> bool {
        !self.state().planned.iter().any(|planned| planned.times > 0 && planned.verb.starts_with("list_"))
    }

    /// Returns when a call hangs.
    pub(super) async fn hung(&self) {
        self.hanging.subscribe().wait_for(|hanging| *hanging > 0).await.unwrap();
    }

    pub(super) fn is_hanging(&self) -> bool {
        *self.hanging.borrow() > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of a call. `None`: there is no answer. What was given up before it began is not begun: whoever gave it up may
    /// have undone it already, and that is known as long as nobody else can be served.
    fn take(&self, call: Call, is_given_up: impl Fn() -> bool) -> (Option<(u16, Value)>, Option<Trouble>) {
        let mut state = self.state();
        if is_given_up() {
            return (None, None);
        }
        let trouble = state.trouble_of(&call);
        let (commits, at) = state.commits.as_ref().map(|counter| counter()).unwrap_or_default();
        let effect = !matches!(trouble, Some(Trouble::Error | Trouble::Capacity | Trouble::Hang));
        let (answer, changed) = if effect { state.outside.apply(&call) } else { (Ok(Value::Null), false) };
        let done = effect && answer.is_ok();
        state.log.push(Entry { call, commits, at, changed, done, trouble });
        drop(state);
        let reply = match (trouble, answer) {
            (None, Ok(body)) => Some((200, body)),
            (None, Err(why)) => Some((409, json!({ "error": why }))),
            (Some(Trouble::Error), _) => Some((500, json!({ "error": "out of order" }))),
            (Some(Trouble::Capacity), _) => Some((503, json!({ "error": "InsufficientInstanceCapacity" }))),
            (Some(Trouble::Lost | Trouble::Hang | Trouble::HangAfter), _) => None,
        };
        (reply, trouble)
    }
}

impl State {
    fn trouble_of(&mut self, call: &Call) -> Option<Trouble> {
        let fits =
            |planned: &&mut Planned| planned.verb == call.verb && planned.about == call.about && planned.times > 0;
        let planned = self.planned.iter_mut().find(fits)?;
        planned.times -= 1;
        Some(planned.trouble)
    }
}

/// All worlds, by the name of their cell.
pub(super) struct Server {
    address: SocketAddr,
    worlds: Arc<Mutex<BTreeMap<String, Arc<World>>>>,
    task: JoinHandle<()>,
    /// Written once, and only those that groups need: to unpack and to read all of them takes longer than most cells.
    shipped_packs: TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let worlds: Arc<Mutex<BTreeMap<String, Arc<World>>>> = Arc::default();
        let known = Arc::clone(&worlds);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&known)));
            }
        });
        let shipped_packs = tempfile::tempdir().unwrap();
        let unpacked = shipped::unpack(shipped_packs.path()).unwrap();
        for pack in std::fs::read_dir(unpacked).unwrap().map(|entry| entry.unwrap().path()) {
            if !["autoscale", "core"].iter().any(|needed| pack.ends_with(needed)) {
                std::fs::remove_dir_all(pack).unwrap();
            }
        }
        Self { address, worlds, task, shipped_packs }
    }

    /// An engine with this data folder finds the shipped packs unpacked.
    pub(super) fn lend_shipped_packs(&self, data_dir: &Path) {
        std::os::unix::fs::symlink(self.shipped_packs.path(), data_dir.join("shipped-packs")).unwrap();
    }

    pub(super) fn add(&self, cell: &str, world: &Arc<World>) {
        self.worlds.lock().unwrap().insert(cell.to_owned(), Arc::clone(world));
    }

    pub(super) fn remove(&self, cell: &str) {
        self.worlds.lock().unwrap().remove(cell);
    }

    /// The files of the pack `outside` that calls the world of this cell.
    pub(super) fn pack(&self, cell: &str) -> Vec<(String, String)> {
        let action = |(verb, parameters): &(&str, &[&str])| {
            let declared: Vec<String> = parameters.iter().map(|name| format!("  {name}: {{}}\n")).collect();
            let said: Vec<String> = parameters.iter().map(|name| format!("{name}: '{{{{ {name} }}}}'")).collect();
            let text = format!(
                "name: {verb}\nrunner_type: http-request\nenabled: true\non_lost: retry\nparameters:\n{declared}  \
                 method: {{immutable: true, default: POST}}\n  verify_ssl_cert: {{immutable: true, default: false}}\n  \
                 url: {{immutable: true, default: 'http://{}/{cell}/{verb}'}}\n  \
                 body: {{type: object, immutable: true, default: {{{}}}}}\n",
                self.address,
                said.join(", "),
                declared = declared.concat(),
            );
            (format!("packs/outside/actions/{verb}.yaml"), text)
        };
        let pack = "name: outside\nref: outside\nversion: 1.0.0\n".to_owned();
        std::iter::once(("packs/outside/pack.yaml".to_owned(), pack)).chain(VERBS.iter().map(action)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every verb with what it is told.
const VERBS: [(&str, &[&str]); 18] = [
    ("create_group", &["group"]),
    ("delete_group", &["group"]),
    ("create_zone", &["domain"]),
    ("delete_zone", &["domain"]),
    ("create_pool", &["group"]),
    ("delete_pool", &["group"]),
    ("create_node", &["group", "name", "tag"]),
    ("wait_ready", &["group", "name", "within"]),
    ("delete_node", &["group", "name"]),
    ("list_nodes", &["group"]),
    ("configure_node", &["group", "name", "address", "port"]),
    ("upsert_record", &["domain", "name", "type", "data"]),
    ("delete_record", &["domain", "name"]),
    ("list_records", &["domain"]),
    ("add_backend", &["group", "name", "address", "port"]),
    ("drain_backend", &["group", "name", "within"]),
    ("remove_backend", &["group", "name"]),
    ("list_backends", &["group"]),
];

async fn serve(mut stream: TcpStream, worlds: Arc<Mutex<BTreeMap<String, Arc<World>>>>) {
    let Some((path, said)) = request(&mut stream).await else { return };
    let Some((cell, verb)) = path.trim_start_matches('/').split_once('/') else { return };
    let Some(world) = worlds.lock().unwrap().get(cell).map(Arc::clone) else { panic!("no world is called {cell}") };
    let about = said.get("name").or_else(|| said.get("group")).or_else(|| said.get("domain")).and_then(Value::as_str);
    let call = Call { verb: verb.to_owned(), about: about.unwrap_or_default().to_owned(), said: said.clone() };
    let caller = stream.into_std().unwrap();
    let (reply, trouble) = world.take(call, || matches!(caller.peek(&mut [0; 1]), Ok(0)));
    let mut stream = TcpStream::from_std(caller).unwrap();
    if matches!(trouble, Some(Trouble::Hang | Trouble::HangAfter)) {
        world.hanging.send_modify(|hanging| *hanging += 1);
        let gone = stream.read(&mut [0; 1]).await;
        assert!(!matches!(gone, Ok(1..)), "a caller that waits says nothing more");
        world.hanging.send_modify(|hanging| *hanging -= 1);
    }
    if let Some((status, body)) = reply {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let heard = stream.write_all(format!("{head}{body}").as_bytes()).await;
        drop(heard); // whoever has gone does not hear it
    }
}

/// Path and body. `None`: the caller went away before it had said all.
async fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
            let wanted: usize = head.lines().find_map(length).map_or(0, |length| length.trim().parse().unwrap());
            if body.len() >= wanted {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, serde_json::from_str(body).unwrap_or_default()));
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
