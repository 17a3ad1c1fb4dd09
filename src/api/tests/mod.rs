//! Stories through the door: real store, real loader, real dispatcher; only the clock stands still.

mod support;
mod access;
mod content_and_keys;
mod dead_letters;
mod hooks;
mod publishing;
mod rights;
mod runs;
mod strangers;
mod streams;
