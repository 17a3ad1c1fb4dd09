//! IRC as a place of chat: lines in rooms become commands, and what is announced for a room is said there.
//!
//! IRC knows neither whether a line arrived nor who somebody is: what is said may be said again after a crash, and only
//! nicknames that the configuration maps to users may give commands.

mod adapter;
mod line;
mod session;
mod settings;

pub use adapter::Adapter;
