//! The pack `dns`: names of nodes in a zone, by signed updates (RFC 2136, RFC 8945) to the zone's primary server.
//!
//! A domain: it reaches the engine as actions, and the engine does not know it. A name is ours if the TXT record of our
//! mark stands beside it; what stands at a name without it belongs to somebody else and is never touched. The mark is
//! a condition of the same update that changes the record, so the server decides who comes first, not we.

pub mod actions;
mod records;
mod refusal;
mod settings;
mod wire;
mod zone;
