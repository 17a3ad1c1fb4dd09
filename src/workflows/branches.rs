//! `parallel` and `map_items`: branches that are evaluated one after another, each from its own start over its own part
//! of the journal, until none of them is open.
//!
//! A branch gets an unshared copy of what it captured and gives back a value through the journal, so it makes no
//! difference how often and in which order branches are evaluated. All branches are run, also when one fails; then the
//! error of the first one (in their order, not in time) is raised. That keeps the journal independent of timing.

use rhai::{Array, Dynamic};
use serde_json::{Value, json};

use crate::workflows::convert::to_value;
use crate::workflows::errors::Raised;
use crate::workflows::outcome::StepOutcome;
use crate::workflows::position::Position;
use crate::workflows::request::{Request, StepKind};
use crate::workflows::turn::{FrameEnd, Turn};

/// Evaluates one branch from its start.
pub(super) type Body<'a> = dyn Fn(usize) -> Result<Dynamic, Raised> + 'a;

/// The branches of one call.
pub(super) struct Branches<'a> {
    /// `parallel` or `map_items`.
    pub(super) kind: StepKind,
    /// How many there are.
    pub(super) count: u32,
    /// How many of them may be open at a time.
    pub(super) concurrency: usize,
    /// What they do.
    pub(super) body: &'a Body<'a>,
}

/// A branch that was started and has no outcome.
struct Open {
    number: u32,
    waits_for: Vec<Position>,
}

impl Branches<'_> {
    /// Runs them all; their results in their order.
    pub(super) fn run(&self, turn: &Turn) -> Result<Dynamic, Raised> {
        let request = Request::new(self.kind, json!({ "branches": self.count }));
        let (at, _) = turn.decided(request, || Ok(StepOutcome::Ok(Value::Null)))?;
        let mut open: Vec<Open> = Vec::new();
        let mut next = 1;
        loop {
            while next <= self.count && open.len() < self.concurrency {
                open.extend(self.evaluate(turn, &at, next)?);
                next += 1;
            }
            if open.is_empty() {
                break;
            }
            turn.wait_for(open.iter().flat_map(|branch| branch.waits_for.iter().cloned()).collect())?;
            open = self.evaluate_those_with_progress(turn, &at, open)?;
        }
        turn.check_nothing_left(&at.child(self.count + 1))?;
        let results = (1..=self.count).map(|number| turn.outcome(&at.child(number)));
        results.collect::<Result<Array, _>>().map(Dynamic::from)
    }

    fn evaluate_those_with_progress(
        &self,
        turn: &Turn,
        at: &Position,
        open: Vec<Open>,
    ) -> Result<Vec<Open>, Raised> {
        let mut still_open = Vec::with_capacity(open.len());
        for branch in open {
            if branch.waits_for.iter().any(|position| turn.has_outcome(position)) {
                still_open.extend(self.evaluate(turn, at, branch.number)?);
            } else {
                still_open.push(branch);
            }
        }
        Ok(still_open)
    }

    /// Evaluates one branch, unless the journal has its outcome. Gives it back if it is open.
    fn evaluate(&self, turn: &Turn, at: &Position, number: u32) -> Result<Option<Open>, Raised> {
        turn.check_stop()?;
        let at = at.child(number);
        if turn.entry_of_kind(&at, StepKind::Branch).is_some_and(|entry| entry.outcome.is_some()) {
            return Ok(None);
        }
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let outcome = match turn.branch(&at, || (self.body)(index))? {
            FrameEnd::Open(waits_for) => return Ok(Some(Open { number, waits_for })),
            FrameEnd::Error(error) => StepOutcome::Error(*error),
            FrameEnd::Value(value) => to_value(&value).map_or_else(StepOutcome::Error, StepOutcome::Ok),
        };
        turn.record(&at, Request::new(StepKind::Branch, Value::Null), outcome)?;
        Ok(None)
    }
}
