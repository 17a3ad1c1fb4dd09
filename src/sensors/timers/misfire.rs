//! What becomes of the instants that passed while nobody looked.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::Timestamp;
use crate::model::trigger::Trigger;

use super::Timer;
use super::parameters::{Parameters, ScheduleError};

/// How many missed instants `all` fires at most.
const MOST_CAUGHT_UP: usize = 100;

/// Up to here dropped instants are counted one by one; a timer that missed more skips to the recent ones.
const MOST_COUNTED: u64 = 100_000;

/// What to do with missed instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfire {
    /// Fire once for all of them: the last one, unless an instant is due on time anyway.
    #[default]
    Once,
    /// Fire none of them.
    Skip,
    /// Fire all of them, at most the last 100.
    All,
}

impl Misfire {
    /// The trigger's parameter `misfire`; `once` if it has none.
    pub fn parse(trigger: &Trigger) -> Result<Self, ScheduleError> {
        const REMEDY: &str = "write once, skip or all";
        match Parameters::new(&trigger.parameters).text("misfire", REMEDY)?.as_deref() {
            None | Some("once") => Ok(Self::Once),
            Some("skip") => Ok(Self::Skip),
            Some("all") => Ok(Self::All),
            Some(other) => Err(ScheduleError::new("misfire", format!("`{other}` is not a policy"), REMEDY)),
        }
    }
}

/// What a timer owes at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// To be fired now, oldest first.
    pub instants: Vec<Timestamp>,
    /// Instants that passed and are not fired: exact up to 100,000, beyond that a lower bound.
    pub missed_dropped: u64,
    /// When to look again.
    pub next: Option<Timestamp>,
}

/// Which instants between `last_fired` (or the anchor) and `now` are to be fired.
///
/// An instant not older than `grace` is on time and always fired; `policy` decides about the older ones.
pub fn due(timer: &Timer, last_fired: Option<Timestamp>, now: Timestamp, policy: Misfire, grace: Duration) -> Due {
    let from = last_fired.unwrap_or(timer.anchor).max(timer.anchor);
    let Passed { mut missed, on_time, mut dropped } = Passed::between(timer, from, now, now.minus(grace));
    let kept = match policy {
        Misfire::All => missed.len(),
        Misfire::Once if on_time.is_empty() => missed.len().min(1),
        Misfire::Once | Misfire::Skip => 0,
    };
    let unwanted = missed.drain(..missed.len() - kept).count();
    dropped = dropped.saturating_add(u64::try_from(unwanted).unwrap_or(u64::MAX));
    let instants = missed.into_iter().chain(on_time).collect();
    Due { instants, missed_dropped: dropped, next: timer.next_after(now.max(from)) }
}

/// The instants that have passed.
#[derive(Default)]
struct Passed {
    /// The last of those that are late.
    missed: VecDeque<Timestamp>,
    on_time: Vec<Timestamp>,
    /// How many more were late.
    dropped: u64,
}

impl Passed {
    fn between(timer: &Timer, from: Timestamp, now: Timestamp, on_time_from: Timestamp) -> Self {
        let mut passed = Self::default();
        let mut at = from;
        while let Some(instant) = timer.next_after(at).filter(|instant| *instant <= now) {
            at = instant;
            if instant >= on_time_from {
                passed.on_time.push(instant);
            } else if passed.drop_oldest_for(instant) == MOST_COUNTED {
                at = recent_start(timer, at, on_time_from);
            }
        }
        passed
    }

    /// Remembers a late instant, and returns how many have been dropped so far.
    fn drop_oldest_for(&mut self, instant: Timestamp) -> u64 {
        self.missed.push_back(instant);
        if self.missed.len() <= MOST_CAUGHT_UP {
            return 0;
        }
        self.missed.pop_front();
        self.dropped += 1;
        self.dropped
    }
}

/// A time, not before `at`, after which there are still enough late instants to catch up with.
fn recent_start(timer: &Timer, at: Timestamp, on_time_from: Timestamp) -> Timestamp {
    let mut window = Duration::from_mins(1);
    loop {
        let start = on_time_from.minus(window);
        if start <= at {
            return at;
        }
        let late = std::iter::successors(timer.next_after(start), |instant| timer.next_after(*instant))
            .take_while(|instant| *instant < on_time_from);
        if late.take(MOST_CAUGHT_UP).count() == MOST_CAUGHT_UP {
            return start;
        }
        window = window.saturating_mul(2);
    }
}
