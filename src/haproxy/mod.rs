//! The provider pack `haproxy` for the role `load_balancer`: nodes of a group are servers of a backend of a running
//! HAProxy, added and taken away by its runtime API.
//!
//! A domain: it reaches the engine as actions, and the engine does not know it. What makes them safe to repeat is that
//! none of them remembers anything: each looks at what HAProxy has, does the one step that follows from it, and looks
//! again. HAProxy forgets every server that was added so when it starts anew.
//!
//! ```text
//!   add server   enable health        check passed      set state drain     no session      del server
//!  ──────────► maint ────────► maint, checked ────► ready ─────────► drain ─────────► maint ─────────►
//! ```

pub mod actions;
mod adding;
mod commands;
mod names;
mod pool;
mod runtime;
mod servers;
mod settings;
