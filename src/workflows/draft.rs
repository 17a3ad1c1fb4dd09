//! The journal of one execution in memory during one turn: what was read, what the script asked since, and the write
//! that is being collected.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::host::{Entry, JournalSize};
use super::journal_host::Told;
use super::outcome::StepOutcome;
use super::position::Position;
use super::request::Request;
use super::state::{State, Steering};
use crate::datastore::Redactor;
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::requests::Plan;
use crate::store::journal::{EntryRow, Turn};
use crate::store::rows::{Completion, Wake};
use crate::store::{StoreError, StoreResult};

/// What one turn knows, and what it is about to write.
pub(super) struct Draft {
    pub(super) entries: HashMap<Position, Arc<Entry>>,
    pub(super) order: Vec<Position>,
    pub(super) children: HashMap<Position, ExecutionId>,
    pub(super) sequence: i64,
    pub(super) lines: i64,
    pub(super) size: JournalSize,
    pub(super) state: State,
    pub(super) steering: Steering,
    pub(super) turn: Turn,
    /// The execution's context, with the secrets that the workflow knows by now.
    pub(super) context: Value,
    /// Masks those secrets.
    pub(super) redactor: Redactor,
    pub(super) plans: Vec<Box<dyn Plan>>,
    /// The claim is lost or the store is away: nothing more is written.
    pub(super) failure: Option<StoreError>,
    /// Ends of steps in writes that failed.
    pub(super) unwritten: Vec<Completion>,
}

impl Draft {
    /// From the journal as it was read at the beginning of the turn.
    pub(super) fn new(turn: Turn, told: Told, journal: &[EntryRow], lines: i64) -> StoreResult<Self> {
        let Told { state, steering, context, bundle: _ } = told;
        let mut draft = Self {
            entries: HashMap::new(),
            order: Vec::new(),
            children: HashMap::new(),
            sequence: 0,
            lines,
            size: JournalSize::default(),
            state,
            steering,
            turn,
            context,
            redactor: Redactor::nothing(),
            plans: Vec::new(),
            failure: None,
            unwritten: Vec::new(),
        };
        journal.iter().try_for_each(|entry| draft.load(entry))?;
        Ok(draft)
    }

    fn load(&mut self, row: &EntryRow) -> StoreResult<()> {
        let damaged = |what: String| StoreError::Corrupt(format!("journal entry {}: {what}", row.position));
        let position: Position = row.position.parse().map_err(|_| damaged("bad position".to_owned()))?;
        let request: Request = serde_json::from_str(&row.request).map_err(|problem| damaged(problem.to_string()))?;
        if let Some(child) = row.child {
            self.children.insert(position.clone(), child);
        }
        self.sequence = self.sequence.max(row.sequence);
        self.count(row);
        let outcome = row.outcome.as_deref().map(Arc::from);
        self.keep(Entry { position, request, outcome });
        Ok(())
    }

    fn count(&mut self, row: &EntryRow) {
        self.size.entries += 1;
        let bytes = row.request.len() + row.outcome.as_ref().map_or(0, String::len);
        self.size.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(super) fn keep(&mut self, entry: Entry) {
        self.order.push(entry.position.clone());
        self.entries.insert(entry.position.clone(), Arc::new(entry));
    }

    pub(super) fn entry(
        &mut self,
        at: &Position,
        request: Request,
        outcome: Option<&StepOutcome>,
        child: Option<ExecutionId>,
        now: Timestamp,
    ) -> (Entry, EntryRow) {
        self.sequence += 1;
        let outcome = outcome.map(StepOutcome::to_text);
        let row = EntryRow {
            position: at.to_string(),
            sequence: self.sequence,
            request: json!(request).to_string(),
            outcome: outcome.clone(),
            child,
            recorded_at: now,
            sealed_secrets: None,
        };
        self.count(&row);
        (Entry { position: at.clone(), request, outcome: outcome.map(Arc::from) }, row)
    }

    pub(super) fn add(
        &mut self,
        at: &Position,
        request: Request,
        outcome: Option<&StepOutcome>,
        child: Option<ExecutionId>,
        now: Timestamp,
    ) {
        let (entry, row) = self.entry(at, request, outcome, child, now);
        if let Some(child) = child {
            self.children.insert(at.clone(), child);
        }
        self.keep(entry);
        self.turn.entries.push(row);
    }

    /// Puts the ends of steps into the journal in memory, and into the next write.
    pub(super) fn arrive(&mut self, ends: Vec<Completion>, wake: Wake) {
        for mut end in ends {
            let Some(parent) = &mut end.parent else { continue };
            parent.wake = wake;
            let at = parent.position.parse::<Position>().ok();
            if let Some(entry) = at.and_then(|at| self.entries.get_mut(&at)) {
                let outcome = Some(Arc::from(parent.outcome.as_str()));
                *entry = Arc::new(Entry { outcome, ..Entry::clone(entry) });
                self.size.bytes += u64::try_from(parent.outcome.len()).unwrap_or(u64::MAX);
            }
            self.turn.completions.push(end);
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        let Turn {
            claim: _,
            now: _,
            then: _,
            secrecy: _,
            entries,
            outcomes,
            children,
            completions,
            waits,
            key_writes,
            instances,
            lines,
            announcements,
            state,
            context,
        } = &self.turn;
        let empty = entries.is_empty()
            && outcomes.is_empty()
            && children.is_empty()
            && completions.is_empty()
            && waits.is_empty()
            && key_writes.is_empty()
            && instances.is_empty()
            && lines.is_empty()
            && announcements.is_empty()
            && state.is_none()
            && context.is_none();
        !empty
    }
}
