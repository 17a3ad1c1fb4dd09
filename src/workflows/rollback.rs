//! What has to be undone, read from the journal alone: it needs no script, so it survives one that diverged.

use crate::model::refs::ActionRef;
use crate::workflows::host::Entry;
use crate::workflows::position::Position;

/// One undo to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoStep {
    /// The step that registered it.
    pub for_position: Position,
    /// What to run.
    pub action: ActionRef,
    /// With what.
    pub params: serde_json::Value,
}

/// The undos of a journal, latest first.
///
/// `entries` are in the order in which they were written. Whether a step has an outcome, and which, makes no difference:
/// its undo was registered before its effect, and a step that failed may have had half of it.
pub fn rollback_plan(entries: &[Entry]) -> Vec<UndoStep> {
    let undo = |entry: &Entry| {
        let undo = entry.request.options.undo.clone()?;
        Some(UndoStep { for_position: entry.position.clone(), action: undo.action, params: undo.params })
    };
    entries.iter().rev().filter_map(undo).collect()
}
