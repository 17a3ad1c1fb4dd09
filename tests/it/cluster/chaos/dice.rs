//! A small generator: what it gives depends on the seed only.

use std::time::Duration;

pub(super) struct Dice(u64);

impl Dice {
    /// One of many from the same seed, each for itself.
    pub(super) const fn new(seed: u64, which: u64) -> Self {
        let mixed = seed.wrapping_add(which.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    pub(super) fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let chosen = self.below(of.len() as u64);
        &of[usize::try_from(chosen).expect("a small number")]
    }

    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_millis()).expect("a short time");
        least + Duration::from_millis(self.below(span + 1))
    }
}
