//! Durable workflows: a Rhai script that survives crashes because it is evaluated again over a journal.
//!
//! # Mechanism
//!
//! Every builtin that is not a pure function is a *step*. Steps are numbered in the dynamic order in which the script
//! reaches them ([`Position`]); branches of `parallel` and `map_items` and attempts of `retry` number their own. The
//! journal maps positions to a [`Request`] and its outcome. At each step [`evaluate()`] looks the position up:
//!
//! ```text
//!   not in the journal ──► ask the host: it journals the request before anything happens
//!   in the journal, another request ──► Diverged
//!   in the journal, no outcome ──► wait if the host will hold the thread, else suspend the script
//!   in the journal, outcome ──► decode its text: return the value, or raise the error (`try/catch` can catch it)
//! ```
//!
//! A suspended script is gone: nothing of it stays in memory. When there is an outcome the script is evaluated from its
//! start, and arrives at the same place because all it has learned comes from the journal's text. Nothing else ever
//! reaches it, also when it never stopped, so hot and replayed are the same by construction.
//!
//! A script is stopped (suspended, cancelled, timed out, paused, diverged, over a limit, restarted) by an error that it
//! cannot catch and a flag, because the script engine lets go of such an error in some places (see `turn`).
//!
//! Branches never wait: one that has to is suspended and evaluated again from its own start, while the frame around it
//! opens others, up to the given concurrency. The outcome of a finished branch is journalled, so it is evaluated once
//! more after a crash at most. What branches captured they have to themselves, what they return goes through the journal.
//!
//! Undo is data: it travels in the request, and [`rollback_plan`] reads it from the journal without a script.
//!
//! # What this module does not know
//!
//! No store, no clock, no tokio, no child executions: those are behind [`Host`].

mod builtins;
mod bundle;
mod branches;
mod convert;
mod draft;
mod engine;
mod errors;
mod evaluate;
mod host;
mod limits;
mod lint;
mod outcome;
mod position;
mod request;
mod rollback;
mod journal_host;
mod key_steps;
pub mod parked;
mod rolling_back;
mod waits;
pub mod runner;
pub mod dry;
pub mod state;
mod turn;

#[cfg(test)]
mod tests;

pub use bundle::{API_VERSION, Bundle, CompileError, Sources};
pub use evaluate::{Divergence, TurnEnd, evaluate};
pub use host::{Answer, Entry, Host, Interrupt, JournalSize, Waited};
pub use limits::{LimitExceeded, LimitKind, Limits};
pub use lint::{StaticCall, Via, lint};
pub use outcome::{StepError, StepOutcome};
pub use position::{BadPosition, Position};
pub use request::{Request, StepKind, StepOptions, Undo, keyed_digest};
pub use rollback::{UndoStep, rollback_plan};
