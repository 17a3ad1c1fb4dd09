//! Fires the timers that rules wait for. Where each stands is in the store: after downtime the misfire policy decides,
//! and however many daemons run, an instant is fired once (G4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::timers::{self, Misfire, Schedule, Timer, due, timer_payload};
use crate::clock::Clock;
use crate::intake::{Intake, Seen};
use crate::model::pack::Catalogue;
use crate::model::time::Timestamp;
use crate::model::trigger::Trigger;
use crate::store::{Events, StoreResult};

/// An instant is on time if it is seen this soon; what is older was missed.
const GRACE: Duration = Duration::from_secs(2);
/// The longest nap: a changed clock is noticed within it.
const LONGEST_NAP: Duration = Duration::from_secs(10);

/// Timers of the catalogue's rules.
pub struct TimerLoop {
    events: Events,
    intake: Intake,
    clock: Arc<dyn Clock>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    defaults: TimerDefaults,
}

/// What holds for timers that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerDefaults {
    /// What happens to instants that were missed.
    pub misfire: Misfire,
    /// An IANA name.
    pub timezone: String,
}

impl std::fmt::Debug for TimerLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TimerLoop")
    }
}

struct Armed {
    trigger: Trigger,
    timer: Timer,
    last: Option<Timestamp>,
    misfire: Misfire,
}

impl TimerLoop {
    /// A loop over the timers of `catalogue`.
    pub fn new(
        events: Events,
        intake: Intake,
        clock: Arc<dyn Clock>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        defaults: TimerDefaults,
    ) -> Self {
        Self { events, intake, clock, catalogue, defaults }
    }

    /// Fires until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut catalogue = self.catalogue.clone();
        while !stop.is_cancelled() {
            let current = Arc::clone(&catalogue.borrow_and_update());
            let mut armed = self.arm(&current).await?;
            while !stop.is_cancelled() && !catalogue.has_changed()? {
                let next = self.tick(&mut armed, self.clock.now()).await?;
                let latest = self.clock.now().plus(LONGEST_NAP);
                tokio::select! {
                    () = self.clock.sleep_until(next.unwrap_or(latest).min(latest)) => {}
                    changed = catalogue.changed() => { changed?; catalogue.mark_changed(); }
                    () = stop.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    async fn arm(&self, catalogue: &Catalogue) -> StoreResult<Vec<Armed>> {
        let mut armed = Vec::new();
        for (identity, trigger) in timers_of(catalogue) {
            let Ok(schedule) = Schedule::parse(&self.in_zone(&trigger)) else { continue };
            let now = self.clock.now();
            let state = self.events.timer_state(&identity, now).await?;
            let timer = Timer { schedule, anchor: state.anchor };
            let own = trigger.parameters.contains_key("misfire");
            let misfire = Misfire::parse(&trigger).ok().filter(|_| own).unwrap_or(self.defaults.misfire);
            armed.push(Armed { trigger, timer, last: state.last, misfire });
        }
        Ok(armed)
    }

    /// The same timer with a time zone. Its identity stays what the rule wrote.
    fn in_zone(&self, trigger: &Trigger) -> Trigger {
        let mut timer = trigger.clone();
        let zone = timer.parameters.entry("timezone".to_owned()).or_default();
        if zone.is_null() {
            *zone = Value::String(self.defaults.timezone.clone());
        }
        timer
    }

    /// Fires what is due. Gives back when the next one is.
    async fn tick(&self, armed: &mut [Armed], now: Timestamp) -> StoreResult<Option<Timestamp>> {
        let mut next = None;
        for one in armed {
            self.return_from_future(one, now).await?;
            let due = due(&one.timer, one.last, now, one.misfire, GRACE);
            let passed = one.timer.next_after(one.last.unwrap_or(one.timer.anchor)).is_some_and(|first| first <= now);
            if passed {
                self.fire(one, &due, now).await?;
            }
            next = earliest(next, due.next);
        }
        Ok(next)
    }

    /// A timer that stands in the future was moved there by a clock that was ahead. It does not wait until the clock is there
    /// again: it goes on from now. What it has fired there it does not fire twice, since its instants are remembered.
    async fn return_from_future(&self, one: &mut Armed, now: Timestamp) -> StoreResult<()> {
        let began_later = one.timer.anchor.is_ahead_of(now);
        if !began_later && !one.last.is_some_and(|last| last.is_ahead_of(now)) {
            return Ok(());
        }
        let identity = one.trigger.identity();
        tracing::warn!(timer = identity, "the timer was moved on by a clock that was ahead; it goes on from now");
        if began_later {
            self.events.timer_begin_again(&identity, now).await?;
            one.timer.anchor = now;
        }
        one.last = one.last.map(|last| last.min(now));
        Ok(())
    }

    async fn fire(&self, one: &mut Armed, due: &timers::Due, now: Timestamp) -> StoreResult<()> {
        let identity = one.trigger.identity();
        let seen = due.instants.iter().map(|instant| Seen {
            trigger: identity.clone(),
            trigger_type: one.trigger.trigger_type.clone(),
            payload: timer_payload(&one.trigger, *instant, now),
            occurred_at: Some(*instant),
            trace_tag: None,
            dedupe_key: Some(timers::timer_dedupe_key(&one.trigger, *instant)),
        });
        let seen: Vec<Seen> = seen.collect();
        if due.missed_dropped > 0 {
            tracing::warn!(timer = identity, dropped = due.missed_dropped, "instants were missed and are not fired");
        }
        self.intake.fire(&identity, now, seen, due.missed_dropped).await?;
        one.last = Some(now);
        Ok(())
    }
}

/// Each timer once, however many rules wait for it.
fn timers_of(catalogue: &Catalogue) -> BTreeMap<String, Trigger> {
    let kinds = [timers::INTERVAL_TIMER, timers::CRON_TIMER, timers::DATE_TIMER];
    let rules = catalogue.rules.values().filter(|rule| rule.enabled);
    let of_timers = rules.filter(|rule| kinds.contains(&rule.trigger.trigger_type.as_str()));
    of_timers.map(|rule| (rule.trigger.identity(), rule.trigger.clone())).collect()
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
