//! The daemons over one store.

use clap::Subcommand;

/// `petrel cluster …`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ClusterCommand {
    /// Who lives, what each does, how much there is to do
    Status,
}
