//! Clocks, simulated and real, and ids.

use super::*;

use std::collections::BTreeSet;
use std::thread;

use futures_util::FutureExt;

fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_time_in_the_past_is_not_waited_for() {
    let clock = SimClock::new(noon());
    assert!(clock.sleep_until(noon()).now_or_never().is_some());
    assert!(clock.sleep_until(noon().minus(Duration::from_secs(5))).now_or_never().is_some());
    let system = SystemClock::new();
    assert!(system.sleep_until(noon().minus(Duration::from_hours(24 * 365 * 10))).now_or_never().is_some());
}

#[tokio::test]
async fn a_sleeper_wakes_when_the_simulated_clock_reaches_its_time_and_not_before() {
    let clock = SimClock::new(noon());
    let mut sleeper = clock.sleep_until(noon().plus(Duration::from_secs(10)));
    assert!((&mut sleeper).now_or_never().is_none());
    clock.advance(Duration::from_secs(9));
    assert!((&mut sleeper).now_or_never().is_none());
    clock.set(noon().plus(Duration::from_secs(10)));
    assert!((&mut sleeper).now_or_never().is_some());
    assert_eq!(clock.monotonic(), Duration::from_secs(10));
}

#[tokio::test]
async fn work_that_is_ready_beats_its_time_limit_and_work_that_is_not_ends_with_it() {
    let clock = SimClock::new(noon());
    assert_eq!(timeout(&clock, Duration::ZERO, async { 7 }).await, Ok(7));
    let mut late = Box::pin(timeout(&clock, Duration::from_secs(1), std::future::pending::<()>()));
    assert!((&mut late).now_or_never().is_none());
    clock.advance(Duration::from_secs(1));
    assert_eq!((&mut late).now_or_never(), Some(Err(Elapsed)));
}

#[test]
fn the_system_clock_agrees_with_itself() {
    let clock = SystemClock::new();
    assert!(clock.now() > noon().minus(Duration::from_hours(24 * 365 * 5)));
    let before = clock.monotonic();
    assert!(clock.monotonic() >= before);
}

#[test]
fn ids_grow_even_when_the_clock_is_set_back() {
    let clock = Arc::new(SimClock::new(noon()));
    let ids = SystemIds::new(Arc::clone(&clock) as Arc<dyn Clock>);
    let first = ids.next();
    clock.set(noon().minus(Duration::from_hours(1)));
    let second = ids.next();
    clock.set(noon().plus(Duration::from_hours(1)));
    assert!(first < second && second < ids.next());
    assert_eq!(i64::from(u32::from_be_bytes([first[0], first[1], first[2], first[3]])), noon().as_seconds());
}

#[test]
fn a_counter_that_is_used_up_borrows_from_the_next_second() {
    let ids = SystemIds::new(Arc::new(SimClock::new(noon())));
    let last_of_the_second = (u64::try_from(noon().as_seconds()).unwrap() << COUNTER_BITS) + 0xff_fffe;
    ids.sequence.last.store(last_of_the_second, Ordering::Relaxed);
    let (last, first) = (ids.next(), ids.next());
    assert_eq!((&last[9..], &first[9..]), (&[255, 255, 255][..], &[0, 0, 0][..]));
    assert!(last < first);
}

#[test]
fn threads_never_get_the_same_id() {
    let ids = SystemIds::new(Arc::new(SimClock::new(noon())));
    let all: BTreeSet<[u8; 12]> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..1000).map(|_| ids.next()).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(all.len(), 4000);
}

#[test]
fn the_same_seed_gives_the_same_ids_names_and_numbers() {
    let draw = |seed| {
        let ids = SeededIds::new(seed, Arc::new(SimClock::new(noon())));
        (ids.next(), ids.random_u64(), ids.uuid_v4(), ids.random_name())
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn a_uuid_says_that_it_is_random() {
    let uuid = SystemIds::new(Arc::new(SimClock::new(noon()))).uuid_v4();
    let parts: Vec<&str> = uuid.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
}

#[test]
fn every_name_is_a_dns_label() {
    let words: BTreeSet<&str> = ADJECTIVES.into_iter().chain(NOUNS).collect();
    assert_eq!(words.len(), 128, "no word twice");
    assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase()) && word.len() < 30));
}
