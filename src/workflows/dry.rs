//! Replays a journal without acting: would the script still ask for what it asked for?

use std::collections::HashMap;
use std::sync::Arc;

use super::bundle::{Bundle, Sources};
use super::evaluate::{TurnEnd, evaluate};
use super::host::{Answer, Entry, Host, Interrupt, JournalSize, Waited};
use super::limits::Limits;
use super::outcome::StepOutcome;
use super::position::Position;
use super::request::{Request, keyed_digest};
use crate::store::journal::{EntryRow, WorkflowRow};
use crate::store::rows::ExecutionRow;
use serde_json::Value;

/// What a dry replay found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryEnd {
    /// It would go on.
    GoesOn,
    /// It would not.
    Differs {
        /// Where.
        position: String,
        /// What the journal says.
        recorded: String,
        /// What the script asks, or why it cannot be evaluated.
        asked: String,
    },
}

/// Evaluates a workflow's script over its journal; whatever is not in the journal suspends it.
pub fn replay(row: &ExecutionRow, workflow: &WorkflowRow, journal: &[EntryRow]) -> DryEnd {
    let host = match DryHost::new(row, journal) {
        Ok(host) => host,
        Err(problem) => return cannot(problem),
    };
    let bundle = serde_json::from_str::<Sources>(&workflow.bundle)
        .map_err(|problem| problem.to_string())
        .and_then(|sources| Bundle::from_sources(&sources).map_err(|problem| problem.to_string()));
    match bundle {
        Err(problem) => cannot(problem),
        Ok(bundle) => match evaluate(&bundle, &row.parameters, Arc::new(host), &Limits::default()) {
            TurnEnd::Diverged(found) => DryEnd::Differs {
                position: found.position.to_string(),
                recorded: found.recorded.to_string(),
                asked: found.asked.map_or_else(|| "the script ends before it".to_owned(), |asked| asked.to_string()),
            },
            TurnEnd::LimitExceeded(limit) => cannot(limit.to_string()),
            TurnEnd::Finished(_)
            | TurnEnd::Failed(_)
            | TurnEnd::Suspended
            | TurnEnd::Restart(_)
            | TurnEnd::Interrupted(_) => DryEnd::GoesOn,
        },
    }
}

fn cannot(why: String) -> DryEnd {
    DryEnd::Differs { position: String::new(), recorded: String::new(), asked: why }
}

struct DryHost {
    key: [u8; 12],
    entries: HashMap<Position, Arc<Entry>>,
}

impl DryHost {
    fn new(row: &ExecutionRow, journal: &[EntryRow]) -> Result<Self, String> {
        let mut entries = HashMap::new();
        for entry in journal {
            let position: Position = entry.position.parse().map_err(|_| format!("bad position {}", entry.position))?;
            let request: Request = serde_json::from_str(&entry.request).map_err(|problem| problem.to_string())?;
            let outcome = entry.outcome.as_deref().map(Arc::from);
            entries.insert(position.clone(), Arc::new(Entry { position, request, outcome }));
        }
        Ok(Self { key: *row.id.as_bytes(), entries })
    }
}

impl Host for DryHost {
    fn entry(&self, at: &Position) -> Option<Arc<Entry>> {
        self.entries.get(at).map(Arc::clone)
    }

    fn ask(&self, _at: &Position, _request: Request) -> Answer {
        Answer::Suspend
    }

    fn record(&self, _at: &Position, _request: Request, _outcome: StepOutcome) -> Answer {
        Answer::Suspend
    }

    fn wait(&self, _open: &[Position]) -> Waited {
        Waited::Suspend
    }

    fn interrupted(&self) -> Option<Interrupt> {
        None
    }

    fn fingerprint(&self, params: &Value) -> String {
        keyed_digest(&self.key, params)
    }

    fn journal_size(&self) -> JournalSize {
        JournalSize::default()
    }

    fn warn(&self, _message: &str) {}
}
