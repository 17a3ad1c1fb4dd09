//! From files to a catalogue: read, understand, cross-check, and say what is wrong where.
//!
//! Nothing in here knows the store, the bus or a door. A bad file costs itself and nothing else, and the last good
//! version of an object goes on working (G7).

pub mod diagnostic;
pub mod yaml;
pub mod suggest;
pub mod digest;
pub mod rule_layer;
pub mod fields;
pub mod parameter;
pub mod metadata;
pub mod load;
pub mod layout;
pub mod check;
pub mod publication;
pub mod shipped;
pub mod watch;
