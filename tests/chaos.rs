//! Chaos over three daemons, in a binary of its own: it wants the whole machine, and the stories do not want it beside them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a story: it starts what it needs, and nobody imports it"
)]

#[path = "it/cluster"]
#[expect(dead_code, reason = "shared with the other stories, which use the rest")]
mod cluster {
    mod chaos;
    mod door;
    mod harness;
    mod ledger;
    mod member;
}
#[path = "it/servers/mod.rs"]
#[expect(dead_code, reason = "shared with the other stories, which use the rest")]
mod servers;
#[path = "it/support/mod.rs"]
#[expect(dead_code, reason = "shared with the other stories, which use the rest")]
mod support;
