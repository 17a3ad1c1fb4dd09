//! A house with doors in a temporary folder, and a caller.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::api::asg::{
    AsgError, AsgResult, AsgService, Force, Freeze, NewGroup, Protect, Reconfigure, Resume, Scale, Suspend,
};
use crate::api::dead_letters::{BusService, RequeueError, Requeued};
use crate::api::upkeep::{BackupError, BackupService, Checked, WorkflowCheck};
use crate::api::{Bodies, Doors, Gate, Stores, first_start, router};
use crate::auth::{WebhookAuth, Withheld};
use crate::bus::{MemoryBus, Topic};
use crate::chat::desk::{Desk, Parts};
use crate::clock::{Clock, SeededIds, SimClock};
use crate::config::{Limits, Webhooks};
use crate::content::{self, ContentKeeper, Origins, Writers};
use crate::datastore::Datastore;
use crate::dispatch::{self, Dispatcher, Neighbours, World};
use crate::health::Troubles;
use crate::intake::{Intake, Landing};
use crate::metrics::Metrics;
use crate::model::action::ParameterSpec;
use crate::model::execution::ExecutionStatus;
use crate::model::pack::Catalogue;
use crate::model::refs::ExecutionId;
use crate::packs::check::Runners;
use crate::packs::layout::ContentRoots;
use crate::packs::publication::shelf::Shelf;
use crate::packs::shipped;
use crate::requests::{EndHook, Parents};
use crate::runners::noop::Noop;
use crate::runners::{Registry, Runner};
use crate::secrets::Keyring;
use crate::sensors::hooks::Hooks;
use crate::store::daemons::DaemonRow;
use crate::store::dead_letters::DeadLetterRow;
use crate::store::rows::{ActivityEnd, Completion, ExecutionRow};
use crate::store::{Store, StoreResult};
use crate::supervise::Supervisor;

/// Where the tests begin.
pub(super) const START: &str = "2026-11-21T08:30:00Z";

/// What is different in a test's house.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) limits: Limits,
    pub(super) webhooks: Webhooks,
    pub(super) max_database_bytes: Option<u64>,
    pub(super) act_as: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let limits = Limits {
            body_bytes: 4096,
            json_depth: 16,
            rate_per_second: 50_000,
            intake_queue: 64,
            unauthenticated_body_bytes: 16_384,
        };
        Self { limits, webhooks: Webhooks::default(), max_database_bytes: None, act_as: Vec::new() }
    }
}

/// Everything behind the router that a story may look at.
pub(super) struct House {
    pub(super) doors: Doors,
    pub(super) clock: Arc<SimClock>,
    pub(super) admin: String,
    router: Router,
    _dir: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    pub(super) fn fault(&self) -> String {
        self.json()["faultstring"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl House {
    pub(super) async fn new() -> Self {
        Self::build(Plan::default()).await
    }

    pub(super) async fn build(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_site(dir.path());
        let clock = Arc::new(SimClock::new(START.parse().unwrap()));
        let world = world(&clock);
        let store = Store::open_sqlite(&dir.path().join("petrel.db"), plan.max_database_bytes).unwrap();
        let keyring = Arc::new(Keyring::from_key(&[7; 32]));
        let datastore = Datastore::new(store.key_values(), keyring, Arc::clone(&world.clock));
        let (publish, catalogue) = watch::channel(Arc::new(Catalogue::default()));
        let dispatcher = dispatcher(&store, &datastore, &world, &catalogue);
        let content = load_content(dir.path(), &store, &world, publish).await;
        let made = first_start(&store.identities(), &*world.ids, &*world.clock, dir.path()).await.unwrap().unwrap();
        let admin = fs::read_to_string(made).unwrap().trim().to_owned();
        let doors = doors(plan, &store, datastore, (dispatcher, content), catalogue, world);
        Self { router: router(&doors), doors, clock, admin, _dir: dir }
    }

    /// A user with this role, by their API key.
    pub(super) async fn key_of(&self, role: &str) -> String {
        let user = json!({ "name": format!("the-{role}"), "role": role });
        assert_eq!(self.post("/v1/users", user).await.status, StatusCode::CREATED);
        let made = self.post("/v1/apikeys", json!({ "user": format!("the-{role}") })).await;
        made.json()["key"].as_str().unwrap().to_owned()
    }

    /// Any request.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, 1 << 20).await.unwrap() }
    }

    /// A request whose answer goes on.
    pub(super) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// A request by whoever has this key.
    pub(super) async fn call(&self, key: &str, method: &str, uri: &str, body: Option<Value>) -> Answer {
        self.send(request(key, method, uri, body)).await
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.call(&self.admin, "GET", uri, None).await
    }

    pub(super) async fn post(&self, uri: &str, body: Value) -> Answer {
        self.call(&self.admin, "POST", uri, Some(body)).await
    }

    pub(super) async fn put(&self, uri: &str, body: Value) -> Answer {
        self.call(&self.admin, "PUT", uri, Some(body)).await
    }

    pub(super) async fn delete(&self, uri: &str) -> Answer {
        self.call(&self.admin, "DELETE", uri, None).await
    }

    /// The execution once it has ended.
    pub(super) async fn ended(&self, id: &str) -> Value {
        let mut news = self.doors.world.bus.listen(Topic::Announcements);
        loop {
            let shown = self.get(&format!("/v1/executions/{id}")).await.json();
            let status: ExecutionStatus = serde_json::from_value(shown["status"].clone()).unwrap();
            if status.is_completed() {
                return shown;
            }
            news.heard().await;
        }
    }
}

pub(super) fn request(key: &str, method: &str, uri: &str, body: Option<Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(uri).header("st2-api-key", key);
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    builder.body(body).unwrap()
}

fn write_site(site: &Path) {
    let files = [
        (
            "rules/deploy.yaml",
            "name: deploy\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: team/deploy}}\n\
             criteria: {trigger.body.app: {type: eq, pattern: web}}\n\
             action: {ref: core.noop}\n",
        ),
        (
            "packs/lab/pack.yaml",
            "ref: lab\nname: lab\ndescription: for tests\nversion: 1.0.0\nauthor: tests\nemail: a@b.c\n",
        ),
        (
            "packs/lab/actions/login.yaml",
            "name: login\nrunner_type: noop\nenabled: true\nparameters:\n  user: {type: string}\n  \
             password: {type: string, secret: true}\n",
        ),
        ("packs/vault/pack.yaml", "ref: vault\nname: vault\nversion: 1.0.0\n"),
        ("packs/vault/actions/wipe.yaml", "name: wipe\nrunner_type: noop\nenabled: true\npermission: group_write\n"),
        ("packs/vault/aliases/wipe.yaml", "name: wipe\naction_ref: vault.wipe\nformats: [wipe]\n"),
        ("packs/vault/aliases/anns.yaml", "name: anns\naction_ref: core.noop\nformats: [anns]\nusers: [ann]\n"),
    ];
    for (path, text) in files {
        let file = site.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn world(clock: &Arc<SimClock>) -> World {
    let clock: Arc<dyn Clock> = Arc::<SimClock>::clone(clock);
    World {
        ids: Arc::new(SeededIds::new(1, Arc::clone(&clock))),
        bus: Arc::new(MemoryBus::default()),
        supervisor: Supervisor::new(Arc::clone(&clock)),
        metrics: Metrics::default(),
        clock,
    }
}

fn dispatcher(
    store: &Store,
    datastore: &Datastore,
    world: &World,
    catalogue: &watch::Receiver<Arc<Catalogue>>,
) -> Arc<Dispatcher> {
    let stores = dispatch::Stores {
        executions: store.executions(),
        obligations: store.obligations(),
        events: store.events(),
        outputs: store.outputs(),
        journals: store.journals(),
        datastore: datastore.clone(),
    };
    let limits = dispatch::Limits {
        worker_slots: 4,
        default_timeout: Duration::from_hours(1),
        share: crate::store::rows::Share::Everything,
    };
    let dispatcher = Dispatcher::new(stores, world.clone(), catalogue.clone(), limits, "test".to_owned());
    let mut registry = Registry::default();
    registry.add(Arc::new(Noop));
    dispatcher.introduce(registry, Neighbours { end_hook: Arc::new(Alone), parents: Arc::new(Alone) });
    dispatcher
}

async fn load_content(
    site: &Path,
    store: &Store,
    world: &World,
    publish: watch::Sender<Arc<Catalogue>>,
) -> Arc<ContentKeeper> {
    let shipped = shipped::unpack(&site.join("shipped")).unwrap();
    let own = ContentRoots { site: site.to_owned(), packs: vec![site.join("packs"), shipped.clone()] };
    let shelf = Shelf::new(site.join("catalogues"));
    let origins = Origins { own, shipped, shelf, catalogues: store.catalogues() };
    // The shipped packs name these; only `noop` is really here.
    let any = [("cmd".to_owned(), ParameterSpec::default())].into();
    let names =
        ["local-shell-cmd", "local-shell-script", "remote-shell-cmd", "http-request", "native", "inquirer", "workflow"];
    let mut runners: Runners = names.map(|name| (name.to_owned(), BTreeMap::clone(&any))).into();
    runners.insert("noop".to_owned(), Noop.parameters());
    let (bus, clock) = (Arc::clone(&world.bus), Arc::clone(&world.clock));
    let mut hints = bus.listen(Topic::Content);
    let parts = content::Parts { origins, writers: Writers::Myself, contents: store.contents(), runners, bus, clock };
    let keeper = Arc::new(ContentKeeper::new(parts, publish));
    keeper.reload().await.unwrap();
    let reloading = Arc::clone(&keeper);
    world.supervisor.spawn_once("content", async move {
        loop {
            hints.heard().await;
            reloading.reload().await?;
        }
    });
    keeper
}

fn myself(now: crate::model::time::Timestamp) -> DaemonRow {
    DaemonRow {
        owner: "test".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        version: "1".to_owned(),
        roles: "api,rules".to_owned(),
        api: "http://127.0.0.1:9101".to_owned(),
        catalogue: String::new(),
        started_at: now,
        seen_at: now,
    }
}

fn doors(
    plan: Plan,
    store: &Store,
    datastore: Datastore,
    (dispatcher, content): (Arc<Dispatcher>, Arc<ContentKeeper>),
    catalogue: watch::Receiver<Arc<Catalogue>>,
    world: World,
) -> Doors {
    let stores = Stores {
        events: store.events(),
        executions: store.executions(),
        obligations: store.obligations(),
        journals: store.journals(),
        outputs: store.outputs(),
        contents: store.contents(),
        announcements: store.announcements(),
        dead_letters: store.dead_letters(),
        daemons: store.daemons(),
        suspects: store.suspects(),
    };
    let World { clock, ids, bus, supervisor, metrics } = world.clone();
    let intake = Intake::new(Landing::new(store.events(), bus), Arc::clone(&clock), ids);
    let chat = Desk::new(Parts {
        catalogue: catalogue.clone(),
        requests: Arc::<Dispatcher>::clone(&dispatcher),
        executions: store.executions(),
        identities: store.identities(),
        datastore: datastore.clone(),
        clock: Arc::clone(&clock),
    });
    Doors {
        chat,
        guests: Router::new(),
        me: myself(clock.now()),
        gate: Gate::new(store.identities(), Arc::clone(&clock), supervisor, metrics.clone()).with_act_as(&plan.act_as),
        bodies: Bodies::new(&plan.limits, Arc::clone(&clock), metrics.clone()),
        withheld: Arc::new(Withheld::new(plan.webhooks.paths.values().chain([&plan.webhooks.default_auth]))),
        hooks: Arc::new(Hooks::new(intake.clone(), clock, catalogue.clone())),
        intake,
        stores,
        datastore,
        dispatcher,
        catalogue,
        content,
        world,
        limits: plan.limits,
        webhooks: Arc::new(plan.webhooks),
        metrics,
        governor: Arc::new(NoGroups),
        workflows: Arc::new(Alone),
        backup: Arc::new(Alone),
        bus: Arc::new(Alone),
        troubles: Troubles::default(),
    }
}

/// Webhooks that anybody may send to.
pub(super) fn open_webhooks() -> Webhooks {
    Webhooks { default_auth: WebhookAuth::Open, ..Webhooks::default() }
}

/// Nobody else lives here.
struct Alone;

#[async_trait]
impl EndHook for Alone {
    async fn activity_end(
        &self,
        _execution: &ExecutionRow,
        _status: ExecutionStatus,
        _result: &Value,
    ) -> StoreResult<Option<ActivityEnd>> {
        Ok(None)
    }

    fn ended(&self, _execution: &ExecutionRow, _status: ExecutionStatus) {}
}

impl Parents for Alone {
    fn deliver(&self, end: Completion) -> Result<(), Box<Completion>> {
        Err(Box::new(end))
    }

    fn look_again(&self, _workflow: ExecutionId) {}

    fn unwritten(&self) -> std::collections::BTreeSet<ExecutionId> {
        std::collections::BTreeSet::new()
    }
}

#[async_trait]
impl WorkflowCheck for Alone {
    async fn check(&self) -> StoreResult<Checked> {
        Ok(Checked::default())
    }
}

#[async_trait]
impl BackupService for Alone {
    async fn backup(&self, _target: &Path) -> Result<u64, BackupError> {
        Ok(0)
    }
}

/// There is no broker, and only one message that can be helped.
#[async_trait]
impl BusService for Alone {
    fn reasons_not_ready(&self) -> Vec<String> {
        Vec::new()
    }

    async fn requeue(&self, _letter: &DeadLetterRow, body: &[u8]) -> Result<Requeued, RequeueError> {
        if body == b"sound" { Ok(Requeued::Landed) } else { Err(RequeueError::Poison("it is no delivery".to_owned())) }
    }
}

/// A governor without groups.
struct NoGroups;

fn none(group: &str) -> AsgResult {
    Err(AsgError::NotFound(format!("group `{group}`")))
}

#[async_trait]
impl AsgService for NoGroups {
    async fn list(&self) -> AsgResult {
        Ok(json!([]))
    }
    async fn get(&self, group: &str) -> AsgResult {
        none(group)
    }
    async fn create(&self, new: NewGroup, by: &str) -> AsgResult {
        Ok(json!({ "group": new.name, "by": by }))
    }
    async fn configure(&self, group: &str, _change: Reconfigure, _by: &str) -> AsgResult {
        none(group)
    }
    async fn delete(&self, group: &str, _by: &str) -> AsgResult {
        none(group)
    }
    async fn expand(&self, _group: &str, scale: Scale, _by: &str) -> AsgResult {
        Err(AsgError::Refused(format!("the group is at its maximum (by: {:?})", scale.by)))
    }
    async fn deflate(&self, group: &str, _scale: Scale, _by: &str) -> AsgResult {
        none(group)
    }
    async fn add_node(&self, group: &str, _force: Force, _by: &str) -> AsgResult {
        none(group)
    }
    async fn delete_node(&self, group: &str, _node: &str, _force: Force, _by: &str) -> AsgResult {
        none(group)
    }
    async fn protect(&self, group: &str, _node: &str, _protect: Protect, _by: &str) -> AsgResult {
        none(group)
    }
    async fn approve(&self, group: &str, _by: &str) -> AsgResult {
        none(group)
    }
    async fn deny(&self, group: &str, _by: &str) -> AsgResult {
        none(group)
    }
    async fn explain(&self, _group: &str, limit: i64) -> AsgResult {
        Ok(json!([{ "limit": limit }]))
    }
    async fn activities(&self, group: &str, _limit: i64) -> AsgResult {
        none(group)
    }
    async fn suspend(&self, group: &str, _suspend: Suspend, _by: &str) -> AsgResult {
        none(group)
    }
    async fn resume(&self, group: &str, _resume: Resume, _by: &str) -> AsgResult {
        none(group)
    }
    async fn freeze(&self, freeze: Freeze, by: &str) -> AsgResult {
        Ok(json!({ "reason": freeze.reason, "by": by }))
    }
    async fn thaw(&self, _by: &str) -> AsgResult {
        Ok(Value::Null)
    }
    async fn freeze_state(&self) -> AsgResult {
        Ok(Value::Null)
    }
}
