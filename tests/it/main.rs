//! Tests with the real binary and real processes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cognitive_complexity,
    clippy::redundant_closure_for_method_calls,
    clippy::manual_is_multiple_of,
    clippy::single_match_else,
    clippy::needless_pass_by_value,
    unreachable_pub,
    reason = "stories: a failed expectation is a failed test, they start what they need, and nobody imports them"
)]

mod admission;
mod amqp;
mod architecture;
mod aws;
mod bad_input;
mod chat;
mod cluster;
mod dns;
mod guarantees;
mod haproxy;
mod irc;
mod local_nodes;
mod matrix;
mod policies;
mod polling;
mod prometheus;
mod publishing;
mod reconcile;
mod rights;
mod runners;
mod scaling;
mod servers;
mod showcase;
mod slack;
mod ssh;
#[path = "servers/tests/mod.rs"]
mod servers_keep_their_promises;
mod store;
mod support;
mod timers_and_rules;
mod workflows;
