//! `petrel serve`: takes its folder, opens everything, says where it listens, waits for the end, and closes in order.

pub mod engine;
mod action_user;
mod asg;
mod broker;
mod chat;
mod data_folder;
mod doors;
mod keeping;
mod lock;
mod log;
mod migrate_store;
mod runners;
mod serve;
mod former_life;
mod generation;
mod installation;
mod upkeep;

pub use engine::{Engine, Home, World};
pub use installation::Sharing;
pub use migrate_store::migrate_store_main;
pub use runners::runner_parameters;
pub use serve::{restore_main, serve_main, validate_main};
