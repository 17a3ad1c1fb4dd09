//! What is promised of several daemons, one promise at a time.

mod database;
mod datastore;
mod outage;
mod roles;
mod stopped_worker;
mod time_limits;
mod tls;
mod troubled_server;
mod timers;
mod unwritten_ends;
