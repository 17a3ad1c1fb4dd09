//! Commands as in a chat room.

use clap::Args;

/// `petrel chat …`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ChatArguments {
    /// A command, as `!asg list`; without one, lines are read from standard input
    #[arg(value_name = "LINE", allow_hyphen_values = true)]
    pub line: Vec<String>,
    /// The room that commands seem to come from
    #[arg(long, default_value = "terminal", value_name = "ROOM")]
    pub channel: String,
}
