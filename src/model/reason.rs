//! Why the governor decided as it did: one variant per thing that can be said, and the words people read.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drift::Drift;
use super::gate::Gate;
use super::group::NodeCount;
use super::group_config::duration_text;
use super::load::Load;
use super::node::NodeName;
use super::refs::ActivityId;
use super::scaling::{ActivityKind, Origin};
use super::time::format_duration;

/// Which way the clock moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jump {
    /// Time is missing: a jump, or the daemon was down.
    Forward,
    /// It went back.
    Backward,
}

/// The kind of scaling that a delay counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Last {
    /// The last expansion.
    Expansion,
    /// The last deflation.
    Deflation,
}

/// A duration as text, where there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(#[serde(with = "duration_text")] pub Duration);

/// Why a decision is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// The group is being deleted.
    Deleting,
    /// The group has no past yet.
    FirstTick,
    /// The clock did not go on as it should.
    ClockJump {
        /// Which way.
        jump: Jump,
        /// How far.
        #[serde(with = "duration_text")]
        by: Duration,
        /// What is expected at most between two looks.
        #[serde(with = "duration_text")]
        tick: Duration,
    },
    /// One activity at a time.
    InFlight {
        /// Which one.
        id: ActivityId,
        /// What it does.
        kind: ActivityKind,
        /// Until it counts as stuck.
        #[serde(with = "duration_text")]
        remaining: Duration,
    },
    /// A cancelled activity is being undone.
    Compensating {
        /// Which one.
        id: ActivityId,
        /// What it did.
        kind: ActivityKind,
    },
    /// An activity takes too long.
    Stuck {
        /// Which one.
        id: ActivityId,
        /// What it does.
        kind: ActivityKind,
        /// How long past its deadline.
        #[serde(with = "duration_text")]
        overdue: Duration,
    },
    /// Mode, suspension or freeze.
    Gated {
        /// What stands in the way.
        gate: Gate,
        /// Why it would have been done otherwise.
        would: Option<Box<Reason>>,
    },
    /// It was granted, but the workflow that carries it out cannot be asked for.
    NoWorkflow {
        /// What is wrong with the workflow.
        problem: String,
        /// Why it was granted.
        would: Box<Reason>,
    },
    /// The world is not as the ledger says.
    Drifted {
        /// How.
        drift: Vec<Drift>,
    },
    /// More live nodes than allowed.
    AboveMax {
        /// How many go.
        removing: NodeCount,
        /// The limit.
        max: NodeCount,
    },
    /// Fewer live nodes than wanted.
    BelowMin {
        /// How many come.
        adding: NodeCount,
        /// The limit.
        min: NodeCount,
    },
    /// The group was never set up.
    NotCreated,
    /// Failed nodes are cleared away.
    FailedNodes {
        /// How many.
        count: NodeCount,
    },
    /// More of the same would not help.
    CircuitOpen {
        /// How many have failed.
        failed: NodeCount,
        /// How many there are.
        total: NodeCount,
    },
    /// Rest after failures.
    Backoff {
        /// How many one after the other.
        failures: u32,
        /// How long yet.
        #[serde(with = "duration_text")]
        remaining: Duration,
    },
    /// No room.
    AtMax {
        /// The limit.
        max: NodeCount,
        /// Open critical incidents.
        critical: u32,
    },
    /// Too soon after the last expansion.
    ExpandDelay {
        /// How long ago it ended.
        #[serde(with = "duration_text")]
        ago: Duration,
        /// How long it should be.
        #[serde(with = "duration_text")]
        delay: Duration,
    },
    /// New nodes have not taken effect.
    Warmup {
        /// How many.
        nodes: NodeCount,
        /// How long they get.
        #[serde(with = "duration_text")]
        warmup: Duration,
    },
    /// A critical incident asks for nodes.
    CriticalIncident {
        /// One of them.
        incident: String,
        /// How many are open.
        open: u32,
        /// Nodes added.
        adding: NodeCount,
        /// Nodes that `expand_by` says, or that the load needs.
        step: NodeCount,
        /// The load that needs more than `expand_by` says.
        #[serde(default)]
        load: Option<Load>,
    },
    /// Warnings don't scale.
    Warned {
        /// One of them.
        incident: String,
        /// How many are open.
        open: u32,
    },
    /// Quiet, but not for long enough.
    RecoveryHold {
        /// For how long it has been quiet.
        #[serde(with = "duration_text")]
        quiet: Duration,
        /// For how long it should be.
        #[serde(with = "duration_text")]
        hold: Duration,
    },
    /// Nobody has said what the load is, or not lately.
    StaleLoad {
        /// How old the last report is.
        ago: Option<Seconds>,
        /// How old it may be.
        #[serde(with = "duration_text")]
        limit: Duration,
    },
    /// The nodes that were left could not carry what came lately.
    WouldReopen {
        /// The highest load of late.
        peak: Load,
        /// Nodes that it needs.
        needed: NodeCount,
        /// To what they are to be used at most.
        percent: u32,
    },
    /// Nothing to take away.
    AtMin {
        /// The limit.
        min: NodeCount,
    },
    /// Too soon after the last scaling.
    DeflateDelay {
        /// What ended last.
        last: Last,
        /// How long ago.
        #[serde(with = "duration_text")]
        ago: Duration,
        /// How long it should be.
        #[serde(with = "duration_text")]
        delay: Duration,
        /// Reversals that lengthened the delay.
        flips: u32,
    },
    /// Too many reversals.
    Flapping {
        /// How many.
        flips: u32,
        /// Within this time.
        #[serde(with = "duration_text")]
        window: Duration,
    },
    /// Every node that could go is protected or needed.
    NoVictim,
    /// All is quiet.
    Quiet {
        /// Nodes taken away.
        removing: NodeCount,
        /// Nodes that `deflate_by` says.
        step: NodeCount,
    },
    /// A deflation is asked while an incident is open.
    IncidentOpen {
        /// One of them.
        incident: String,
    },
    /// Somebody asked.
    Asked {
        /// Who.
        origin: Origin,
        /// Nodes asked for.
        asked: NodeCount,
        /// Nodes that the limits allow.
        granted: NodeCount,
    },
    /// Somebody has approved it.
    Approved {
        /// Who.
        origin: Origin,
        /// Why it is wanted.
        wanted: Box<Reason>,
    },
    /// Nothing waits for approval, or it is not wanted any more.
    NothingToApprove,
    /// The group was set up before.
    AlreadyCreated,
    /// No such node.
    NoSuchNode {
        /// What was asked.
        name: NodeName,
    },
    /// The node is protected.
    Protected {
        /// Which.
        name: NodeName,
    },
}

impl fmt::Display for Reason {
    #[expect(clippy::too_many_lines, reason = "one table: a line of words per variant")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |duration: &Duration| format_duration(*duration);
        match self {
            Self::Deleting => f.write_str("the group is being deleted"),
            Self::FirstTick => f.write_str("this is the first look at the group"),
            Self::ClockJump { jump: Jump::Forward, by, tick } => write!(
                f,
                "{} went by since the last look, and a tick is {}: the clock jumped, the daemon was down, or the tick \
                 rule is slower than the group's `tick`; delays go on where they were",
                span(by),
                span(tick)
            ),
            Self::ClockJump { jump: Jump::Backward, by, .. } => {
                write!(f, "the clock went back by {}; delays go on where they were", span(by))
            }
            Self::InFlight { id, kind, remaining } => {
                write!(f, "activity {id} ({kind}) is under way and has {} left", span(remaining))
            }
            Self::Compensating { id, kind } => write!(f, "activity {id} ({kind}) was cancelled and is being undone"),
            Self::Stuck { id, kind, overdue } => {
                write!(f, "activity {id} ({kind}) is {} past its deadline", span(overdue))
            }
            Self::Gated { gate, would: None } => write!(f, "{gate}"),
            Self::Gated { gate, would: Some(would) } => write!(f, "{gate}; otherwise: {would}"),
            Self::Drifted { drift } => {
                let lines: Vec<String> = drift.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("; "))
            }
            Self::AboveMax { removing, max } => {
                write!(f, "{removing} more than max_nodes {} allows", max.get())
            }
            Self::NoWorkflow { problem, would } => {
                write!(f, "{would}, but its workflow cannot be asked for: {problem}")
            }
            Self::BelowMin { adding, min } => {
                write!(f, "{adding} missing to min_nodes {}", min.get())
            }
            Self::NotCreated => f.write_str("the group was never set up"),
            Self::FailedNodes { count } => {
                write!(f, "{count} left over from what failed, to be cleared away")
            }
            Self::CircuitOpen { failed, total } => {
                write!(f, "{} of {total} failed: more of them would not help; somebody must look", failed.get())
            }
            Self::Backoff { failures, remaining } => {
                write!(f, "{} in a row; trying again in {}", plural(*failures, "failure"), span(remaining))
            }
            Self::AtMax { max, critical: 0 } => {
                write!(f, "max_nodes is {}; raise it to add more", max.get())
            }
            Self::AtMax { max, critical } => write!(
                f,
                "max_nodes is {}, and {} open: somebody must raise it or look",
                max.get(),
                are(*critical, "critical incident")
            ),
            Self::ExpandDelay { ago, delay } => {
                write!(f, "the last expansion ended {} ago and expand_delay is {}", span(ago), span(delay))
            }
            Self::Warmup { nodes, warmup } => {
                write!(
                    f,
                    "{nodes} came into service within the last {} and may not have taken effect yet",
                    span(warmup)
                )
            }
            Self::CriticalIncident { incident, open, adding, step, load } => {
                write!(f, "{} open (`{incident}`); adding {adding}", are(*open, "critical incident"))?;
                if let Some(load) = load {
                    write!(f, " for a load of {load}")?;
                }
                clipped(f, *adding, *step, if load.is_some() { "the load's need" } else { "expand_by" })
            }
            Self::Warned { incident, open } => {
                write!(f, "only {} open (`{incident}`), which does not scale", are(*open, "warning"))
            }
            Self::RecoveryHold { quiet, hold } => {
                write!(f, "quiet for {} and recovery_hold is {}", span(quiet), span(hold))
            }
            Self::StaleLoad { ago: None, .. } => f.write_str(
                "node_capacity is set and no load was ever reported (`autoscale.load`); nothing goes blindly",
            ),
            Self::StaleLoad { ago: Some(Seconds(ago)), limit } => write!(
                f,
                "the load was reported {} ago, and older than {} is stale; nothing goes blindly",
                span(ago),
                span(limit)
            ),
            Self::WouldReopen { peak, needed, percent } => write!(
                f,
                "the highest load of late was {peak}, which needs {needed} used to {percent} %: fewer would bring the \
                 trouble back"
            ),
            Self::AtMin { min } => write!(f, "nothing to take away: min_nodes is {}", min.get()),
            Self::DeflateDelay { last, ago, delay, flips } => {
                let what = if *last == Last::Expansion { "expansion" } else { "deflation" };
                write!(f, "the last {what} ended {} ago and deflate_delay is {}", span(ago), span(delay))?;
                if *flips > 0 { write!(f, " after {}", plural(*flips, "reversal")) } else { Ok(()) }
            }
            Self::Flapping { flips, window } => {
                write!(
                    f,
                    "{} within {}: keeping the size until it has been steady as long",
                    plural(*flips, "reversal"),
                    span(window)
                )
            }
            Self::NoVictim => f.write_str("every node that could go is protected or needed for min_nodes"),
            Self::Quiet { removing, step } => {
                write!(f, "all is quiet; taking {removing} away")?;
                clipped(f, *removing, *step, "deflate_by")
            }
            Self::IncidentOpen { incident } => {
                write!(f, "incident `{incident}` is open; force it if you mean it")
            }
            Self::Asked { origin, asked, granted } => {
                write!(f, "{origin} asked for {asked}")?;
                if granted < asked { write!(f, "; the limits leave {}", granted.get()) } else { Ok(()) }
            }
            Self::Approved { origin, wanted } => write!(f, "{origin} approved it: {wanted}"),
            Self::NothingToApprove => f.write_str("nothing waits for approval"),
            Self::AlreadyCreated => f.write_str("the group is set up already; expand it or add a node"),
            Self::NoSuchNode { name } => write!(f, "the group has no node `{name}`"),
            Self::Protected { name } => {
                write!(f, "node `{name}` is protected; `petrel asg protect GROUP {name} --off` lets it go")
            }
        }
    }
}

fn clipped(f: &mut fmt::Formatter<'_>, done: NodeCount, step: NodeCount, name: &str) -> fmt::Result {
    if done == step {
        return Ok(());
    }
    write!(f, " ({name} is {}; the limits leave {})", step.get(), done.get())
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn are(count: u32, noun: &str) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", plural(count, noun))
}
