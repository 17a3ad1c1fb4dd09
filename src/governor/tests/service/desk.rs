//! What a story needs: a store in a folder of its own, a governor, and workflows that are only written down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bus::MemoryBus;
use crate::clock::{Clock, Ids, SeededIds, SimClock};
use crate::governor::admission::Admission;
use crate::governor::definition::NewGroup;
use crate::governor::phases::NodeReport;
use crate::governor::service::{Governor, Parts};
use crate::governor::view::GroupView;
use crate::model::action::{Action, OnLost};
use crate::model::decision::{Delays, Request, Row};
use crate::model::execution::ExecutionStatus;
use crate::model::group::GroupName;
use crate::model::node::NodePhase;
use crate::model::pack::Catalogue;
use crate::model::refs::{ActionRef, ExecutionId};
use crate::model::scaling::Origin;
use crate::requests::{Cancellation, Cancels, EndHook, Plan, RequestError, Requests, Wanted};
use crate::store::rows::{ActivityEnd, Completion, ExecutionRow, Lease, NewExecution, Secrecy, Start};
use crate::store::{Store, StoreError, StoreResult};

pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) clock: Arc<SimClock>,
    pub(super) workflows: Arc<Workflows>,
    pub(super) governor: Arc<Governor>,
    parts: Parts,
    folder: tempfile::TempDir,
}

/// Plans executions, remembers which were let go and which were cancelled, and runs none.
pub(super) struct Workflows {
    ids: Arc<dyn Ids>,
    clock: Arc<SimClock>,
    pub(super) missing: Mutex<bool>,
    pub(super) started: Arc<Mutex<Vec<ExecutionId>>>,
    pub(super) cancelled: Mutex<Vec<ExecutionId>>,
    pub(super) cancellation: Mutex<Cancellation>,
}

struct Planned {
    execution: NewExecution,
    started: Arc<Mutex<Vec<ExecutionId>>>,
}

impl Plan for Planned {
    fn execution(&self) -> &NewExecution {
        &self.execution
    }

    fn committed(self: Box<Self>) {
        self.started.lock().unwrap().push(self.execution.id);
    }
}

impl Requests for Workflows {
    fn plan(&self, wanted: Wanted) -> Result<Box<dyn Plan>, RequestError> {
        if *self.missing.lock().unwrap() {
            return Err(RequestError::UnknownAction(wanted.action));
        }
        let now = self.clock.now();
        let id = ExecutionId::from_bytes(self.ids.next());
        let execution = NewExecution {
            id,
            action: wanted.action,
            runner: "workflow".to_owned(),
            parent: None,
            root: id,
            parameters: Value::Object(wanted.parameters),
            context: Value::Object(wanted.context),
            on_lost: OnLost::Retry,
            requested_at: now,
            start: Start::Queued { due_at: now, line: None },
            deadline: None,
        };
        Ok(Box::new(Planned { execution, started: Arc::clone(&self.started) }))
    }

    fn plan_failed(&self, wanted: Wanted, problem: &RequestError) -> NewExecution {
        panic!("the governor asks for no execution of {} that is over: {problem}", wanted.action)
    }
}

#[async_trait]
impl Cancels for Workflows {
    async fn request_cancel(&self, execution: ExecutionId) -> StoreResult<Cancellation> {
        self.cancelled.lock().unwrap().push(execution);
        Ok(*self.cancellation.lock().unwrap())
    }
}

pub(super) fn web() -> GroupName {
    "web".parse().unwrap()
}

pub(super) fn new_group(config: &Value) -> NewGroup {
    serde_json::from_value(json!({
        "name": "web", "application": "shop", "domain": "example.org", "provider": "cloud", "channel": "ops",
        "config": config,
    }))
    .unwrap()
}

pub(super) fn expand(delays: Delays) -> Request {
    Request::Expand { by: None, delays, origin: Origin::Api }
}

/// Loaded: a pack `cloud` that can be a provider and nothing else.
fn catalogue() -> Catalogue {
    let action = |reference: &str| {
        let reference: ActionRef = reference.parse().unwrap();
        let action = Action {
            reference: reference.clone(),
            description: String::new(),
            enabled: true,
            runner: "native".to_owned(),
            entry_point: "".into(),
            parameters: BTreeMap::new(),
            output_schema: BTreeMap::new(),
            tags: Vec::new(),
            notify: Value::Null,
            on_lost: OnLost::Retry,
            permission: None,
            metadata_file: String::new(),
        };
        (reference, Arc::new(action))
    };
    let verbs = ["cloud.create_node", "cloud.delete_node", "cloud.wait_ready"];
    Catalogue { actions: verbs.map(action).into(), ..Catalogue::default() }
}

impl Desk {
    /// No group yet; it is 08:30.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new("2026-11-21T08:30:00Z".parse().unwrap()));
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(7, Arc::<SimClock>::clone(&clock)));
        let workflows = Arc::new(Workflows {
            ids: Arc::clone(&ids),
            clock: Arc::clone(&clock),
            missing: Mutex::new(false),
            started: Arc::default(),
            cancelled: Mutex::default(),
            cancellation: Mutex::new(Cancellation::Underway),
        });
        let parts = Parts {
            groups: store.groups(),
            contents: store.contents(),
            requests: Arc::<Workflows>::clone(&workflows),
            cancels: Arc::<Workflows>::clone(&workflows),
            catalogue: watch::channel(Arc::new(catalogue())).1,
            clock: Arc::<SimClock>::clone(&clock),
            ids,
            bus: Arc::new(MemoryBus::default()),
        };
        let governor = Arc::new(Governor::new(parts.clone()));
        Self { store, clock, workflows, governor, parts, folder }
    }

    /// A group whose first nodes serve, and have for long enough to count.
    pub(super) async fn serving(config: &Value) -> Self {
        let desk = Self::new();
        desk.governor.create(new_group(config), Origin::Api).await.unwrap();
        desk.succeed().await;
        desk.ticks_for(Duration::from_secs(90)).await;
        desk
    }

    /// Another daemon on the same store.
    pub(super) fn another_governor(&self) -> Governor {
        Governor::new(self.parts.clone())
    }

    /// A daemon that goes by another clock.
    pub(super) fn another_governor_with(&self, clock: Arc<dyn Clock>) -> Governor {
        Governor::new(Parts { clock, ..self.parts.clone() })
    }

    /// The store's file.
    pub(super) fn database(&self) -> PathBuf {
        self.folder.path().join("petrel.db")
    }

    pub(super) async fn group(&self) -> GroupView {
        self.governor.get(&web()).await.unwrap()
    }

    pub(super) async fn ask(&self, request: &Request) -> Admission {
        self.governor.admit(&web(), request).await.unwrap()
    }

    /// The next look, a tick later.
    pub(super) async fn tick(&self) -> Admission {
        self.clock.advance(Duration::from_secs(30));
        self.ask(&Request::Tick).await
    }

    /// Looks as often as the timer does until `time` has passed; gives the rows that decided, without repetition.
    pub(super) async fn ticks_for(&self, time: Duration) -> Vec<Row> {
        let end = self.clock.now().plus(time);
        let mut rows = Vec::new();
        while self.clock.now() < end {
            rows.push(self.tick().await.decision.row);
        }
        rows.dedup();
        rows
    }

    pub(super) async fn report(&self, node: &str, phase: NodePhase) {
        let report = NodeReport { node: node.parse().unwrap(), phase, address: None, port: None };
        self.governor.node_phase(&web(), &report).await.unwrap();
    }

    /// The workflow under way does all it was asked for.
    pub(super) async fn succeed(&self) {
        let activity = self.group().await.activity.expect("an activity is under way");
        let nodes: Vec<String> = activity.nodes.iter().map(ToString::to_string).collect();
        let to = if activity.want > 0 { NodePhase::InService } else { NodePhase::Gone };
        for node in &nodes {
            self.report(node, to).await;
        }
        self.end(ExecutionStatus::Succeeded).await.unwrap();
    }

    /// The workflow under way ends like this, whatever its nodes are.
    pub(super) async fn end(&self, status: ExecutionStatus) -> StoreResult<()> {
        let row = self.claim().await;
        let end = self.activity_end(&row, status).await;
        self.finish(&row, status, end).await
    }

    /// Claims the workflow under way as a worker does.
    pub(super) async fn claim(&self) -> ExecutionRow {
        let activity = self.group().await.activity.expect("an activity is under way");
        let execution = activity.execution.expect("it has a workflow");
        let now = self.clock.now();
        let lease = Lease { owner: "test".to_owned(), until: now.plus(Duration::from_secs(15)) };
        self.store
            .executions()
            .execution_claim(&lease, "token", 100, crate::store::rows::Share::Everything, now)
            .await
            .unwrap();
        self.store.executions().execution_get(execution).await.unwrap()
    }

    pub(super) async fn activity_end(&self, row: &ExecutionRow, status: ExecutionStatus) -> Option<ActivityEnd> {
        self.governor.activity_end(row, status, &Value::Null).await.unwrap()
    }

    pub(super) async fn finish(
        &self,
        row: &ExecutionRow,
        status: ExecutionStatus,
        activity: Option<ActivityEnd>,
    ) -> Result<(), StoreError> {
        let completion = Completion {
            claim: row.claim(),
            status,
            result: Value::Null,
            secrecy: Secrecy::Clear,
            ended_at: self.clock.now(),
            parent: None,
            instances: Vec::new(),
            retry: None,
            activity,
        };
        self.store.executions().execution_finish(&completion).await
    }

    /// What listeners were told, oldest first.
    pub(super) async fn told(&self) -> Vec<String> {
        let rows = self.store.announcements().announcements_read(0, 10_000).await.unwrap();
        let notices = rows.into_iter().filter(|row| row.name == "st2.announcement__ops");
        notices.filter_map(|row| row.payload?["message"].as_str().map(str::to_owned)).collect()
    }
}
