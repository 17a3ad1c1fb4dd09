//! Tells a step of a clock from the small differences that every two clocks have. Pure.

use std::time::Duration;

use crate::model::time::{CLOCK_TOLERANCE, Timestamp};

/// What a look at a reference clock says about one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Both show the same, within the tolerance: the reference is followed at once.
    Agrees,
    /// The reference is `by_micros` ahead (or, below zero, behind) since this look. It is not followed yet.
    Suspected {
        /// Microseconds.
        by_micros: i64,
    },
    /// It still is, but not yet for long enough.
    Settling,
    /// It has been for long enough: it was set, and is to be followed.
    Stepped {
        /// Microseconds.
        by_micros: i64,
    },
    /// It was ahead or behind for a moment and is right again.
    Returned {
        /// Microseconds.
        by_micros: i64,
    },
}

/// Watches a reference clock. A step that is taken back before it has lasted `settle` never counted.
#[derive(Debug)]
pub struct StepWatch {
    settle: Duration,
    suspected: Option<Suspicion>,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    by_micros: i64,
    since: Duration,
}

impl StepWatch {
    /// A step counts when it has lasted so long.
    pub const fn new(settle: Duration) -> Self {
        Self { settle, suspected: None }
    }

    /// Compares `own` time with what the reference showed at the same moment, `at` by a clock that nobody sets.
    pub fn compare(&mut self, own: Timestamp, shown: Timestamp, at: Duration) -> Comparison {
        let by_micros = shown.as_micros().saturating_sub(own.as_micros());
        if is_small(by_micros) {
            return match self.suspected.take() {
                Some(Suspicion { by_micros, .. }) => Comparison::Returned { by_micros },
                None => Comparison::Agrees,
            };
        }
        match self.suspected {
            Some(before) if is_small(by_micros.saturating_sub(before.by_micros)) => {
                if at.saturating_sub(before.since) < self.settle {
                    return Comparison::Settling;
                }
                self.suspected = None;
                Comparison::Stepped { by_micros }
            }
            _ => {
                self.suspected = Some(Suspicion { by_micros, since: at });
                Comparison::Suspected { by_micros }
            }
        }
    }
}

/// Whether a difference is no step.
pub const fn is_small(by_micros: i64) -> bool {
    Duration::from_micros(by_micros.unsigned_abs()).as_nanos() <= CLOCK_TOLERANCE.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(60);
    const HOUR: i64 = 3_600_000_000;

    fn compare(watch: &mut StepWatch, by_micros: i64, at_seconds: u64) -> Comparison {
        let own = Timestamp::from_micros(1_000 * HOUR);
        let shown = Timestamp::from_micros(own.as_micros() + by_micros);
        watch.compare(own, shown, Duration::from_secs(at_seconds))
    }

    #[test]
    fn a_step_counts_once_it_has_lasted() {
        let mut watch = StepWatch::new(SETTLE);
        assert_eq!(compare(&mut watch, 1_000_000, 0), Comparison::Agrees);
        assert_eq!(compare(&mut watch, HOUR, 1), Comparison::Suspected { by_micros: HOUR });
        assert_eq!(compare(&mut watch, HOUR + 1_000, 60), Comparison::Settling);
        assert_eq!(compare(&mut watch, HOUR, 61), Comparison::Stepped { by_micros: HOUR });
    }

    #[test]
    fn a_step_that_is_taken_back_or_changed_never_counted() {
        let mut watch = StepWatch::new(SETTLE);
        compare(&mut watch, HOUR, 0);
        assert_eq!(compare(&mut watch, 0, 30), Comparison::Returned { by_micros: HOUR });
        compare(&mut watch, HOUR, 40);
        assert_eq!(compare(&mut watch, -HOUR, 99), Comparison::Suspected { by_micros: -HOUR });
        assert_eq!(compare(&mut watch, -HOUR, 120), Comparison::Settling);
    }
}
