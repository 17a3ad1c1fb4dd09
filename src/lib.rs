//! Petrel: sensors emit triggers, YAML rules match them to durable Rhai workflows, a governor throttles scaling.
//!
//! The modules stand in the order of an event's journey; ARCHITECTURE.md says who may know whom.

pub mod model;
pub mod runners;
pub mod workflows;
