//! Several daemons over one PostgreSQL: stories by name, and the seeded chaos run.

mod chaos;
mod door;
mod harness;
mod ledger;
mod member;
mod stories;
