//! Several daemons over one PostgreSQL: stories by name. The seeded chaos run beside them is a binary of its own,
//! `tests/chaos.rs`.

mod door;
mod harness;
mod ledger;
mod member;
mod stories;
