//! The nouns of Petrel, in StackStorm's words. Data and state machines only: no I/O, no clock, no engine.

pub mod access;
pub mod refs;
pub mod time;
pub mod printable;
pub mod moment;
pub mod pack;
pub mod trigger;
pub mod rule;
pub mod action;
pub mod execution;
pub mod key_access;
pub mod load;
pub mod schedule;
pub mod group_config;
pub mod group;
pub mod node;
pub mod incident;
pub mod scaling;
pub mod gate;
pub mod reason;
pub mod decision;
pub mod drift;
pub mod group_state;

/// On whose behalf rules and timers act, as in StackStorm.
pub const SYSTEM_USER: &str = "stanley";
