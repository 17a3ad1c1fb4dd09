//! Keeps the daemon's time of day by its reference: the store's clock where the store has one, else the machine's. Between
//! two looks the time runs evenly, so a step of the machine's clock leaks into nothing that is stored. A step of the
//! reference is followed when it has lasted, and what is stored relative to the time of day moves along with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::clock::steps::{Comparison, StepWatch, is_small};
use crate::clock::{self, Clock};
use crate::health::{Severity, Troubles};
use crate::model::time::{Timestamp, format_duration};
use crate::store::{ClockSteps, Daemons, StoreResult};

/// So long a step of the machine's clock must last before an embedded store follows it: a correction lasts for ever, a
/// mistake is mostly taken back within seconds.
const MACHINE_SETTLES: Duration = Duration::from_secs(60);
/// The same for the store's clock. Two looks have to agree; longer than that, daemons that start meanwhile would go by
/// another time than those that run.
const STORE_SETTLES: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AT_MACHINE: Duration = Duration::from_secs(1);
const LOOK_AT_STORE: Duration = Duration::from_secs(5);
/// Two daemons that notice a step of the store's clock mean the same one if they do so within this time.
const SAME_STEP: Duration = Duration::from_mins(2);
/// What other daemons wrote before they followed a step is looked at once more after this time.
const REPAIR_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// An answer that took longer says too little to set a clock by that runs by itself.
const LONGEST_READING: Duration = Duration::from_millis(500);
/// Reading two clocks one after the other takes less than this.
const SAME_MICROS: u64 = 100_000;
const TROUBLE: &str = "clock";

/// Keeps one daemon's time.
#[derive(Debug)]
pub struct Timekeeper {
    steps: ClockSteps,
    daemons: Daemons,
    clock: Arc<dyn Clock>,
    troubles: Troubles,
    /// Names the time since boot: another one after each start of the machine.
    boot: String,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    store: StepWatch,
    machine: StepWatch,
    repair_at: Option<Duration>,
}

/// What the store's clock shows, known to within half of what the answer took.
struct Reading {
    shown: Timestamp,
    took: Duration,
}

/// What an embedded store remembers of the clock by which it was written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    boot: String,
    offset_micros: i64,
}

/// What a shared store remembers of the last step of its clock.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastStep {
    at: Timestamp,
    by_micros: i64,
}

impl Timekeeper {
    /// Over a store; `boot` is the machine's boot id, empty if it has none.
    pub fn new(steps: ClockSteps, daemons: Daemons, clock: Arc<dyn Clock>, troubles: Troubles, boot: String) -> Self {
        let watched =
            Watched { store: StepWatch::new(STORE_SETTLES), machine: StepWatch::new(MACHINE_SETTLES), repair_at: None };
        Self { steps, daemons, clock, troubles, boot, watched: Mutex::new(watched) }
    }

    /// Before anything else: goes by the reference from now on, and mends what was stored by a clock that was set since.
    pub async fn begin(&self) -> StoreResult<()> {
        match self.store_time().await? {
            Some(read) => self.clock.follow(read.shown),
            None => self.continue_from_anchor().await?,
        }
        self.repair().await
    }

    /// Looks until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let pause = self.tick().await?;
            tokio::select! {
                () = clock::sleep(&*self.clock, pause) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// One look. Gives back how long the time may run by itself.
    pub async fn tick(&self) -> StoreResult<Duration> {
        let pause = if let Some(read) = self.store_time().await? {
            if read.took <= LONGEST_READING {
                self.look_at_store(read.shown).await?;
            }
            self.look_at_machine_beside();
            LOOK_AT_STORE
        } else {
            self.look_at_machine().await?;
            LOOK_AT_MACHINE
        };
        let now = self.clock.monotonic();
        let again = self.watched(|watched| watched.repair_at.take_if(|at| *at <= now).is_some());
        if again {
            self.repair().await?;
        }
        Ok(pause)
    }

    /// What the store's clock shows now; `None` if it has none.
    async fn store_time(&self) -> StoreResult<Option<Reading>> {
        let asked = self.clock.monotonic();
        let Some(shown) = self.daemons.store_time().await? else { return Ok(None) };
        let took = self.clock.monotonic().saturating_sub(asked);
        // What the answer took is halved: nobody knows more.
        Ok(Some(Reading { shown: shown.plus(took / 2), took }))
    }

    async fn look_at_store(&self, shown: Timestamp) -> StoreResult<()> {
        let (own, at) = (self.clock.now(), self.clock.monotonic());
        match self.watched(|watched| watched.store.compare(own, shown, at)) {
            Comparison::Agrees => self.clock.follow(shown),
            Comparison::Suspected { by_micros } => {
                tracing::warn!(step = step_text(by_micros), "the store's clock was set; it is followed if it stays so");
            }
            Comparison::Settling | Comparison::Returned { .. } => {}
            Comparison::Stepped { by_micros } => {
                self.move_along_once(by_micros, shown).await?;
                self.follow_step("the store's clock", by_micros);
            }
        }
        Ok(())
    }

    /// Of several daemons over one store one does it.
    async fn move_along_once(&self, by_micros: i64, shown: Timestamp) -> StoreResult<()> {
        loop {
            let remembered = self.steps.clock_remembered().await?;
            let last: Option<LastStep> = remembered.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let done = last.is_some_and(|last| {
                let apart = last.at.since(shown).max(shown.since(last.at));
                apart <= SAME_STEP && is_small(last.by_micros.saturating_sub(by_micros))
            });
            let new = serde_json::json!(LastStep { at: shown, by_micros }).to_string();
            if done || self.steps.clock_stepped(by_micros, shown, remembered.as_deref(), &new).await? {
                return Ok(());
            }
        }
    }

    /// The store's time counts; that this machine's clock is wrong is for its operator to know.
    fn look_at_machine_beside(&self) {
        let (own, shown, at) = (self.clock.now(), self.clock.machine().shown, self.clock.monotonic());
        match self.watched(|watched| watched.machine.compare(own, shown, at)) {
            Comparison::Suspected { by_micros } => {
                let step = step_text(by_micros);
                tracing::warn!(
                    step,
                    "this machine's clock differs from the store's, which counts: look at its time service"
                );
            }
            Comparison::Stepped { by_micros } => self.warn(format!(
                "this machine's clock is {} the store's; the store's counts, but look at the machine's time service",
                step_text(by_micros)
            )),
            Comparison::Agrees | Comparison::Returned { .. } => drop(self.troubles.clear(TROUBLE)),
            Comparison::Settling => {}
        }
    }

    async fn look_at_machine(&self) -> StoreResult<()> {
        let machine = self.clock.machine();
        let (own, at) = (self.clock.now(), self.clock.monotonic());
        match self.watched(|watched| watched.machine.compare(own, machine.shown, at)) {
            Comparison::Agrees => self.clock.follow(machine.shown),
            Comparison::Suspected { by_micros } => {
                let step = step_text(by_micros);
                tracing::warn!(step, "the machine's clock was set; it is followed if it stays so for a minute");
                self.warn(format!(
                    "the machine's clock was set and is {step} the time that Petrel goes by; it is followed if it stays so \
                     for {}",
                    format_duration(MACHINE_SETTLES)
                ));
            }
            Comparison::Settling => {}
            Comparison::Returned { by_micros } => {
                tracing::info!(
                    step = step_text(by_micros),
                    "the machine's clock is right again; its step was not followed"
                );
                self.troubles.clear(TROUBLE);
            }
            Comparison::Stepped { by_micros } => {
                self.move_along(by_micros, machine.shown, machine.offset_micros()).await?;
                self.follow_step("the machine's clock", by_micros);
                self.troubles.clear(TROUBLE);
            }
        }
        Ok(())
    }

    /// After a start: what the clock was set by since the store was written last is known as long as the machine runs.
    async fn continue_from_anchor(&self) -> StoreResult<()> {
        let machine = self.clock.machine();
        let remembered = self.steps.clock_remembered().await?;
        let anchor: Option<Anchor> = remembered.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let same_boot = anchor.filter(|anchor| !self.boot.is_empty() && anchor.boot == self.boot);
        let same_boot_known = same_boot.is_some();
        let by_micros = same_boot.map_or(0, |anchor| machine.offset_micros().saturating_sub(anchor.offset_micros));
        if is_small(by_micros) {
            // A start that finds the clock as it was writes nothing.
            let as_before = remembered.is_some() && same_boot_known && by_micros.unsigned_abs() < SAME_MICROS;
            if as_before {
                return Ok(());
            }
            let new = self.anchor(machine.offset_micros());
            return self.steps.clock_remember(remembered.as_deref(), &new).await.map(drop);
        }
        tracing::warn!(step = step_text(by_micros), "the machine's clock was set while Petrel did not run");
        self.move_along(by_micros, machine.shown, machine.offset_micros()).await
    }

    async fn move_along(&self, by_micros: i64, shown: Timestamp, offset_micros: i64) -> StoreResult<()> {
        let (old, new) = (self.steps.clock_remembered().await?, self.anchor(offset_micros));
        self.steps.clock_stepped(by_micros, shown, old.as_deref(), &new).await.map(drop)
    }

    fn anchor(&self, offset_micros: i64) -> String {
        serde_json::json!(Anchor { boot: self.boot.clone(), offset_micros }).to_string()
    }

    fn follow_step(&self, whose: &str, by_micros: i64) {
        let own = self.clock.now().as_micros();
        self.clock.follow(Timestamp::from_micros(own.saturating_add(by_micros)));
        let at = self.clock.monotonic();
        self.watched(|watched| watched.repair_at = Some(at));
        tracing::warn!(
            step = step_text(by_micros),
            "{whose} was set and is followed; leases, sleeps, deadlines and expiries move along"
        );
    }

    /// What lies too far in the future is brought back, now and once more when every daemon has followed.
    async fn repair(&self) -> StoreResult<()> {
        let repaired = self.steps.clock_repair(self.clock.now()).await?;
        if repaired > 0 {
            tracing::warn!(
                rows = repaired,
                "a clock that was ahead had set due times too far in the future: brought back"
            );
            let again = self.clock.monotonic().saturating_add(REPAIR_AGAIN_AFTER);
            self.watched(|watched| watched.repair_at = Some(again));
        }
        Ok(())
    }

    fn warn(&self, text: String) {
        self.troubles.report(TROUBLE, Severity::Warns, text);
    }

    fn watched<T>(&self, work: impl FnOnce(&mut Watched) -> T) -> T {
        work(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `1h ahead of` or `1h behind`.
fn step_text(by_micros: i64) -> String {
    let by = format_duration(Duration::from_secs(by_micros.unsigned_abs() / 1_000_000));
    if by_micros > 0 { format!("{by} ahead of") } else { format!("{by} behind") }
}

#[cfg(test)]
mod tests;
