//! Two governors over one real store, under a clock that the test moves, with workflows that are only written down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use petrel::bus::MemoryBus;
use petrel::clock::{Clock, Ids, SeededIds, SimClock};
use petrel::governor::phases::NodeReport;
use petrel::governor::service::{Governor, Parts};
use petrel::governor::view::GroupView;
use petrel::model::action::{Action, OnLost};
use petrel::model::execution::ExecutionStatus;
use petrel::model::group::GroupName;
use petrel::model::node::{NodeName, NodePhase};
use petrel::model::pack::Catalogue;
use petrel::model::refs::{ActionRef, ExecutionId};
use petrel::model::scaling::Origin;
use petrel::requests::{Cancellation, Cancels, EndHook, Plan, RequestError, Requests, Wanted};
use petrel::store::rows::{Completion, Lease, NewExecution, Secrecy, Share, Start};
use petrel::store::{Store, StoreError};
use serde_json::{Value, json};
use tokio::sync::watch;

pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) clock: Arc<SimClock>,
    /// Of two daemons.
    pub(super) governors: [Governor; 2],
    parts: Parts,
}

/// Plans executions and runs none.
struct Workflows {
    ids: Arc<dyn Ids>,
    clock: Arc<SimClock>,
}

struct Planned(NewExecution);

impl Plan for Planned {
    fn execution(&self) -> &NewExecution {
        &self.0
    }

    fn committed(self: Box<Self>) {}
}

impl Requests for Workflows {
    fn plan(&self, wanted: Wanted) -> Result<Box<dyn Plan>, RequestError> {
        let (id, now) = (ExecutionId::from_bytes(self.ids.next()), self.clock.now());
        Ok(Box::new(Planned(NewExecution {
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
        })))
    }

    fn plan_failed(&self, wanted: Wanted, problem: &RequestError) -> NewExecution {
        panic!("nobody asks for {} when it is over: {problem}", wanted.action)
    }
}

#[async_trait]
impl Cancels for Workflows {
    async fn request_cancel(&self, _execution: ExecutionId) -> Result<Cancellation, StoreError> {
        Ok(Cancellation::Underway)
    }
}

pub(super) fn web() -> GroupName {
    "web".parse().unwrap()
}

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
    Catalogue {
        actions: ["cloud.create_node", "cloud.delete_node", "cloud.wait_ready"].map(action).into(),
        ..Catalogue::default()
    }
}

impl Desk {
    /// A group that is set up, over this store.
    pub(super) async fn open(store: Store, config: &Value, seed: u64) -> Self {
        let clock = Arc::new(SimClock::new("2026-06-01T08:30:00Z".parse().unwrap()));
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(seed, Arc::<SimClock>::clone(&clock)));
        let workflows = Arc::new(Workflows { ids: Arc::clone(&ids), clock: Arc::clone(&clock) });
        let parts = Parts {
            groups: store.groups(),
            contents: store.contents(),
            requests: Arc::<Workflows>::clone(&workflows),
            cancels: workflows,
            catalogue: watch::channel(Arc::new(catalogue())).1,
            clock: Arc::<SimClock>::clone(&clock),
            ids,
            bus: Arc::new(MemoryBus::default()),
        };
        let governors = [Governor::new(parts.clone()), Governor::new(parts.clone())];
        let desk = Self { store, clock, governors, parts };
        let new = json!({ "name": "web", "application": "shop", "provider": "cloud", "config": config });
        desk.governor().create(serde_json::from_value(new).unwrap(), Origin::Api).await.unwrap();
        desk.end(usize::MAX, ExecutionStatus::Succeeded).await;
        desk
    }

    pub(super) fn governor(&self) -> &Governor {
        &self.governors[0]
    }

    /// Both daemons are started again: all that they know is in the store.
    pub(super) fn restart(&mut self) {
        self.governors = [Governor::new(self.parts.clone()), Governor::new(self.parts.clone())];
    }

    pub(super) async fn group(&self) -> GroupView {
        self.governor().get(&web()).await.unwrap()
    }

    async fn report(&self, node: &NodeName, phase: NodePhase) {
        let report = NodeReport { node: node.clone(), phase, address: None, port: None };
        self.governor().node_phase(&web(), &report).await.unwrap();
    }

    /// The workflow under way, if there is one, does its work on the first `done` of its nodes and ends like this.
    pub(super) async fn end(&self, done: usize, status: ExecutionStatus) {
        let Some(activity) = self.group().await.activity else { return };
        let to = if activity.want > 0 { NodePhase::InService } else { NodePhase::Gone };
        for node in activity.nodes.iter().take(done) {
            self.report(node, to).await;
        }
        let (executions, now) = (self.store.executions(), self.clock.now());
        let lease = Lease { owner: "test".to_owned(), until: now.plus(Duration::from_secs(15)) };
        let execution = activity.execution.expect("an activity has a workflow");
        executions.execution_claim(&lease, &activity.id.to_string(), 100, Share::Everything, now).await.unwrap();
        let row = executions.execution_get(execution).await.unwrap();
        let activity = self.governors[1].activity_end(&row, status, &Value::Null).await.unwrap();
        let completion = Completion {
            claim: row.claim(),
            status,
            result: Value::Null,
            secrecy: Secrecy::Clear,
            ended_at: now,
            parent: None,
            instances: Vec::new(),
            retry: None,
            activity,
        };
        executions.execution_finish(&completion).await.unwrap();
    }
}
