//! The pack `ssh` for the role `configure`: what a new node must be before it serves, as a profile of steps, each of
//! which can be repeated.
//!
//! A domain: it reaches the engine as an action, and the engine does not know it. It remembers nothing: every step looks
//! at the node, does what is missing, and looks again. So whoever repeats a profile after whatever went wrong goes on
//! where it ended, and a second time changes nothing.

pub mod actions;
mod files;
mod profile;
mod settings;
mod steps;
