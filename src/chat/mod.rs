//! Chat: from a line that somebody writes to an execution, and from its end to an answer. Which lines mean what is said by
//! action aliases, in StackStorm's format language.
//!
//! ```text
//!  a line ─► book: which alias? ─► desk: may they? sure? ─► an execution ─► its end ─► notify trigger ─► answer
//! ```
//!
//! It knows no chat server: adapters bring lines in and carry answers out.

pub mod format;
pub mod alias;
pub mod book;
pub mod desk;
pub mod answers;

#[cfg(test)]
mod tests;
