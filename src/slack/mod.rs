//! Slack as a place of chat: what members say to the bot becomes commands, and what is announced for a channel is said
//! there once.
//!
//! ```text
//!  Slack ─► door (signature) ─► trigger slack.command ─► rule ─► action slack.command ─► chat's desk
//!                                                                                            │
//!  Slack ◄─ channel, once ◄─ adapter ◄─ announcements ◄──────────── answers, notices ◄───────┘
//! ```
//!
//! What comes in is durable before Slack hears that it was taken. What goes out is read from the store by one daemon at
//! a time, so nothing ever waits for Slack.

mod adapter;
mod command;
mod door;
mod heard;
mod once;
mod settings;
mod text;
mod web;

pub use adapter::Adapter;
pub use command::{Tools, register};
pub use door::{Door, router};
