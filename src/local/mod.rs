//! The provider pack `local`: a node is a process of this machine that serves HTTP.
//!
//! A domain: it reaches the engine as actions, and the engine does not know it. Who may write what keeps it simple:
//! whoever holds a node's lock file (at first its creator, then the node itself, for its life) writes its files; only
//! the registration may be removed by anybody, and that is how a node learns that nobody wants it any more.

pub mod actions;
pub mod load;
pub mod node;
pub mod nodes;
mod files;
mod knobs;
mod work;
