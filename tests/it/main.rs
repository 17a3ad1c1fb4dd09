//! Tests with the real binary and real processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests: a failed expectation is a failed test, and nobody imports them"
)]

mod architecture;
mod bad_input;
mod guarantees;
mod local_nodes;
mod policies;
mod polling;
mod runners;
mod scaling;
mod store;
mod support;
mod timers_and_rules;
mod workflows;
