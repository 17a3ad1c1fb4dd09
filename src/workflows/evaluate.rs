//! The one entry point: evaluates a script over its journal until it ends or has to stop.

use std::fmt;
use std::sync::Arc;

use rhai::{Dynamic, Scope};
use serde_json::Value;

use crate::workflows::bundle::Bundle;
use crate::workflows::convert::to_value;
use crate::workflows::engine::turn_engine;
use crate::workflows::errors::{Raised, step_error};
use crate::workflows::host::{Host, Interrupt};
use crate::workflows::limits::{LimitExceeded, Limits, line_of};
use crate::workflows::outcome::StepError;
use crate::workflows::position::Position;
use crate::workflows::request::Request;
use crate::workflows::turn::{Stop, Turn};

/// How an evaluation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnEnd {
    /// The script returned this. Children that it spawned and did not wait for may still be open.
    Finished(Value),
    /// The script raised this and did not catch it.
    Failed(StepError),
    /// Something it asked for has no outcome yet: evaluate again when there is one.
    Suspended,
    /// It asked for something else than the journal says it did.
    Diverged(Box<Divergence>),
    /// It wants a fresh journal, with these parameters.
    Restart(Value),
    /// It stands where an outside input met it.
    Interrupted(Interrupt),
    /// It took more than it may.
    LimitExceeded(LimitExceeded),
}

/// What the journal says and what the script asks now, at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Where.
    pub position: Position,
    /// What the journal holds.
    pub recorded: Request,
    /// What the script asks; `None` if its frame ended before this position. Parameters are in clear.
    pub asked: Option<Request>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, recorded) = (&self.position, &self.recorded);
        write!(f, "the script diverged from its journal at step {position}: recorded is `{recorded}`, ")?;
        match &self.asked {
            Some(asked) => write!(f, "asked is `{asked}`"),
            None => f.write_str("but the script ends before it"),
        }
    }
}

/// Evaluates a script from its start over the journal that `host` keeps. Blocks as long as the host lets it wait.
///
/// Deterministic: with an equal bundle, parameters and journal it asks the same again. Wants
/// [`STACK_BYTES`](crate::scripts::STACK_BYTES) of stack.
pub fn evaluate(bundle: &Bundle, params: &Value, host: Arc<dyn Host>, limits: &Limits) -> TurnEnd {
    let turn = Arc::new(Turn::new(host, limits.clone()));
    let engine = turn_engine(bundle, params, &turn);
    let result = engine.eval_ast_with_scope(&mut Scope::new(), bundle.ast());
    turn.check_meter();
    turn_end(&turn, result)
}

fn turn_end(turn: &Turn, result: Result<Dynamic, Raised>) -> TurnEnd {
    if let Some(stop) = turn.take_stop() {
        return stopped(stop, result.err().as_deref());
    }
    let end = match result {
        Ok(value) => to_value(&value).map_or_else(TurnEnd::Failed, TurnEnd::Finished),
        Err(error) => match turn.limits().exceeded_by(&error) {
            Some(limit) => return TurnEnd::LimitExceeded(limit),
            None => TurnEnd::Failed(step_error(&error)),
        },
    };
    match turn.check_nothing_left(&turn.next_of_main()) {
        Ok(()) => end,
        Err(error) => turn.take_stop().map_or(end, |stop| stopped(stop, Some(&error))),
    }
}

fn stopped(stop: Stop, error: Option<&rhai::EvalAltResult>) -> TurnEnd {
    match stop {
        Stop::Suspended(_) | Stop::NotJournalled => TurnEnd::Suspended,
        Stop::Diverged(divergence) => TurnEnd::Diverged(divergence),
        Stop::Interrupted(interrupt) => TurnEnd::Interrupted(interrupt),
        Stop::Restart(params) => TurnEnd::Restart(params),
        Stop::Limit(limit) => {
            TurnEnd::LimitExceeded(LimitExceeded { line: limit.line.or_else(|| error.and_then(line_of)), ..limit })
        }
    }
}
