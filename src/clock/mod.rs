//! Time and chance as arguments: whoever needs the hour, a nap, an id or a die is handed a [`Clock`] or [`Ids`].
//! That makes tests fast and exact, and a simulated run repeatable.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::time::Timestamp;

pub mod steps;
mod sim;

pub use sim::SimClock;

/// What time it is, and how to wait for a later one.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day. It runs evenly, whatever happens to the machine's clock, and steps only in [`Clock::follow`].
    fn now(&self) -> Timestamp;

    /// Time since this clock was made. Never jumps.
    fn monotonic(&self) -> Duration;

    /// What the machine's own clock shows. A clock without a machine shows its own time.
    fn machine(&self) -> MachineTime {
        MachineTime { shown: self.now(), since_boot: self.monotonic() }
    }

    /// Goes by another clock's time of day from now on, which is `shown` just now. A clock of its own will does not.
    fn follow(&self, shown: Timestamp);

    /// Returns when the time of day is `at` or later, at once if it already is; and when as much time has passed as was
    /// left at the call, so that a clock that is set back keeps nobody waiting. Callers look at the time again.
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

/// The machine's own clock, which somebody may set, beside its time since boot, which nobody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTime {
    /// The time of day.
    pub shown: Timestamp,
    /// Since the machine was started, the time in which it was suspended included.
    pub since_boot: Duration,
}

impl MachineTime {
    /// How far the time of day is ahead of the time since boot, in microseconds. It stays the same for as long as the machine
    /// runs, but for steps of its clock: one that is slewed to the right time moves both alike.
    pub fn offset_micros(self) -> i64 {
        let since_boot = i64::try_from(self.since_boot.as_micros()).unwrap_or(i64::MAX);
        self.shown.as_micros().saturating_sub(since_boot)
    }
}

/// The time of day of the moment at which it was made or last followed another clock, plus the time that has passed since.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    /// How far the time of day is ahead of the time since boot.
    offset_micros: AtomicI64,
}

/// How long a wait for a time of day trusts the last look at the clock: a clock that was set, or a machine that woke from
/// suspension, is noticed this soon.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl SystemClock {
    /// A clock that shows what the machine's clock shows, and whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    pub fn new() -> Self {
        let offset_micros = AtomicI64::new(Self::read_machine().offset_micros());
        Self { started: std::time::Instant::now(), offset_micros }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    fn read_machine() -> MachineTime {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let shown = Timestamp::default().plus(since_epoch.unwrap_or_default());
        MachineTime { shown, since_boot: Self::since_boot() }
    }

    /// Counts while the machine is suspended, unlike [`std::time::Instant`].
    fn since_boot() -> Duration {
        let passed = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(passed.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(passed.tv_nsec).unwrap_or_default())
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
        let offset = self.offset_micros.load(Ordering::Relaxed);
        let since_boot = i64::try_from(Self::since_boot().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(since_boot.saturating_add(offset))
    }

    fn machine(&self) -> MachineTime {
        Self::read_machine()
    }

    fn follow(&self, shown: Timestamp) {
        let followed = MachineTime { shown, since_boot: Self::since_boot() };
        self.offset_micros.store(followed.offset_micros(), Ordering::Relaxed);
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep_until(&self, at: Timestamp) {
        let until = self.monotonic().saturating_add(at.since(self.now()));
        loop {
            let left = at.since(self.now()).min(until.saturating_sub(self.monotonic()));
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
mod tests;
