//! The chaos run: three daemons under a steady mix while everything around them fails, each fault by a seeded die; then
//! all is healed, everything comes to its end, and the effects in the world are counted.
//!
//! `PETREL_CHAOS_SECONDS` says how long (a minute by default), `PETREL_CHAOS_SEED` repeats a run, and with
//! `PETREL_CHAOS_BROKER=0` there is no broker in front of the store.

mod books;
mod dice;
mod faults;
mod groups;
mod mix;
mod outside;
mod shell;
mod table;

use std::sync::Arc;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock, sleep};
use tokio_util::sync::CancellationToken;

use self::faults::Machines;
use super::harness::{Cluster, Servers};
use super::ledger::Ledger;
use crate::servers::{Postgres, RabbitMq};

const SECONDS: u64 = 60;
const DAEMONS: usize = 3;
/// The first ones tell the story.
const SHOWN_FINDINGS: usize = 20;
/// What was acknowledged in the last moment and waits for the lease of a worker that was killed in it.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "how long to go on is said from outside")]
fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

async fn machines() -> (Machines, Servers) {
    let postgres = Postgres::start().await;
    let rabbit = match from_environment("PETREL_CHAOS_BROKER", 1) {
        0 => None,
        _ => Some(RabbitMq::start().await),
    };
    let servers = Servers { database: postgres.fresh_database().await, broker: rabbit.as_ref().map(RabbitMq::url) };
    (Machines { postgres, rabbit }, servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_to_g06_hold_for_three_daemons_in_chaos() {
    let lasting = Duration::from_secs(from_environment("PETREL_CHAOS_SECONDS", SECONDS));
    let seed = from_environment("PETREL_CHAOS_SEED", u64::from(std::process::id()));
    eprintln!("chaos for {lasting:?} with PETREL_CHAOS_SEED={seed}");
    let (mut machines, servers) = machines().await;
    let ledger = Arc::new(Ledger::start().await);
    let mut cluster = Cluster::start(outside::site(&ledger), &servers, DAEMONS).await;
    outside::fill_datastore(&cluster.door(0)).await;
    groups::make_all(&cluster.door(0)).await;
    let stop = CancellationToken::new();
    let load = tokio::spawn(mix::run(cluster.doors(), seed, stop.clone()));
    let faults = faults::run(&mut cluster, &mut machines, seed, lasting).await;
    stop.cancel();
    let sent = load.await.expect("the load does not fail");
    let drained_in = drain(&cluster, &sent).await;
    cluster.assert_alive();
    let books = books::Books::read(&cluster, &ledger, sent).await;
    let findings = books.findings();
    eprintln!("{}", table::render(&faults, &books, &findings, drained_in));
    let shown = findings.iter().take(SHOWN_FINDINGS).cloned().collect::<Vec<_>>().join("\n");
    assert!(findings.is_empty(), "{} findings with PETREL_CHAOS_SEED={seed}:\n{shown}", findings.len());
}

/// Waits until everything that was acknowledged has landed and is done, and says how long it took. What is not by then
/// is in the books.
async fn drain(cluster: &Cluster, sent: &mix::Sent) -> Duration {
    let clock = SystemClock::new();
    let events = cluster.store().await.events();
    while clock.monotonic() < DRAIN_LIMIT {
        if cluster.is_idle().await && books::has_landed(&events, sent).await && cluster.is_idle().await {
            break;
        }
        sleep(&clock, Duration::from_millis(50)).await;
    }
    clock.monotonic()
}
