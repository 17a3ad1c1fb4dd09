//! What is kept of a workflow beside its journal: what people told it, what it published, how far its rollback is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::execution::ExecutionStatus;
use crate::model::refs::ActionRef;
use crate::workflows::host::Interrupt;

/// What people and time told a workflow. Written by those who steer (`dispatch::control`) and never by a turn: a turn
/// that wrote it back would undo what was said meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Steering {
    /// `cancel` or `timeout`: what was said first holds.
    pub interrupt: Option<Interrupt>,
    /// Somebody wants it to ask for nothing new.
    pub paused: bool,
}

/// The engine's own, written by turns only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What the script published, by name.
    pub published: BTreeMap<String, Value>,
    /// Set once it is rolling back: nothing is evaluated any more.
    pub rollback: Option<Rollback>,
}

/// A rollback under way. It needs no script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// How the workflow will end.
    pub status: ExecutionStatus,
    /// Why it is rolled back.
    pub reason: Value,
    /// What is left to undo, next one first.
    pub left: Vec<PlannedUndo>,
    /// How often the next one was tried.
    pub tries: u32,
    /// Journal positions used so far.
    pub used: u32,
    /// What could not be undone.
    pub incomplete: Vec<String>,
    /// Given up at this time, whatever is left.
    pub deadline: crate::model::time::Timestamp,
}

/// One undo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedUndo {
    /// What to run.
    pub action: ActionRef,
    /// With what.
    pub params: Value,
}
