//! What was written down, what was done to the world, and what was promised: they must agree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use petrel::model::action::OnLost;
use petrel::model::execution::ExecutionStatus;
use petrel::model::time::Timestamp;
use petrel::model::trigger::{InstanceStatus, TriggerInstance};
use petrel::store::Store;
use petrel::store::events::{Events, InstanceFilter};
use petrel::store::executions::ExecutionFilter;
use petrel::store::rows::{EnforcementRow, ExecutionRow, Page};
use serde_json::{Value, json};

use super::groups;
use super::mix::{Hook, Sent};
use super::outside::{KEYED_STEPS, TIMERS};
use super::shell::{self, Attempt};
use crate::cluster::harness::Cluster;
use crate::cluster::ledger::{Effect, Ledger};

const ALL: Page = Page { limit: 10_000_000, offset: 0 };
/// Timers go on while the books are read: what they have caused so lately may not be over.
const LATELY: Duration = Duration::from_secs(5);

/// Everything that was written down, and every effect in the world.
pub(super) struct Books {
    pub(super) sent: Sent,
    pub(super) instances: Vec<TriggerInstance>,
    enforcements: Vec<EnforcementRow>,
    pub(super) executions: Vec<ExecutionRow>,
    pub(super) effects: Vec<Effect>,
    attempts: Vec<Attempt>,
    groups: Vec<Value>,
    orphans: Vec<String>,
    dead_letters: Vec<String>,
    lately: Timestamp,
}

impl Books {
    pub(super) async fn read(cluster: &Cluster, ledger: &Ledger, sent: Sent) -> Self {
        let lately = SystemClock::new().now().minus(LATELY);
        let store: Store = cluster.store().await;
        let orphans = store.obligations().orphans().await.unwrap();
        let (executions, _) = store.executions().execution_list(&ExecutionFilter::default(), ALL).await.unwrap();
        let enforcements = store.events().enforcement_list(None, None, ALL).await.unwrap();
        let (instances, _) = store.events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
        let (dead_letters, _) = store.dead_letters().dead_letter_list(ALL).await.unwrap();
        let groups = cluster.door(0).get("/v1/asg").await;
        Self {
            sent,
            instances,
            enforcements,
            executions,
            effects: ledger.effects(),
            attempts: shell::attempts(cluster.site.path()),
            groups: groups.as_array().unwrap().clone(),
            orphans: orphans.into_iter().map(|orphan| format!("{orphan:?}")).collect(),
            dead_letters: dead_letters.into_iter().map(|letter| format!("{letter:?}")).collect(),
            lately,
        }
    }

    /// Everything that is wrong, in words; nothing if all is well.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = self.lost();
        findings.extend(shell::findings(&self.attempts, &self.executions));
        findings.extend(groups::findings(&self.effects, &self.groups));
        findings.extend(self.wrong_ticks());
        findings.extend(self.wrong_steps());
        findings.extend(self.doubled());
        findings.extend(self.unfinished());
        findings.extend(self.orphans.iter().map(|orphan| format!("G6: waits for nothing: {orphan}")));
        findings
    }

    fn webhooks(&self) -> BTreeMap<u64, Vec<&TriggerInstance>> {
        webhooks(&self.instances)
    }

    /// G1: what was acknowledged is there; what has a key is there once.
    fn lost(&self) -> Vec<String> {
        let webhooks = self.webhooks();
        let mut findings = missing(&webhooks, &self.sent);
        for n in &self.sent.keyed {
            let times = webhooks.get(n).map_or(0, Vec::len);
            if times > 1 {
                findings.push(format!("G2: webhook {n} has a key and is there {times} times"));
            }
        }
        findings.extend(self.dead_letters.iter().map(|letter| format!("G1: a dead letter: {letter}")));
        findings.extend(self.sent.given_up.iter().map(|n| format!("G1: webhook {n} was never accepted")));
        findings
    }

    /// G2: each instance caused exactly what the rules say, once.
    fn doubled(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let mut by_instance: HashMap<String, Vec<&str>> = HashMap::new();
        for enforcement in &self.enforcements {
            by_instance.entry(enforcement.instance.to_string()).or_default().push(enforcement.rule.as_str());
        }
        for (n, instances) in self.webhooks() {
            for instance in instances {
                let mut rules = by_instance.remove(&instance.id.to_string()).unwrap_or_default();
                rules.sort_unstable();
                if rules != rules_of(instance) {
                    findings.push(format!("G2: webhook {n} ({}) was enforced by {rules:?}", instance.id));
                }
            }
        }
        let known: BTreeSet<_> = self.executions.iter().map(|row| row.id).collect();
        let wanted: BTreeSet<_> = self.enforcements.iter().filter_map(|enforcement| enforcement.execution).collect();
        if wanted.len() != self.enforcements.len() {
            findings.push("G2: two enforcements share an execution, or one has none".to_owned());
        }
        // Executions are read before enforcements.
        let settled = self.enforcements.iter().filter(|enforcement| enforcement.enforced_at < self.lately);
        let missing = settled.filter(|enforcement| enforcement.execution.is_none_or(|id| !known.contains(&id)));
        findings.extend(missing.map(|enforcement| format!("G2: its execution is not there: {enforcement:?}")));
        findings
    }

    /// Everything has come to a good end; only what must not be run again may have been abandoned.
    fn unfinished(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for instance in self.instances.iter().filter(|instance| instance.occurred_at < self.lately) {
            if instance.status != InstanceStatus::Processed {
                findings.push(format!("G2: not processed: {} {:?}", instance.id, instance.status));
            }
        }
        for row in self.executions.iter().filter(|row| row.requested_at < self.lately) {
            let lost = row.status == ExecutionStatus::Abandoned && row.on_lost == OnLost::Fail;
            // Its looks and orders may fail for want of the store; the next look makes up for it.
            let of_governor = of_groups(row);
            if row.status != ExecutionStatus::Succeeded && !lost && !of_governor {
                findings.push(format!("G3: no good end: {row:?}"));
            }
        }
        findings
    }

    /// G4: from the first to the last instant of each timer none is missing and none is there twice.
    fn wrong_ticks(&self) -> Vec<String> {
        let by_timer = self.ticks();
        let mut findings = Vec::new();
        if by_timer.len() != TIMERS {
            findings.push(format!("G4: {} timers fired, there are {TIMERS}", by_timer.len()));
        }
        for (timer, instants) in by_timer {
            let gaps = instants.windows(2).map(|pair| pair[1].as_micros() - pair[0].as_micros());
            let wrong: Vec<i64> = gaps.filter(|gap| *gap != 1_000_000).collect();
            if !wrong.is_empty() {
                findings.push(format!("G4: {timer} fired with gaps of {wrong:?} µs"));
            }
            if instants.last().is_none_or(|last| *last < self.lately) {
                findings.push(format!("G4: {timer} fired last at {:?}", instants.last()));
            }
        }
        findings
    }

    /// The instants of the timers with one second between them, oldest first.
    pub(super) fn ticks(&self) -> BTreeMap<&str, Vec<Timestamp>> {
        let mut by_timer: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        let ticks = self.instances.iter().filter(|instance| instance.trigger.contains("delta=1,"));
        for tick in ticks {
            by_timer.entry(&tick.trigger).or_default().push(tick.occurred_at);
        }
        by_timer.values_mut().for_each(|instants| instants.sort_unstable());
        by_timer
    }

    /// G3: each step of each workflow under one execution, done as often as it was claimed at most, and at least once.
    fn wrong_steps(&self) -> Vec<String> {
        let mut by_tag: HashMap<&str, Vec<&ExecutionRow>> = HashMap::new();
        for row in &self.executions {
            if let (Some(tag), "c") = (row.parameters["tag"].as_str(), row.action.pack()) {
                by_tag.entry(tag).or_default().push(row);
            }
        }
        let mut done: HashMap<&str, usize> = HashMap::new();
        for effect in &self.effects {
            *done.entry(effect.tag.as_str()).or_default() += 1;
        }
        let mut findings = Vec::new();
        for flow in self.executions.iter().filter(|row| row.action.as_str() == "default.flow") {
            let n = &flow.parameters["n"];
            if flow.result.as_ref().is_some_and(|result| result["output"] != json!(1)) {
                findings.push(format!("G3: workflow {n} counted more than once: {:?}", flow.result));
            }
            let steps = KEYED_STEPS.iter().chain(&["o", "s", "d"]).map(|step| format!("{n}-{step}"));
            findings.extend(steps.filter_map(|tag| {
                let rows = by_tag.get(tag.as_str()).map(Vec::as_slice).unwrap_or_default();
                wrong_step(&tag, rows, done.get(tag.as_str()).copied().unwrap_or_default())
            }));
        }
        findings
    }

    /// The longest time in which nothing was done to the world.
    pub(super) fn longest_stall(&self) -> Duration {
        let gaps = self.effects.windows(2).map(|pair| pair[1].at.since(pair[0].at));
        gaps.max().unwrap_or_default()
    }

    /// Claims beyond the first: how often somebody had to begin again.
    pub(super) fn begun_again(&self) -> i64 {
        let steps = self.executions.iter().filter(|row| row.runner != "workflow");
        steps.map(|row| (row.fence - 1).max(0)).sum()
    }

    /// How many were abandoned.
    pub(super) fn abandoned(&self) -> usize {
        self.executions.iter().filter(|row| row.status == ExecutionStatus::Abandoned).count()
    }
}

/// Is everything in the store that was acknowledged? With a broker it lands there later.
pub(super) async fn has_landed(events: &Events, sent: &Sent) -> bool {
    let (instances, _) = events.instance_list(&InstanceFilter::default(), ALL).await.unwrap();
    missing(&webhooks(&instances), sent).is_empty()
}

/// The webhooks that are in the books, by number.
fn webhooks(instances: &[TriggerInstance]) -> BTreeMap<u64, Vec<&TriggerInstance>> {
    let mut webhooks: BTreeMap<u64, Vec<&TriggerInstance>> = BTreeMap::new();
    for instance in instances {
        if let Some(n) = instance.payload.pointer("/body/n").and_then(Value::as_u64) {
            webhooks.entry(n).or_default().push(instance);
        }
    }
    webhooks
}

/// What was acknowledged and is not there. One with a key may have been acknowledged before under another name: it is
/// recognised when it lands.
fn missing(webhooks: &BTreeMap<u64, Vec<&TriggerInstance>>, sent: &Sent) -> Vec<String> {
    let mut missing = Vec::new();
    for (n, receipts) in &sent.acknowledged {
        let found: BTreeSet<String> =
            webhooks.get(n).into_iter().flatten().map(|instance| instance.id.to_string()).collect();
        let is_there = if sent.keyed.contains(n) { !found.is_empty() } else { receipts.is_subset(&found) };
        if !is_there {
            missing.push(format!("G1: webhook {n} was acknowledged as {receipts:?}, there is {found:?}"));
        }
    }
    missing
}

/// Is it about autoscaling? How that ends is seen by the groups.
fn of_groups(row: &ExecutionRow) -> bool {
    let verbs = ["create_node", "delete_node", "wait_ready"];
    row.action.pack() == "autoscale" || row.action.name().starts_with("asg_") || verbs.contains(&row.action.name())
}

fn rules_of(instance: &TriggerInstance) -> &'static [&'static str] {
    let is_for = |hook: Hook| instance.trigger.contains(&format!("url=\"{}\"", hook.as_str()));
    match [Hook::Flow, Hook::Noop].into_iter().find(|hook| is_for(*hook)) {
        Some(Hook::Flow) => &["default.direct", "default.flow"],
        Some(Hook::Noop) => &["default.noop"],
        Some(Hook::Noise) | None => &[],
    }
}

fn wrong_step(tag: &str, rows: &[&ExecutionRow], done: usize) -> Option<String> {
    let [row] = rows else { return Some(format!("G3: step {tag} has {} executions: {rows:?}", rows.len())) };
    let claims = usize::try_from(row.fence).unwrap_or_default();
    let good = match row.action.name() {
        // Counted by its processes.
        "shell" => true,
        "once" if row.status == ExecutionStatus::Abandoned => done <= 1,
        "once" => done == 1,
        _ => (1..=claims).contains(&done),
    };
    (!good).then(|| format!("G3: step {tag} was done {done} times: {row:?}"))
}
