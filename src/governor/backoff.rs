//! How long to rest after failures: 30 seconds, doubled with each failure in a row up to half an hour, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(30);

/// The rest after the `failures`th failure in a row. Up to a quarter is added by `seed`, so that groups which failed together
/// don't come back together; the same seed gives the same rest.
pub fn rest_after(failures: u32, seed: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let rest = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let quarter = u64::try_from(rest.as_millis() / 4).unwrap_or(u64::MAX).max(1);
    let jitter = scramble(seed ^ u64::from(failures)) % quarter;
    (rest + Duration::from_millis(jitter)).min(LONGEST)
}

/// One step of splitmix64: neighbouring seeds give unrelated numbers.
const fn scramble(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_doubles_up_to_half_an_hour() {
        for (failures, seconds) in [(1, 30), (2, 60), (3, 120), (6, 960)] {
            let rest = rest_after(failures, 7);
            let base = Duration::from_secs(seconds);
            assert!(rest >= base && rest < base + base / 4, "{failures}: {rest:?}");
        }
        assert_eq!(rest_after(u32::MAX, 7), LONGEST);
    }

    #[test]
    fn the_jitter_depends_on_the_seed_alone() {
        assert_eq!(rest_after(3, 1), rest_after(3, 1));
        assert_ne!(rest_after(3, 1), rest_after(3, 2));
    }
}
