//! Sensors turn what happened outside (a request, a moment in time, a polled source) into triggers.
//!
//! What is here decides and does not act: which instants a timer has, which triggers a body means. Listening, waiting
//! and making an event durable are the work of those who call it.

pub mod body;
pub mod mapping;
pub mod polling;
pub mod timers;
pub mod hooks;
pub mod timer_loop;
