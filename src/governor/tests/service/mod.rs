//! The governor over a real store, with a clock that stands still and workflows that go as the test says.

mod desk;
mod admission;
mod ends;
mod incidents;
mod observations;
mod definition;
mod faults;
mod actions;
