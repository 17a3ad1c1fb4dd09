//! What the governor was asked, what it decided, by which row of its table, and on what grounds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::gate::Gate;
use super::group::NodeCount;
use super::group_config::Mode;
use super::moment::clock_time;
use super::node::NodeName;
use super::reason::Reason;
use super::refs::ActivityId;
use super::scaling::{ActivityKind, Origin};
use super::time::Timestamp;

/// Whether delays, back-off and the incident rows hold for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delays {
    /// They do.
    #[default]
    Respect,
    /// `--force`: they don't. Bounds, suspensions, freeze and an activity under way always hold.
    Skip,
}

/// What the governor is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Look, and do what is needed.
    Tick,
    /// Set the group up with its minimum of nodes.
    Create {
        /// Who asks.
        origin: Origin,
    },
    /// Add nodes.
    Expand {
        /// How many; `expand_by` if not said.
        by: Option<NodeCount>,
        /// Whether delays hold.
        delays: Delays,
        /// Who asks.
        origin: Origin,
    },
    /// Take nodes away.
    Deflate {
        /// How many; `deflate_by` if not said.
        by: Option<NodeCount>,
        /// Whether delays hold.
        delays: Delays,
        /// Who asks.
        origin: Origin,
    },
    /// Add one node. `expand_delay` and warm-up don't hold for it, back-off does.
    AddNode {
        /// Whether back-off holds.
        delays: Delays,
        /// Who asks.
        origin: Origin,
    },
    /// Take away this node. Refused while an incident is open, unless forced.
    DeleteNode {
        /// Which.
        name: NodeName,
        /// Whether an open incident forbids it.
        delays: Delays,
        /// Who asks.
        origin: Origin,
    },
    /// Take the whole group away.
    Delete {
        /// Who asks.
        origin: Origin,
    },
    /// Do what waits for approval, if it is still wanted.
    Approve {
        /// Who approves.
        origin: Origin,
    },
}

impl Request {
    /// Who asks.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Tick => Origin::Tick,
            Self::Create { origin }
            | Self::Delete { origin }
            | Self::Approve { origin }
            | Self::Expand { origin, .. }
            | Self::Deflate { origin, .. }
            | Self::AddNode { origin, .. }
            | Self::DeleteNode { origin, .. } => origin.clone(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing now.
    Hold,
    /// Nothing now: the clock jumped, and the remaining durations were kept.
    Rebase,
    /// What was asked cannot be done.
    Refuse,
    /// Nothing, because of the mode, a suspension or a freeze; this is what would have been done.
    Record {
        /// What would have been done.
        would: Box<Verdict>,
    },
    /// Set the group up with these nodes.
    CreateGroup {
        /// Reserved names.
        nodes: Vec<NodeName>,
    },
    /// Add these nodes.
    Expand {
        /// Reserved names.
        nodes: Vec<NodeName>,
    },
    /// Add this node.
    AddNode {
        /// Reserved name.
        node: NodeName,
    },
    /// Take these nodes away.
    Deflate {
        /// The victims.
        nodes: Vec<NodeName>,
    },
    /// Take this node away.
    DeleteNode {
        /// Which.
        node: NodeName,
    },
    /// Take the whole group away with whatever is left of these nodes.
    DeleteGroup {
        /// All nodes not proven gone.
        nodes: Vec<NodeName>,
    },
    /// Bring what is around these nodes back to what the ledger says.
    Reconcile {
        /// The nodes it is about.
        nodes: Vec<NodeName>,
    },
    /// Cancel this activity and undo what it did.
    FailActivity {
        /// Which.
        id: ActivityId,
    },
}

impl Verdict {
    /// It changes something outside.
    pub const fn acts(&self) -> bool {
        !matches!(self, Self::Hold | Self::Rebase | Self::Refuse | Self::Record { .. })
    }

    /// The nodes it reserves.
    pub fn reserved(&self) -> &[NodeName] {
        match self {
            Self::CreateGroup { nodes } | Self::Expand { nodes } => nodes,
            Self::AddNode { node } => std::slice::from_ref(node),
            Self::Hold
            | Self::Rebase
            | Self::Refuse
            | Self::Record { .. }
            | Self::Deflate { .. }
            | Self::DeleteNode { .. }
            | Self::DeleteGroup { .. }
            | Self::Reconcile { .. }
            | Self::FailActivity { .. } => &[],
        }
    }

    /// The nodes it takes away.
    pub fn removed(&self) -> &[NodeName] {
        match self {
            Self::Deflate { nodes } | Self::DeleteGroup { nodes } => nodes,
            Self::DeleteNode { node } => std::slice::from_ref(node),
            Self::Hold
            | Self::Rebase
            | Self::Refuse
            | Self::Record { .. }
            | Self::CreateGroup { .. }
            | Self::Expand { .. }
            | Self::AddNode { .. }
            | Self::Reconcile { .. }
            | Self::FailActivity { .. } => &[],
        }
    }

    /// The nodes whose surroundings it mends.
    pub fn mended(&self) -> &[NodeName] {
        if let Self::Reconcile { nodes } = self { nodes } else { &[] }
    }

    /// The kind of activity that it opens, if the table's `row` gave it.
    pub const fn opens(&self, row: Row) -> Option<ActivityKind> {
        let kind = match self {
            Self::CreateGroup { .. } => ActivityKind::Create,
            Self::Expand { .. } if matches!(row, Row::BelowMin) => ActivityKind::Repair,
            Self::Expand { .. } => ActivityKind::Expand,
            Self::AddNode { .. } => ActivityKind::AddNode,
            Self::Deflate { .. } if matches!(row, Row::FailedNodes) => ActivityKind::Repair,
            Self::Deflate { .. } => ActivityKind::Deflate,
            Self::DeleteNode { .. } => ActivityKind::DeleteNode,
            Self::DeleteGroup { .. } => ActivityKind::Delete,
            Self::Reconcile { .. } => ActivityKind::Reconcile,
            Self::Hold | Self::Rebase | Self::Refuse | Self::Record { .. } | Self::FailActivity { .. } => return None,
        };
        Some(kind)
    }

    const fn in_words(&self) -> &'static str {
        match self {
            Self::Hold | Self::Rebase => "holding",
            Self::Refuse => "refused",
            Self::Record { .. } => "only recording",
            Self::CreateGroup { .. } => "creating the group",
            Self::Expand { .. } => "expanding",
            Self::AddNode { .. } => "adding a node",
            Self::Deflate { .. } => "deflating",
            Self::DeleteNode { .. } => "deleting a node",
            Self::DeleteGroup { .. } => "deleting the group",
            Self::Reconcile { .. } => "reconciling",
            Self::FailActivity { .. } => "cancelling",
        }
    }
}

/// The row of the governor's table that decided. In the table's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// The group is being deleted.
    Deleting,
    /// The clock jumped, or this is the first look at the group.
    ClockJump,
    /// An activity is under way.
    InFlight,
    /// An activity is past its deadline.
    Stuck,
    /// The mode is off, or everything is suspended.
    SwitchedOff,
    /// Load balancer or zone are not as the ledger says.
    Drifted,
    /// More live nodes than allowed. Delays and open incidents don't hold it back.
    AboveMax,
    /// Never set up, or fewer live nodes than wanted. Delays don't hold it back.
    BelowMin,
    /// Failed nodes to clear away.
    FailedNodes,
    /// So many failed nodes that new ones would not help.
    CircuitOpen,
    /// Rest after a failure.
    Backoff,
    /// Expanding is suspended.
    ExpandSuspended,
    /// No room for more nodes.
    AtMax,
    /// Too soon after the last expansion.
    ExpandDelay,
    /// New nodes have not taken effect yet.
    Warmup,
    /// More nodes for a critical incident or on request.
    Expand,
    /// Only warnings are open.
    Warned,
    /// The load is not known well enough to take anything away.
    StaleLoad,
    /// Not quiet for long enough.
    RecoveryHold,
    /// Deflating is suspended.
    DeflateSuspended,
    /// Nothing to take away.
    AtMin,
    /// Too soon after the last scaling.
    DeflateDelay,
    /// Too many reversals lately.
    Flapping,
    /// Those left could not carry the load.
    WouldReopen,
    /// Every node that could go is protected or needed.
    NoVictim,
    /// Fewer nodes because all is quiet, or on request.
    Deflate,
    /// A request that no row of the table forbids, or that makes no sense.
    Asked,
}

/// Something people are told once while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// The group is at its maximum and the incident goes on: automation is not enough.
    Escalate {
        /// Key of the incident.
        incident: String,
    },
    /// A warning is open.
    Warning {
        /// Key of the incident.
        incident: String,
    },
    /// So many nodes failed that the group gets no new ones.
    CircuitOpen,
    /// Something waits for approval.
    Approval {
        /// What it would open.
        wish: ActivityKind,
    },
}

/// By how much every stored instant of the group moves, so that the remaining durations stay what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebase {
    /// Microseconds, negative if the clock went back.
    pub shift_micros: i64,
    /// The epoch that begins.
    pub epoch: u64,
}

/// What the governor saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Nodes on their way into service or in it.
    pub live: NodeCount,
    /// Nodes that serve.
    pub in_service: NodeCount,
    /// Nodes not proven gone.
    pub total: NodeCount,
    /// Failed nodes not yet cleared away.
    pub failed: NodeCount,
    /// Lower limit.
    pub min: NodeCount,
    /// Upper limit.
    pub max: NodeCount,
    /// Keys of open critical incidents.
    pub critical: Vec<String>,
    /// Keys of open warnings.
    pub warnings: Vec<String>,
    /// The activity under way.
    pub activity: Option<ActivityId>,
    /// Reversals within `flap_window`.
    pub flips: u32,
    /// Failures one after the other.
    pub failures_in_row: u32,
    /// The group's mode.
    pub mode: Mode,
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in service", self.in_service)?;
        let coming = self.live.above(self.in_service).get();
        if coming > 0 {
            write!(f, ", {coming} on the way")?;
        }
        let leaving = self.total.above(self.live).above(self.failed).get();
        if leaving > 0 {
            write!(f, ", {leaving} leaving")?;
        }
        if self.failed > NodeCount::ZERO {
            write!(f, ", {} failed", self.failed.get())?;
        }
        write!(f, " of at most {}", self.max.get())
    }
}

/// One decision, as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What was asked.
    pub request: Request,
    /// What is to be done.
    pub verdict: Verdict,
    /// Which row of the table decided.
    pub row: Row,
    /// Why.
    pub reason: Reason,
    /// When the same question may get another answer, if time alone can change it.
    pub next_at: Option<Timestamp>,
    /// What people have to be told now.
    pub notices: Vec<Notice>,
    /// The clock jumped: to be applied to the group's instants before anything else.
    pub rebase: Option<Rebase>,
    /// What the governor saw.
    pub inputs: Inputs,
}

impl Decision {
    /// Equal for decisions of a group that say the same, which are counted and not repeated. What acts is always news.
    pub fn fingerprint(&self) -> String {
        let news = self.verdict.acts().then_some(self.at);
        let said = (self.row, self.next_at, self.rebase, &self.notices, news);
        format!("{said:?} {:?} {:?} {:?}", self.request, self.verdict, self.inputs)
    }

    /// The kind of activity to open and by how many live nodes it changes the group; `None` if there is nothing to open.
    pub fn opens(&self) -> Option<(ActivityKind, i32)> {
        let kind = self.verdict.opens(self.row)?;
        let want = match kind {
            ActivityKind::Create | ActivityKind::Expand | ActivityKind::AddNode | ActivityKind::Repair => {
                count(self.verdict.reserved())
            }
            ActivityKind::Deflate | ActivityKind::DeleteNode => -count(self.verdict.removed()),
            ActivityKind::Delete => -self.inputs.live.as_delta(),
            ActivityKind::Reconcile => 0,
        };
        Some((kind, want))
    }

    /// What would be opened, if somebody approved it.
    pub fn awaits(&self) -> Option<ActivityKind> {
        match (&self.verdict, &self.reason) {
            (Verdict::Record { would }, Reason::Gated { gate: Gate::Approval { .. }, .. }) => would.opens(self.row),
            _ => None,
        }
    }
}

fn count(nodes: &[NodeName]) -> i32 {
    NodeCount::of(nodes.iter()).as_delta()
}

impl Decision {
    /// Why, and when it may be otherwise if that is known.
    pub fn reason_and_time(&self) -> String {
        let Self { reason, next_at, at, .. } = self;
        match next_at {
            Some(next_at) => format!("{reason}; next at {}", clock_time(*next_at, *at)),
            None => reason.to_string(),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.verdict.in_words(), self.inputs, self.reason_and_time())
    }
}
