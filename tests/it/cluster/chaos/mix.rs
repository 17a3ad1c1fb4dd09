//! The steady mix: webhooks of three kinds to all daemons in turn, whatever their state, and orders to the groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use petrel::clock::{Clock, SystemClock, sleep};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::groups;
use crate::cluster::door::{Delivered, Door};

const BEAT: Duration = Duration::from_millis(100);
/// 180 in a second: 5 set off a workflow and an action, 20 do nothing in particular, 155 match no rule.
const WEBHOOKS_PER_BEAT: u64 = 18;
const BEATS_PER_ORDER: u64 = 10;
/// Sources repeat what was not accepted, but not for ever.
const REPEATED_FOR: Duration = Duration::from_secs(90);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Where a webhook goes, and so what it causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    Flow,
    Noop,
    Noise,
}

impl Hook {
    const fn of(n: u64) -> Self {
        match n % 36 {
            0 => Self::Flow,
            4 | 13 | 22 | 31 => Self::Noop,
            _ => Self::Noise,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Noop => "noop",
            Self::Noise => "noise",
        }
    }
}

/// What sources sent and were told.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// How many webhooks there were, each once, however often it was repeated.
    pub(super) webhooks: u64,
    /// What was acknowledged: number and instance.
    pub(super) acknowledged: BTreeMap<u64, BTreeSet<String>>,
    /// Numbers of those that carried a key and were repeated until they were accepted.
    pub(super) keyed: BTreeSet<u64>,
    /// Repeated for long, and never accepted.
    pub(super) given_up: BTreeSet<u64>,
    /// Answers that left it open, by what they were.
    pub(super) unknown: BTreeMap<String, u64>,
    /// Orders to groups that were carried out.
    pub(super) orders: u64,
}

type Shared = Arc<Mutex<Sent>>;

/// Sends until told to stop; then waits for all answers.
pub(super) async fn run(doors: Vec<Door>, seed: u64, stop: CancellationToken) -> Sent {
    let clock = SystemClock::new();
    let sent = Shared::default();
    let mut dice = Dice::new(seed, 100);
    let mut senders = JoinSet::new();
    let (mut beat, mut next) = (0_u64, 0_u64);
    while !stop.is_cancelled() {
        for n in next..next + WEBHOOKS_PER_BEAT {
            senders.spawn(send(doors.clone(), n, Arc::clone(&sent)));
        }
        next += WEBHOOKS_PER_BEAT;
        if beat.is_multiple_of(BEATS_PER_ORDER) {
            senders.spawn(order(dice.one_of(&doors).clone(), dice.below(2 * groups::GROUPS as u64), Arc::clone(&sent)));
        }
        beat += 1;
        while senders.try_join_next().is_some_and(|ended| ended.is_ok()) {}
        let due = BEAT.saturating_mul(u32::try_from(beat).expect("not that long"));
        sleep(&clock, due.saturating_sub(clock.monotonic())).await;
    }
    while let Some(ended) = senders.join_next().await {
        ended.expect("a sender does not fail");
    }
    let mut sent = std::mem::take(&mut *sent.lock().unwrap());
    sent.webhooks = next;
    sent
}

/// One webhook. Every second one has a key, and is repeated at another daemon until it is accepted.
async fn send(doors: Vec<Door>, n: u64, sent: Shared) {
    let key = (n / 36).is_multiple_of(2).then(|| format!("delivery-{n}"));
    let clock = SystemClock::new();
    if key.is_some() {
        sent.lock().unwrap().keyed.insert(n);
    }
    let mut turn = n;
    loop {
        let door = &doors[usize::try_from(turn).expect("small") % doors.len()];
        match door.deliver(Hook::of(n).as_str(), key.as_deref(), &json!({ "n": n, "level": "info" })).await {
            Delivered::Accepted(instance) => {
                sent.lock().unwrap().acknowledged.entry(n).or_default().insert(instance);
                return;
            }
            Delivered::Unknown(why) => *sent.lock().unwrap().unknown.entry(why).or_default() += 1,
        }
        if key.is_none() {
            return;
        }
        if clock.monotonic() > REPEATED_FOR {
            sent.lock().unwrap().given_up.insert(n);
            return;
        }
        turn += 1;
        sleep(&clock, BETWEEN_TRIES).await;
    }
}

/// Asks for a node more or less, and does not mind a refusal.
async fn order(door: Door, which: u64, sent: Shared) {
    let group = groups::name(usize::try_from(which / 2).expect("small"));
    let verb = if which.is_multiple_of(2) { "expand" } else { "deflate" };
    let body = json!({ "by": 1, "force": true });
    let answer = door.try_send(Method::POST, &format!("/v1/asg/{group}/{verb}"), &body).await;
    if answer.is_some_and(|(status, _)| status.is_success()) {
        sent.lock().unwrap().orders += 1;
    }
}
