//! The governor's promises: one story per row of its table, the original pack's faults, and invariants over random histories.

mod world;
mod watched;
mod rows;
mod regressions;
mod approvals;
mod drift;
mod invariants;
mod loads;
mod service;
