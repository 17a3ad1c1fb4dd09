//! `petrel serve`: opens the doors, says where, waits for the end, and closes in order.

pub mod engine;

pub use engine::{Engine, Home, World};
