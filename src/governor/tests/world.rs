//! A group in a small model of the world: a clock, a workflow that goes as the test says, and the ledger in between.

use std::time::Duration;

use crate::governor::decide::decide;
use crate::governor::ledger::{self, WorkflowEnd};
use crate::model::decision::{Decision, Delays, Request, Verdict};
use crate::model::group::{Freeze, Group, NodeCount, Part, RoleParameters, Roles, Suspension};
use crate::model::group_config::GroupConfig;
use crate::model::group_state::GroupState;
use crate::model::incident::{IncidentState, Observation, Severity};
use crate::model::node::{NodeName, NodePhase};
use crate::model::refs::ActivityId;
use crate::model::scaling::{ActivityStatus, Origin, ScalingActivity};
use crate::model::time::Timestamp;

pub(super) const TICK: Duration = Duration::from_secs(30);
pub(super) const MINUTE: Duration = Duration::from_mins(1);

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) state: GroupState,
    pub(super) freeze: Option<Freeze>,
    pub(super) ended: Vec<ScalingActivity>,
    ids: u64,
    jumped: i64,
}

pub(super) fn nodes(count: u32) -> NodeCount {
    NodeCount::new(count)
}

pub(super) fn minutes(count: u32) -> Duration {
    MINUTE * count
}

impl World {
    /// A group that is defined but not set up, at 08:30.
    pub(super) fn defined(config: GroupConfig) -> Self {
        let group = Group {
            name: "web".parse().unwrap(),
            domain: "example.org".into(),
            application: "shop".into(),
            config,
            roles: Roles { provider: "local".into(), ..Roles::default() },
            node_parameters: std::collections::BTreeMap::default(),
            role_parameters: RoleParameters::default(),
            channel: None,
            suspensions: Vec::new(),
            deleting: false,
        };
        let now = "2026-11-21T08:30:00Z".parse().unwrap();
        Self { now, state: GroupState::new(group), freeze: None, ended: Vec::new(), ids: 0, jumped: 0 }
    }

    /// A group that was set up with `count` nodes and has long been quiet.
    pub(super) fn serving(count: u32, config: GroupConfig) -> Self {
        let GroupConfig { min_nodes: min, max_nodes: max, .. } = config;
        let mut start = config;
        start.min_nodes = nodes(count);
        start.max_nodes = max.max(nodes(count));
        let mut world = Self::defined(start);
        world.ask(&Request::Create { origin: Origin::Api });
        world.succeed();
        world.state.group.config.min_nodes = min;
        world.state.group.config.max_nodes = max;
        world.wait(minutes(2));
        world
    }

    pub(super) fn ask(&mut self, request: &Request) -> Decision {
        let decision = decide(&self.state, request, self.now, self.freeze.as_ref());
        self.ids += 1;
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&self.ids.to_be_bytes());
        ledger::admit(&mut self.state, &decision, ActivityId::from_bytes(bytes));
        decision
    }

    /// The clock goes on by one tick, and the governor looks.
    pub(super) fn tick(&mut self) -> Decision {
        self.now = self.now.plus(TICK);
        self.ask(&Request::Tick)
    }

    /// Time passes while somebody keeps seeing the clock, but the governor is not asked.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.state.memory.clock_seen = Some(self.now);
    }

    /// Ticks until something else than holding comes out; how long that took.
    pub(super) fn tick_until_action(&mut self, at_most: Duration) -> (Decision, Duration) {
        let begun = self.now;
        loop {
            let decision = self.tick();
            let waited = self.now.since(begun);
            assert!(waited <= at_most, "nothing within {at_most:?}; last: {decision}");
            if decision.verdict.acts() {
                return (decision, waited);
            }
        }
    }

    /// The store's clock jumps.
    pub(super) fn jump(&mut self, seconds: i64) {
        self.now = Timestamp::from_micros(self.now.as_micros() + seconds * 1_000_000);
        self.jumped += seconds * 1_000_000;
    }

    /// The clock of those who send alerts does not jump with ours.
    pub(super) fn source_now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() - self.jumped)
    }

    pub(super) fn incident(&mut self, key: &str, severity: Severity, state: IncidentState) {
        let group = self.state.group.name.clone();
        let (seen_at, received_at) = (self.source_now(), self.now);
        ledger::observe(&mut self.state, Observation { key: key.into(), group, severity, state, seen_at, received_at });
    }

    pub(super) fn open(&mut self, key: &str) {
        self.incident(key, Severity::Critical, IncidentState::Open);
    }

    pub(super) fn close(&mut self, key: &str) {
        self.incident(key, Severity::Critical, IncidentState::Closed);
    }

    /// Takes the activity's nodes as far as they should go, then ends its workflow well.
    pub(super) fn succeed(&mut self) {
        let named = self.activity().nodes.clone();
        self.end(&named, WorkflowEnd::Succeeded);
    }

    /// Ends the workflow after it did its work on the first `done` nodes only; what it began is undone.
    pub(super) fn fail_after(&mut self, done: usize) {
        let named = self.activity().nodes.clone();
        let (kept, lost) = named.split_at(done.min(named.len()));
        let adds = self.activity().want > 0;
        if adds {
            for name in lost {
                self.phase(name, NodePhase::Gone);
            }
        }
        self.end(kept, WorkflowEnd::Failed);
    }

    pub(super) fn end(&mut self, done: &[NodeName], end: WorkflowEnd) {
        let activity = self.activity().clone();
        for name in done {
            let node = self.state.nodes.iter().find(|node| node.name == *name);
            let adds =
                node.is_some_and(|node| node.activity == Some(activity.id) && node.phase == NodePhase::Requested);
            self.phase(name, if adds && activity.want > 0 { NodePhase::InService } else { NodePhase::Gone });
        }
        let ended = ledger::finish(&mut self.state, activity.id, end, self.now, 7).unwrap();
        assert!(ended.status.is_ended());
        self.ended.push(ended);
    }

    fn phase(&mut self, name: &NodeName, to: NodePhase) {
        ledger::move_node(&mut self.state, name, to, self.now).unwrap();
    }

    pub(super) fn activity(&self) -> &ScalingActivity {
        self.state.activity.as_ref().expect("an activity is under way")
    }

    pub(super) fn last_status(&self) -> ActivityStatus {
        self.ended.last().expect("an activity ended").status
    }

    pub(super) fn suspend(&mut self, part: Part) {
        let suspension = Suspension { part, until: None, author: "ann".into(), reason: "maintenance".into() };
        self.state.group.suspensions.push(suspension);
    }

    pub(super) fn freeze(&mut self) {
        let reason = "restored backup".into();
        self.freeze = Some(Freeze { author: "ann".into(), reason, since: self.now, until: None });
    }

    /// The daemon is restarted: what was not written down is lost.
    pub(super) fn restart(&mut self) {
        let written = serde_json::to_string(&self.state).unwrap();
        let read: GroupState = serde_json::from_str(&written).unwrap();
        assert_eq!(read, self.state, "the state survives being written down");
        self.state = read;
    }
}

pub(super) fn expand(by: Option<u32>, delays: Delays) -> Request {
    Request::Expand { by: by.map(nodes), delays, origin: Origin::Human { user: "ann".into() } }
}

pub(super) fn deflate(by: Option<u32>, delays: Delays) -> Request {
    Request::Deflate { by: by.map(nodes), delays, origin: Origin::Human { user: "ann".into() } }
}

pub(super) fn delete_node(name: &str, delays: Delays) -> Request {
    Request::DeleteNode { name: name.parse().unwrap(), delays, origin: Origin::Chat }
}

pub(super) fn names(nodes: &[NodeName]) -> Vec<&str> {
    nodes.iter().map(NodeName::as_str).collect()
}

pub(super) fn would(decision: &Decision) -> Option<&Verdict> {
    if let Verdict::Record { would } = &decision.verdict { Some(would) } else { None }
}
