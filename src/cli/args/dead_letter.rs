//! Messages of which nothing could be made.

use clap::Subcommand;

/// `petrel dead-letter …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DeadLetterCommand {
    /// All of them, newest first
    List {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 50)]
        limit: u32,
    },
    /// One of them, with its body
    Show {
        /// Its id
        id: String,
    },
    /// Send it on its way again, as it is
    Requeue {
        /// Its id
        id: String,
    },
    /// Give it up
    Delete {
        /// Its id
        id: String,
    },
}
