//! Petrel: sensors emit triggers, YAML rules match them to durable Rhai workflows, a governor throttles scaling.
//!
//! The modules stand in the order of an event's journey; ARCHITECTURE.md says who may know whom.

pub mod model;
pub mod clock;
pub mod supervise;
pub mod secrets;
pub mod auth;
pub mod config;
pub mod schema;
pub mod templates;
pub mod rules;
pub mod packs;
pub mod runners;
pub mod bus;
pub mod requests;
pub mod store;
pub mod governor;
