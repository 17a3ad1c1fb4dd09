//! The governor: every change of a group's size, whoever asks for it, passes through one pure decision.
//!
//! [`decide`](decide::decide) reads a group's state and says what to do and why; [`ledger`] applies a decision and the end of an
//! activity to that state. Neither knows a store, a clock or a provider. The caller does, inside one transaction:
//!
//! ```text
//!  read GroupState ─► decide ─► ledger::admit ─► write state, decision and (if one was opened) the activity's workflow
//!  workflow ends   ─► ledger::finish ─► write state
//! ```
//!
//! [`service::Governor`] is that caller; everything that asks for a change of size goes through its `admit`.

pub mod decide;
pub mod ledger;
pub mod backoff;
pub mod names;
pub mod victims;
pub mod error;
pub mod rows;
pub mod freeze;
pub mod service;
pub mod admission;
pub mod incidents;
pub mod drift;
pub mod observation;
pub mod tick;
pub mod phases;
pub mod definition;
pub mod redefinition;
pub mod end;
pub mod view;
pub mod actions;
mod call;
mod defaults;
mod requested;
mod situation;
mod workflow;

#[cfg(test)]
mod tests;
