//! What protects all listeners (the API, the sensors' listeners, Slack's routes) from strangers: one registry of
//! connections with shares by address, one budget of memory for bodies, one check of `Host`. All of them share one
//! [`ListenerGuard`], so a flood at one listener takes nothing from another.
//!
//! ```text
//!  accept ─► connections (share by address, reserve) ─► head in time ─► Host ─► credential ─► body (budget, deadline)
//! ```
//!
//! Shares apply before authentication only: a connection that showed a valid credential is not counted any more.

mod address;
mod bodies;
mod client;
mod connections;
mod guard;

pub(super) use self::address::ClientShare;
pub use self::bodies::Bodies;
pub(super) use self::bodies::{Held, discard_body, read_body};
pub(super) use self::client::Client;
pub(super) use self::connections::{Peer, Phase, Place, Turned};
pub(super) use self::guard::guard_requests;
pub use self::guard::{GuardSettings, ListenerGuard};
