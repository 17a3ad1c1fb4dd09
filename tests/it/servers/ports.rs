//! Ports that a server can have, lose for a while, and have again.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to clients (and to whoever binds port 0): while a server is down, no stranger's
/// connection gets its port, and no client that tries again and again can meet itself on it.
const FIRST: u16 = 20_000;
const HOW_MANY: u16 = 12_000;

/// Processes begin at different places, so that they seldom try the same port in the same moment.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
    let [low, high, ..] = random().to_le_bytes();
    AtomicU16::new(u16::from_le_bytes([low, high]))
});

/// A port of the loopback that nobody listens on, and that this process gives out once.
pub(crate) fn free_port() -> u16 {
    let candidates = (0..HOW_MANY).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % HOW_MANY);
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("one of thousands of ports is free")
}

/// A number that nobody has seen before.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
