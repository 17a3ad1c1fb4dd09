//! The pack `haproxy` against a real HAProxy: that a node gets requests only while it can answer them, and no request is
//! lost when nodes come and go.

mod group;
mod membership;
mod outage;
mod pools;
mod rig;
mod traffic;
