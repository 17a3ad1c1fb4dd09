//! The pack `prometheus`, as far as it is Rust: which targets Prometheus finds for a group, and what it
//! measures. Its alerts are a mapping script of the pack.
//!
//! A domain: it reaches the engine as actions, and the engine does not know it.

pub mod actions;
mod query;
mod targets;
