//! Autoscaling groups.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::execution::duration_text;

/// `petrel asg …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AsgCommand {
    /// All groups
    List,
    /// One group with its nodes and incidents
    Get {
        /// The group
        name: String,
    },
    /// Define a group and bring up its minimum of nodes
    Create(Box<CreateArguments>),
    /// Take all nodes away and forget the group
    Delete {
        /// The group
        name: String,
    },
    /// Add nodes
    Expand(ScaleArguments),
    /// Take nodes away
    Deflate(ScaleArguments),
    /// Add one node
    AddNode {
        /// The group
        name: String,
        /// Also during back-off
        #[arg(long)]
        force: bool,
    },
    /// Take this node away
    DeleteNode {
        /// The group
        name: String,
        /// The node
        node: String,
        /// Also while an incident is open
        #[arg(long)]
        force: bool,
    },
    /// Change some of a group's limits, steps and delays
    Update {
        /// The group
        name: String,
        /// What is to change, as `max_nodes=8`
        #[arg(required = true, value_name = "KEY=VALUE")]
        knobs: Vec<String>,
    },
    /// Show what `apply` would change
    Plan {
        /// A file with one group, or several below `groups`
        file: PathBuf,
    },
    /// Make the groups of a file what the file says
    Apply {
        /// A file with one group, or several below `groups`
        file: PathBuf,
    },
    /// Where load balancer, zone and provider are not as the ledger says
    Drift {
        /// The group
        name: String,
    },
    /// What was done to a group, newest first
    History {
        /// The group
        name: String,
        /// At most so many activities
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
    },
    /// What the governor decided, and why
    Explain {
        /// The group
        name: String,
        /// At most so many decisions
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
    },
    /// What people tell the governor.
    #[command(flatten)]
    Steer(SteerCommand),
}

/// What people tell the governor about a group.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SteerCommand {
    /// Never choose this node for removal
    Protect {
        /// The group
        name: String,
        /// The node
        node: String,
        /// It may be chosen again
        #[arg(long)]
        off: bool,
    },
    /// Say yes to what waits for approval
    Approve {
        /// The group
        name: String,
    },
    /// Say no to what waits for approval
    Deny {
        /// The group
        name: String,
    },
    /// Tell the governor to leave something be
    Suspend {
        /// The group
        name: String,
        /// What
        #[arg(value_enum, default_value_t = Part::All)]
        what: Part,
        /// Until it ends by itself; without it, until `resume`
        #[arg(long = "for", value_name = "DURATION", value_parser = duration_text)]
        duration: Option<String>,
        /// Why, for those who wonder
        #[arg(short, long, default_value = "")]
        reason: String,
    },
    /// End a suspension
    Resume {
        /// The group
        name: String,
        /// What
        #[arg(value_enum, default_value_t = Part::All)]
        what: Part,
    },
}

/// A new group.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CreateArguments {
    /// Its name
    pub name: String,
    /// The pack that creates nodes
    #[arg(long, default_value = "local")]
    pub provider: String,
    /// The pack that names nodes
    #[arg(long)]
    pub dns: Option<String>,
    /// The pack that sends traffic to nodes
    #[arg(long)]
    pub load_balancer: Option<String>,
    /// The pack that sets nodes up
    #[arg(long)]
    pub configure: Option<String>,
    /// The pack that measures how much work they have
    #[arg(long)]
    pub metrics: Option<String>,
    /// DNS domain of its nodes
    #[arg(long)]
    pub domain: Option<String>,
    /// What alerts call it
    #[arg(long)]
    pub application: Option<String>,
    /// Where notices go
    #[arg(long)]
    pub channel: Option<String>,
    /// Never fewer nodes in service
    #[arg(long, value_name = "N")]
    pub min_nodes: Option<u32>,
    /// Never more nodes
    #[arg(long, value_name = "N")]
    pub max_nodes: Option<u32>,
    /// Another knob, as `expand_delay=10m`; may be said several times
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE")]
    pub knobs: Vec<String>,
    /// A parameter of the provider's `create_node`; may be said several times
    #[arg(long = "node", value_name = "KEY=VALUE")]
    pub node_parameters: Vec<String>,
}

/// A change of the size.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ScaleArguments {
    /// The group
    pub name: String,
    /// So many nodes; the group's step if not said
    #[arg(long, value_name = "N")]
    pub by: Option<u32>,
    /// Wait for no delay. Limits hold
    #[arg(long)]
    pub force: bool,
}

/// A part of the governor's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Adding nodes
    Expand,
    /// Taking nodes away
    Deflate,
    /// Repair
    Replace,
    /// Everything
    All,
}

impl Part {
    /// As the daemon knows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Deflate => "deflate",
            Self::Replace => "replace",
            Self::All => "all",
        }
    }
}
