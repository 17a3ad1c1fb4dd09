//! The governor: every change of a group's size, whoever asks for it, passes through one pure decision.
//!
//! [`decide`](decide::decide) reads a group's state and says what to do and why; [`ledger`] applies a decision and the end of an
//! activity to that state. Neither knows a store, a clock or a provider. The caller does, inside one transaction:
//!
//! ```text
//!  read GroupState ─► decide ─► ledger::admit ─► write state, decision and (if one was opened) the activity's workflow
//!  workflow ends   ─► ledger::finish ─► write state
//! ```

pub mod decide;
pub mod ledger;
pub mod backoff;
pub mod names;
pub mod victims;
mod situation;

#[cfg(test)]
mod tests;
