//! Time and chance as arguments: whoever needs the hour, a nap, an id or a die is handed a [`Clock`] or [`Ids`].
//! That makes tests fast and exact, and a simulated run repeatable.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::time::Timestamp;

/// What time it is, and how to wait for a later one.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day. May jump when the machine's clock is set.
    fn now(&self) -> Timestamp;

    /// Time since this clock was made. Never jumps.
    fn monotonic(&self) -> Duration;

    /// Goes by somebody else's time of day from now on, which is `shown` just now. A clock of its own will does not.
    fn follow(&self, shown: Timestamp);

    /// Returns when the time of day is `at` or later; at once if it already is.
    async fn sleep_until(&self, at: Timestamp);

    /// Returns when `duration` has passed, whatever happens to the time of day.
    async fn sleep_for(&self, duration: Duration);
}

/// Waits for `duration`.
pub async fn sleep(clock: &dyn Clock, duration: Duration) {
    clock.sleep_for(duration).await;
}

/// The time limit of [`timeout`] came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time limit has passed")]
pub struct Elapsed;

/// Runs `work`, but drops it when it takes longer than `limit`. Work that is ready in time wins a tie.
pub async fn timeout<F: Future>(clock: &dyn Clock, limit: Duration, work: F) -> Result<F::Output, Elapsed> {
    tokio::select! {
        biased;
        output = work => Ok(output),
        () = clock.sleep_for(limit) => Err(Elapsed),
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    /// How far the time that is followed is ahead of the machine's.
    ahead_micros: AtomicI64,
}

/// How long a wait for a time of day trusts the last look at the clock: a clock that was set is noticed this soon.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now(), ahead_micros: AtomicI64::new(0) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    fn of_machine() -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::default().plus(since_epoch.unwrap_or_default())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_micros.load(Ordering::Relaxed);
        Timestamp::from_micros(Self::of_machine().as_micros().saturating_add(ahead))
    }

    fn follow(&self, shown: Timestamp) {
        let ahead = shown.as_micros().saturating_sub(Self::of_machine().as_micros());
        self.ahead_micros.store(ahead, Ordering::Relaxed);
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = at.since(self.now());
            if left.is_zero() {
                return;
            }
            self.sleep_for(left.min(LOOK_AGAIN_AFTER)).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    async fn sleep_for(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct SimClock {
    started: Timestamp,
    time: watch::Sender<Timestamp>,
}

impl SimClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { started: start, time: watch::Sender::new(start) }
    }

    /// Moves the clock forward; whoever waited for a time up to then wakes.
    pub fn advance(&self, by: Duration) {
        self.time.send_modify(|time| *time = time.plus(by));
    }

    /// Sets the clock; whoever waited for a time up to then wakes.
    pub fn set(&self, to: Timestamp) {
        self.time.send_replace(to);
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        *self.time.borrow()
    }

    /// It is moved by hand only.
    fn follow(&self, _shown: Timestamp) {}

    fn monotonic(&self) -> Duration {
        self.now().since(self.started)
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut time = self.time.subscribe();
        let reached = time.wait_for(|now| *now >= at).await;
        drop(reached.expect("this clock holds the sender for as long as it is borrowed"));
    }

    async fn sleep_for(&self, duration: Duration) {
        self.sleep_until(self.now().plus(duration)).await;
    }
}

/// Where ids and chance come from.
pub trait Ids: Send + Sync + fmt::Debug {
    /// A new id: greater than every id this source gave before, different from those of every other process.
    fn next(&self) -> [u8; 12];

    /// Sixty-four random bits.
    fn random_u64(&self) -> u64;

    /// A random UUID (version 4), as `6f1c0d0e-8a4b-4c7e-9d55-0b8f6a3c2e11`.
    fn uuid_v4(&self) -> String {
        let bits = (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64());
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        let (a, rest) = digits.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        format!("{a}-{b}-{c}-{d}-{e}")
    }

    /// A name that people can say and DNS accepts, as `brave-otter`. One of 4096: whoever must not have the same
    /// name twice checks.
    fn random_name(&self) -> String {
        let die = self.random_u64().to_le_bytes();
        let adjective = ADJECTIVES[usize::from(die[0]) % ADJECTIVES.len()];
        let noun = NOUNS[usize::from(die[1]) % NOUNS.len()];
        format!("{adjective}-{noun}")
    }
}

/// Ids from the time, five bytes of this process and a counter; chance from the operating system.
#[derive(Debug)]
pub struct SystemIds {
    sequence: Sequence,
}

impl SystemIds {
    /// A source that no other process shares.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { sequence: Sequence::new(clock, random_from_system()) }
    }
}

impl Ids for SystemIds {
    fn next(&self) -> [u8; 12] {
        self.sequence.next()
    }

    fn random_u64(&self) -> u64 {
        random_from_system()
    }
}

fn random_from_system() -> u64 {
    getrandom::u64().expect("a running system has randomness")
}

/// Ids and chance that are the same in every run with the same seed and clock. Never for keys or tokens.
#[derive(Debug)]
pub struct SeededIds {
    sequence: Sequence,
    state: AtomicU64,
}

impl SeededIds {
    /// A source that repeats itself.
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self { sequence: Sequence::new(clock, scramble(seed)), state: AtomicU64::new(seed) }
    }
}

impl Ids for SeededIds {
    fn next(&self) -> [u8; 12] {
        self.sequence.next()
    }

    fn random_u64(&self) -> u64 {
        scramble(self.state.fetch_add(SPLITMIX_STEP, Ordering::Relaxed).wrapping_add(SPLITMIX_STEP))
    }
}

/// The golden ratio in 64 bits: the step of the `SplitMix64` generator.
const SPLITMIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64`.
const fn scramble(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Seconds and counter are one number that only grows: a counter that is used up borrows from the next second, and a
/// clock that is set back changes nothing.
#[derive(Debug)]
struct Sequence {
    clock: Arc<dyn Clock>,
    process: [u8; 8],
    last: AtomicU64,
}

const COUNTER_BITS: u32 = 24;

impl Sequence {
    const fn new(clock: Arc<dyn Clock>, process: u64) -> Self {
        Self { clock, process: process.to_be_bytes(), last: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; 12] {
        let seconds = u64::try_from(self.clock.now().as_seconds()).unwrap_or(0);
        let earliest = seconds << COUNTER_BITS;
        let after = |last: u64| earliest.max(last + 1);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        let [_, s0, s1, s2, s3, c0, c1, c2] = after(last.unwrap_or_else(|unchanged| unchanged)).to_be_bytes();
        let [_, _, _, p0, p1, p2, p3, p4] = self.process;
        [s0, s1, s2, s3, p0, p1, p2, p3, p4, c0, c1, c2]
    }
}

#[rustfmt::skip]
const ADJECTIVES: [&str; 64] = [
    "able", "amber", "ample", "bold", "brave", "bright", "brisk", "calm", "candid", "clear", "clever", "cosmic", "crisp",
    "daring", "deft", "eager", "early", "easy", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden",
    "grand", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow",
    "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "plucky", "polite", "proud", "quick", "quiet", "rapid",
    "ready", "robust", "serene", "sharp", "silent", "silver", "smart", "steady", "sunny", "swift", "vivid", "wise",
];
#[rustfmt::skip]
const NOUNS: [&str; 64] = [
    "albatross", "badger", "beaver", "bison", "bittern", "bobcat", "buzzard", "caribou", "condor", "coot", "cormorant",
    "crane", "curlew", "dolphin", "eagle", "egret", "eider", "falcon", "ferret", "finch", "fox", "fulmar", "gannet", "gecko",
    "gull", "harrier", "hawk", "heron", "ibex", "ibis", "jackdaw", "kestrel", "kite", "lark", "lemur", "linnet", "lynx",
    "marten", "merlin", "narwhal", "newt", "ocelot", "orca", "osprey", "otter", "owl", "panda", "pelican", "penguin",
    "petrel", "plover", "puffin", "quail", "raven", "robin", "seal", "skua", "sparrow", "stork", "swallow", "swan", "tern",
    "walrus", "wren",
];

#[cfg(test)]
mod tests {
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
}
