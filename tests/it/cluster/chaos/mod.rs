//! The seeded chaos run.
