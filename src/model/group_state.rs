//! Everything that is known of one group at one moment: what the governor decides on, and nothing else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::decision::Notice;
use super::drift::Drifting;
use super::group::{Group, NodeCount};
use super::incident::Incident;
use super::load::{Load, Peak};
use super::node::{Node, NodePhase};
use super::scaling::{ActivityKind, ScalingActivity};
use super::time::Timestamp;

/// What the governor remembers of a group between two looks. All instants are the store clock's and move with a clock jump.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupMemory {
    /// The last time the store's clock was seen in this group. `None` before the first time.
    pub clock_seen: Option<Timestamp>,
    /// Grows with every clock jump; instants of different epochs cannot be compared.
    pub epoch: u64,
    /// When the group was set up; `None` until its creation succeeded.
    pub created: Option<Timestamp>,
    /// When the last expansion ended: `expand_delay` counts from its completion.
    pub last_expand_end: Option<Timestamp>,
    /// When the last deflation ended.
    pub last_deflate_end: Option<Timestamp>,
    /// Activities that failed one after the other.
    pub failures_in_row: u32,
    /// Nothing is tried before, after a failure.
    pub backoff_until: Option<Timestamp>,
    /// When automatic expansions had to undo a recent deflation.
    pub flips: Vec<Timestamp>,
    /// The number that the next node gets; numbers are never used again.
    pub next_node: u32,
    /// What people have been told already, while it lasts.
    pub told: BTreeSet<Notice>,
    /// Where the world is not as the ledger says.
    pub drift: Vec<Drifting>,
    /// What the governor wants to do and waits for somebody's word on.
    pub approval: Option<Approval>,
    /// When the group's load was reported last.
    pub load_seen: Option<Timestamp>,
    /// The load as it was reported last.
    pub load: Load,
    /// The highest loads of late, oldest first.
    pub peaks: Vec<Peak>,
}

/// Something that only happens once somebody has approved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What it is.
    pub wish: ActivityKind,
    /// Since when it is wanted.
    pub since: Timestamp,
    /// Who said no; it is not asked again while it is wanted.
    pub denied_by: Option<String>,
}

/// A group with its nodes, incidents, the activity under way, and the governor's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// What its owner wrote.
    pub group: Group,
    /// Its nodes. Those that are gone may be left out.
    pub nodes: Vec<Node>,
    /// Its incidents, tombstones included.
    pub incidents: Vec<Incident>,
    /// The one activity under way.
    pub activity: Option<ScalingActivity>,
    /// What the governor remembers.
    pub memory: GroupMemory,
}

impl GroupState {
    /// A group that was just defined: no node, no history.
    pub fn new(group: Group) -> Self {
        let memory = GroupMemory { next_node: 1, ..GroupMemory::default() };
        Self { group, nodes: Vec::new(), incidents: Vec::new(), activity: None, memory }
    }

    /// Nodes on their way into service or in it.
    pub fn live(&self) -> NodeCount {
        NodeCount::of(self.nodes.iter().filter(|node| node.phase.is_live()))
    }

    /// Nodes that serve.
    pub fn in_service(&self) -> NodeCount {
        self.in_phase(NodePhase::InService)
    }

    /// Nodes not proven gone; what counts against `max_nodes`.
    pub fn total(&self) -> NodeCount {
        NodeCount::of(self.nodes.iter().filter(|node| node.phase.counts()))
    }

    /// Nodes in one phase.
    pub fn in_phase(&self, phase: NodePhase) -> NodeCount {
        NodeCount::of(self.nodes.iter().filter(|node| node.phase == phase))
    }

    /// So many failed nodes that more of the same would not help.
    pub fn is_circuit_open(&self) -> bool {
        const ALWAYS_FINE: u32 = 3;
        let (failed, total) = (self.in_phase(NodePhase::Failed).get(), self.total().get());
        let share = u64::from(failed) * 100;
        failed > ALWAYS_FINE && share > u64::from(self.group.config.max_unready_pct) * u64::from(total)
    }

    /// The highest load within the group's `load_window`.
    pub fn peak_load(&self, now: Timestamp) -> Load {
        let window = self.group.config.load_window;
        let recent = self.memory.peaks.iter().filter(|peak| now < peak.since.plus(window));
        recent.map(|peak| peak.load).fold(self.memory.load, Load::max)
    }

    /// Nodes that may still be reserved.
    pub fn headroom(&self) -> NodeCount {
        self.group.config.max_nodes.above(self.total())
    }
}
