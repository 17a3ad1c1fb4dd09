//! What is done to a group: every lifecycle workflow, each from where it begins to where nothing is under way.

use std::time::Duration;

use petrel::governor::incidents::Report;
use petrel::model::decision::{Delays, Request};
use petrel::model::group::{NodeCount, Part};
use petrel::model::incident::{IncidentState, Severity};
use petrel::model::scaling::Origin;
use serde_json::{Value, json};

use super::history::Snapshot;
use super::outside::{DOMAIN, Outside, record_of};
use super::server::Server;
use super::stage::{LEAP, Stage, web};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Create,
    Expand,
    AddNode,
    Deflate,
    DeleteNode,
    Delete,
    /// Load balancer and zone have forgotten something and kept something.
    Reconcile,
    /// The provider has lost a node.
    Replace,
}

pub(super) const OPERATIONS: [Operation; 8] = [
    Operation::Create,
    Operation::Expand,
    Operation::AddNode,
    Operation::Deflate,
    Operation::DeleteNode,
    Operation::Delete,
    Operation::Reconcile,
    Operation::Replace,
];

/// Under which circumstances an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Story {
    /// Nothing is in its way.
    Plain,
    /// Somebody cancels it when all is done but the last answer, so that the most is undone.
    Undone,
    /// The group's mode is `observe`.
    Observed,
    /// Everything is suspended.
    Suspended,
    /// Everybody is frozen.
    Frozen,
}

/// The stories in which nothing may be done.
pub(super) const GATED: [Story; 3] = [Story::Observed, Story::Suspended, Story::Frozen];

impl Story {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Undone => "undone",
            Self::Observed => "observed",
            Self::Suspended => "suspended",
            Self::Frozen => "frozen",
        }
    }

    pub(super) fn is_gated(self) -> bool {
        GATED.contains(&self)
    }

    /// What is not there yet cannot be suspended.
    pub(super) fn can_be_told_of(self, operation: Operation) -> bool {
        !(self == Self::Suspended && operation == Operation::Create)
    }

    /// Closes the gate, and gives the governor all reason to do something.
    pub(super) async fn begin(self, stage: &Stage) {
        let governor = &stage.engine().governor;
        let is_there = stage.group().await.is_some();
        match self {
            Self::Plain | Self::Undone => return,
            Self::Observed if is_there => {
                let observe = json!({ "mode": "observe" });
                governor.configure(&web(), observe.as_object().unwrap()).await.unwrap();
            }
            Self::Observed => {}
            Self::Suspended => governor.suspend(&web(), Part::All, None, "ann", "a test").await.unwrap(),
            Self::Frozen => drop(governor.freeze("ann", "a test", None).await.unwrap()),
        }
        let (severity, state) = (Severity::Critical, IncidentState::Open);
        let alert = Report { entities: vec!["web".to_owned()], key: "fire".to_owned(), severity, state, at: None };
        governor.observe(&alert).await.unwrap();
    }
}

/// Where operations begin.
pub(super) struct Grounds {
    nothing: Snapshot,
    two: Snapshot,
    four: Snapshot,
}

impl Grounds {
    /// Lets groups of two and of four nodes come about.
    pub(super) async fn prepare(server: &Server) -> Self {
        let stage = Stage::open(server, "grounds", &Snapshot::of_nothing(), Duration::ZERO).await;
        stage.start().await;
        stage.quiet().await;
        let nothing = Snapshot::after(stage).await;
        let two = after(Operation::Create, server, &nothing).await;
        let four = after(Operation::Expand, server, &two).await;
        Self { nothing, two, four }
    }

    pub(super) fn of(&self, operation: Operation) -> &Snapshot {
        match operation {
            Operation::Create => &self.nothing,
            Operation::Expand | Operation::AddNode | Operation::Delete | Operation::Reconcile | Operation::Replace => {
                &self.two
            }
            Operation::Deflate | Operation::DeleteNode => &self.four,
        }
    }
}

async fn after(operation: Operation, server: &Server, before: &Snapshot) -> Snapshot {
    let stage = Stage::open(server, "grounds", before, Duration::from_secs(1)).await;
    stage.start().await;
    operation.perform(&stage, Story::Plain).await;
    stage.rest(false).await.unwrap();
    Snapshot::after(stage).await
}

/// Nothing but what is asked for changes the group: its nodes stay although all is quiet.
pub(super) fn definition(story: Story) -> Value {
    let mode = if story == Story::Observed { "observe" } else { "auto" };
    json!({
        "name": "web", "domain": DOMAIN,
        "provider": "outside", "dns": "outside", "load_balancer": "outside", "configure": "outside",
        "config": {
            "min_nodes": 2, "max_nodes": 6, "drain_timeout": "1s", "node_boot_timeout": "1m", "activity_timeout": "1m",
            "warmup": "0s", "deflate_delay": "1000h", "tick": "10m", "mode": mode,
        },
    })
}

impl Operation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Expand => "expand",
            Self::AddNode => "add_node",
            Self::Deflate => "deflate",
            Self::DeleteNode => "delete_node",
            Self::Delete => "delete",
            Self::Reconcile => "reconcile",
            Self::Replace => "replace",
        }
    }

    /// So many different calls it makes outside.
    pub(super) const fn calls(self) -> usize {
        const LOOKS: usize = 3;
        const AROUND: usize = 3;
        const TO_ADD: usize = 5;
        const TO_DELETE: usize = 4;
        match self {
            Self::Create => AROUND + 2 * TO_ADD,
            Self::Expand => 2 * TO_ADD,
            Self::AddNode => TO_ADD,
            Self::Deflate => 2 * TO_DELETE,
            Self::DeleteNode => TO_DELETE,
            Self::Delete => 2 * TO_DELETE + AROUND,
            // a stray is unnamed, drained and removed; two others are named and put back
            Self::Reconcile => LOOKS + 3 + 2 * 2,
            // what is left of the lost one goes, which has nothing to drain; another comes
            Self::Replace => LOOKS + TO_DELETE - 1 + TO_ADD,
        }
    }

    /// It comes about because somebody looks.
    pub(super) const fn looks(self) -> bool {
        matches!(self, Self::Reconcile | Self::Replace)
    }

    /// What happens outside before it begins.
    pub(super) fn change_world(self, outside: &mut Outside) {
        match self {
            Self::Reconcile => {
                outside.backends.remove("web-001");
                outside.records.remove(&record_of("web-002"));
                outside.backends.insert("web-000".to_owned(), "web-000.inside".to_owned());
                outside.records.insert(record_of("web-000"), "web-000.inside".to_owned());
            }
            Self::Replace => drop(outside.nodes.remove("web-001")),
            Self::Create | Self::Expand | Self::AddNode | Self::Deflate | Self::DeleteNode | Self::Delete => {}
        }
    }

    /// Asks for it and waits until nothing is under way.
    pub(super) async fn perform(self, stage: &Stage, story: Story) {
        stage.world.change(|outside| self.change_world(outside));
        self.ask(stage, story).await;
        stage.quiet().await;
        if self == Self::Replace {
            // what is left of the lost one goes, then somebody takes its place
            stage.clock.leap(LEAP);
            stage.tick().await;
            stage.quiet().await;
        }
    }

    async fn ask(self, stage: &Stage, story: Story) {
        let (governor, by) = (&stage.engine().governor, Some(NodeCount::new(2)));
        let (delays, origin) = (Delays::Skip, Origin::Api);
        let request = match self {
            Self::Create => {
                governor.create(serde_json::from_value(definition(story)).unwrap(), origin).await.unwrap();
                return;
            }
            Self::Expand => Request::Expand { by, delays, origin },
            Self::AddNode => Request::AddNode { delays, origin },
            Self::Deflate => Request::Deflate { by, delays, origin },
            Self::DeleteNode => Request::DeleteNode { name: "web-002".parse().unwrap(), delays, origin },
            Self::Delete => Request::Delete { origin },
            Self::Reconcile | Self::Replace => {
                for _ in 0..2 {
                    stage.look_around().await;
                    stage.clock.leap(LEAP);
                }
                stage.tick().await;
                return;
            }
        };
        governor.admit(&web(), &request).await.unwrap();
    }
}
