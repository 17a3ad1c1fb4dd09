//! Tests with the real binary and real processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod local_nodes;
mod runners;
mod scaling;
mod store;
mod support;
mod workflows;
