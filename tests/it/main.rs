//! Tests with the real binary and real processes.
#![expect(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests: a failed expectation is a failed test, and nobody imports them")]

mod architecture;
mod guarantees;
mod local_nodes;
mod runners;
mod scaling;
mod support;
mod workflows;
