//! A clock that stands still until it is told to move, and that can be set as a machine's clock can.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Clock, MachineTime};
use crate::model::time::Timestamp;

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct SimClock {
    time: watch::Sender<Time>,
}

#[derive(Debug, Clone, Copy)]
struct Time {
    /// What the machine's clock shows.
    machine: Timestamp,
    /// Since the clock was made.
    passed: Duration,
    /// The time of day when the clock was made, for one that runs evenly; without it, the machine's clock is shown.
    steady: Option<Timestamp>,
}

impl Time {
    fn now(self) -> Timestamp {
        self.steady.map_or(self.machine, |began| began.plus(self.passed))
    }
}

impl SimClock {
    /// A clock that shows `start`, and every step of the machine's clock at once.
    pub fn new(start: Timestamp) -> Self {
        Self { time: watch::Sender::new(Time { machine: start, passed: Duration::ZERO, steady: None }) }
    }

    /// A clock that shows `start` and runs evenly as [`super::SystemClock`] does: it steps only when it is told to follow.
    pub fn steady(start: Timestamp) -> Self {
        Self { time: watch::Sender::new(Time { machine: start, passed: Duration::ZERO, steady: Some(start) }) }
    }

    /// Lets time pass; whoever waited for a time up to then wakes.
    pub fn advance(&self, by: Duration) {
        self.time.send_modify(|time| {
            time.machine = time.machine.plus(by);
            time.passed = time.passed.saturating_add(by);
        });
    }

    /// Lets time pass until the machine's clock shows `to`. If that lies in the past, the clock is set back instead.
    pub fn set(&self, to: Timestamp) {
        self.time.send_modify(|time| {
            time.passed = time.passed.saturating_add(to.since(time.machine));
            time.machine = to;
        });
    }

    /// Sets the machine's clock while no time passes.
    pub fn step(&self, by_micros: i64) {
        self.time.send_modify(|time| {
            time.machine = Timestamp::from_micros(time.machine.as_micros().saturating_add(by_micros));
        });
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time.borrow().now()
    }

    fn monotonic(&self) -> Duration {
        self.time.borrow().passed
    }

    fn machine(&self) -> MachineTime {
        let time = *self.time.borrow();
        MachineTime { shown: time.machine, since_boot: time.passed }
    }

    /// Only one that runs evenly does; the other is moved by hand.
    fn follow(&self, shown: Timestamp) {
        self.time.send_modify(|time| {
            let passed = time.passed;
            time.steady = time.steady.map(|_| shown.minus(passed));
        });
    }

    async fn sleep_until(&self, at: Timestamp) {
        let mut time = self.time.subscribe();
        let start = *time.borrow_and_update();
        let until = start.passed.saturating_add(at.since(start.now()));
        let reached = time.wait_for(|time| time.now() >= at || time.passed >= until).await;
        drop(reached.expect("this clock holds the sender for as long as it is borrowed"));
    }

    async fn sleep_for(&self, duration: Duration) {
        let mut time = self.time.subscribe();
        let until = time.borrow_and_update().passed.saturating_add(duration);
        let reached = time.wait_for(|time| time.passed >= until).await;
        drop(reached.expect("this clock holds the sender for as long as it is borrowed"));
    }
}
