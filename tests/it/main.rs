//! Tests with the real binary and real processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod guarantees;
mod local_nodes;
mod runners;
mod scaling;
mod support;
mod workflows;
