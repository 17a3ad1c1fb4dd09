//! The broker in front of the store, with a real one: what it confirmed is neither lost nor doubled, whoever dies.

mod broker;
mod daemons;
mod letters;
mod pack;
mod shared_store;
