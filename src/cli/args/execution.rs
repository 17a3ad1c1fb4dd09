//! Running things, watching them, answering them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::model::execution::ExecutionStatus;
use crate::model::time::{BadDuration, parse_duration};

/// `petrel run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunArguments {
    /// The action, as core.local
    #[arg(value_name = "ACTION")]
    pub action: String,
    /// Parameters, read by the action's schema. Words without = are a shell command, after -- if they begin with -
    #[arg(value_name = "KEY=VALUE")]
    pub parameters: Vec<String>,
    /// All parameters as a JSON object in this file, `-` for standard input; KEY=VALUE go over it
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Don't wait for it
    #[arg(short = 'a', long = "async")]
    pub detach: bool,
    /// Start it so much later, as 500ms or 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub delay: Option<Duration>,
}

/// `petrel execution …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ExecutionCommand {
    /// The latest first
    List(ExecutionFilter),
    /// One execution with its result, and what it waits for
    Get {
        /// Its id
        id: String,
    },
    /// Its output as it comes, until it ends
    Tail {
        /// Its id; `last` for the latest
        id: String,
    },
    /// Stop it and everything below it
    #[command(visible_alias = "stop")]
    Cancel {
        /// Its id
        id: String,
    },
    /// Let no new step of a workflow begin
    Pause {
        /// Its id
        id: String,
    },
    /// Go on after a pause
    Resume {
        /// Its id
        id: String,
    },
    /// Run the same action again
    ReRun {
        /// Its id
        id: String,
        /// Parameters that are to be different
        #[arg(value_name = "KEY=VALUE")]
        parameters: Vec<String>,
        /// Don't wait for it
        #[arg(short = 'a', long = "async")]
        detach: bool,
    },
}

/// Which executions to list.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExecutionFilter {
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 50)]
    pub limit: u32,
    /// Only those of this action
    #[arg(long, value_name = "REF")]
    pub action: Option<String>,
    /// Only those in this status
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub status: Option<ExecutionStatus>,
    /// Steps of workflows as well
    #[arg(long)]
    pub steps: bool,
}

/// `petrel inquiry …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum InquiryCommand {
    /// Those without an answer
    List,
    /// One question with the schema of its answer
    Get {
        /// Its id
        id: String,
    },
    /// Answer one
    Respond {
        /// Its id
        id: String,
        /// The answer's members, read by the question's schema
        #[arg(value_name = "KEY=VALUE")]
        answer: Vec<String>,
        /// The whole answer as a JSON object in this file, `-` for standard input
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// `petrel signal`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SignalArguments {
    /// Its name, as the workflow waits for it
    pub name: String,
    /// Which of several waiters is meant
    #[arg(short, long, default_value = "")]
    pub correlation: String,
    /// What to hand over: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON")]
    pub payload: Option<String>,
    /// Makes a repetition harmless: the same sender's id counts once
    #[arg(long, value_name = "ID")]
    pub sender: Option<String>,
    /// How long it waits for somebody to want it; 7d if not said
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    pub ttl: Option<String>,
}

/// `petrel workflow …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum WorkflowCommand {
    /// Replay all open journals dry: would every workflow go on after an upgrade?
    Check,
}

pub(super) fn duration(text: &str) -> Result<Duration, BadDuration> {
    parse_duration(text)
}

/// A duration that the daemon reads again.
pub(super) fn duration_text(text: &str) -> Result<String, BadDuration> {
    parse_duration(text).map(|_| text.to_owned())
}

fn status(text: &str) -> Result<ExecutionStatus, String> {
    let found = ExecutionStatus::ALL.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| {
        let names = ExecutionStatus::ALL.map(ExecutionStatus::as_str);
        format!("the statuses are {}", names.join(", "))
    })
}
