//! Petrel: sensors emit triggers, YAML rules match them to durable Rhai workflows, a governor throttles scaling.
//!
//! The modules stand in the order of an event's journey; ARCHITECTURE.md says who may know whom.

/// In the library, so that tests and benches are counted as the daemon is.
#[global_allocator]
static HEAP: memory::CountingAllocator<mimalloc::MiMalloc> = memory::CountingAllocator::new(mimalloc::MiMalloc);

pub mod model;
pub mod memory;
pub mod scripts;
pub mod clock;
pub mod private;
pub mod supervise;
pub mod metrics;
pub mod config;
pub mod secrets;
pub mod auth;
pub mod packs;
pub mod health;
pub mod timekeeping;
pub mod cluster;
pub mod content;
pub mod intake;
pub mod bus;
pub mod amqp;
pub mod rules;
pub mod templates;
pub mod schema;
pub mod requests;
pub mod evaluation;
pub mod dispatch;
pub mod datastore;
pub mod runners;
pub mod governor;
pub mod store;
pub mod sensors;
pub mod chat;
pub mod core_pack;
pub mod housekeeping;
pub mod workflows;
pub mod daemon;
pub mod local;
pub mod haproxy;
pub mod dns;
pub mod aws;
pub mod ssh;
pub mod prometheus;
pub mod irc;
pub mod slack;
pub mod cli;
pub mod api;
pub mod demo;
