//! Rules, triggers, actions, packs, keys.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::execution::duration;

/// `petrel rule …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RuleCommand {
    /// All rules
    List(PackFilter),
    /// One rule
    Get {
        /// As pack.name
        reference: String,
    },
    /// Let it match again
    Enable {
        /// As pack.name
        reference: String,
    },
    /// Let it match nothing
    Disable {
        /// As pack.name
        reference: String,
    },
    /// Explain for one event why the rule would match or not
    Test {
        /// As pack.name
        reference: String,
        /// Id of a trigger instance, or the payload as JSON, or - for standard input
        #[arg(value_name = "INSTANCE-ID|JSON|-", required_unless_present = "payload")]
        event: Option<String>,
        /// The payload in a file, `-` for standard input, or as JSON
        #[arg(long, value_name = "FILE|JSON|-", conflicts_with = "event")]
        payload: Option<String>,
    },
}

/// Which content to list.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackFilter {
    /// Only what belongs to this pack
    #[arg(short, long)]
    pub pack: Option<String>,
}

/// `petrel trigger …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TriggerCommand {
    /// All trigger types
    List(PackFilter),
    /// One trigger type with its schemas
    Get {
        /// As core.st2.webhook
        reference: String,
    },
    /// Let it happen
    Emit {
        /// As core.st2.webhook
        reference: String,
        /// What happened, as JSON, @FILE, or - for standard input
        #[arg(value_name = "JSON", default_value = "{}")]
        payload: String,
    },
}

/// `petrel trigger-instance …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TriggerInstanceCommand {
    /// The latest first
    List {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: u32,
        /// Only those of this trigger type
        #[arg(long, value_name = "REF")]
        trigger: Option<String>,
        /// Only those in this status
        #[arg(long)]
        status: Option<String>,
    },
    /// One with its payload
    Get {
        /// Its id
        id: String,
    },
    /// Let it happen again
    ReEmit {
        /// Its id
        id: String,
    },
}

/// `petrel action …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ActionCommand {
    /// All actions
    List(PackFilter),
    /// One action with its parameters
    Get {
        /// As pack.name
        reference: String,
    },
}

/// `petrel pack …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PackCommand {
    /// All packs
    List,
    /// One pack
    Get {
        /// Its name
        name: String,
    },
    /// Check content and publish it for all daemons over one store, which switch to it
    #[command(disable_version_flag = true)]
    Publish(PublishArguments),
    /// Send all daemons back to their own files
    Unpublish,
    /// What was published, when and by whom
    Published,
}

/// What to publish.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PublishArguments {
    /// The folder with rules/, workflows/ and configs/; the current folder if not said
    #[arg(default_value = ".", hide_default_value = true)]
    pub site: PathBuf,
    /// A folder of packs; may be said several times
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// Publish once more what was published as this version
    #[arg(long, value_name = "N", conflicts_with_all = ["site", "packs"])]
    pub version: Option<u64>,
}

/// `petrel key …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// All keys
    List {
        /// Only those that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// Show secret values
        #[arg(short, long)]
        decrypt: bool,
    },
    /// One value
    Get {
        /// The key
        name: String,
        /// Show it even if it is secret
        #[arg(short, long)]
        decrypt: bool,
        /// system or user
        #[arg(short, long, default_value = "system")]
        scope: String,
    },
    /// Write a value
    Set {
        /// The key
        name: String,
        /// The value; - reads it from standard input
        value: String,
        /// It vanishes after this long
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
        /// Keep it encrypted and mask it
        #[arg(short, long)]
        encrypt: bool,
        /// system or user
        #[arg(short, long, default_value = "system")]
        scope: String,
    },
    /// Remove a value
    Delete {
        /// The key
        name: String,
        /// system or user
        #[arg(short, long, default_value = "system")]
        scope: String,
    },
}
