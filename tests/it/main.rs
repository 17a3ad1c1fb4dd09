//! Tests with the real binary and real processes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod architecture;
mod local_nodes;
mod polling;
mod runners;
mod scaling;
mod support;
mod workflows;
