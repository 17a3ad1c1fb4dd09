//! Users, keys for programs, freeze, backup.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::execution::duration_text;

/// `petrel freeze`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FreezeArguments {
    /// Why, for those who wonder
    #[arg(default_value = "")]
    pub reason: String,
    /// Until it ends by itself; without it, until `thaw`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration_text)]
    pub duration: Option<String>,
}

/// `petrel backup`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BackupArguments {
    /// Where to write it, on the daemon's machine
    pub path: PathBuf,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything
    Admin,
    /// Run, answer, scale
    Operator,
    /// Look
    Observer,
}

impl Role {
    /// As the daemon knows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Observer => "observer",
        }
    }
}

/// `petrel user …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// All users
    List,
    /// A new user; the password is read from standard input
    Create {
        /// The name to log in with
        name: String,
        /// What they may do
        #[arg(long, value_enum, default_value_t = Role::Observer)]
        role: Role,
        /// Without a password: only API keys
        #[arg(long)]
        no_password: bool,
    },
    /// Let a user in no more
    Delete {
        /// The name
        name: String,
    },
}

/// `petrel apikey …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ApiKeyCommand {
    /// All keys, without the keys themselves
    List,
    /// A new key; it is shown once
    Create {
        /// For this user; for oneself if not said
        #[arg(long)]
        user: Option<String>,
        /// What it is for, as KEY=VALUE
        #[arg(long, value_name = "KEY=VALUE")]
        metadata: Vec<String>,
    },
    /// Let it open doors again
    Enable {
        /// Its id
        id: String,
    },
    /// Let it open no door
    Disable {
        /// Its id
        id: String,
    },
    /// Forget it
    Delete {
        /// Its id
        id: String,
    },
}

/// `petrel token …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenCommand {
    /// Who is logged in: own tokens, for an admin those of all
    List {
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
    },
    /// End a token before its time
    Revoke {
        /// Its id
        id: String,
    },
}
