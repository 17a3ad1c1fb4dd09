//! What is promised of several daemons, one promise at a time.

mod database;
mod roles;
mod stopped_worker;
mod timers;
