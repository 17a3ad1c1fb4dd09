//! The reckoning: what the ledger says, what is on disk, which processes there are, and what was done how often must
//! agree. Every difference is one sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::door::Door;
use super::play::{Kill, Play};
use super::witness::{Processes, Witness};
use crate::clock;
use crate::local::nodes::NodeState;
use crate::model::execution::ExecutionStatus;
use crate::model::node::NodePhase;
use crate::model::scaling::{ActivityStatus, ScalingActivity};
use crate::model::time::Timestamp;

/// So often is looked again for something that is about to be over.
const LOOKS: u32 = 200;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The maximum of the demo's group.
const MAX_NODES: usize = 5;

/// Nodes by who knows of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Nodes {
    ledger: BTreeSet<String>,
    registered: BTreeSet<String>,
    processes: BTreeSet<String>,
}

/// Compares ledger, registrations and processes while nothing is under way. If the governor starts something at that
/// very moment, it is compared after that.
pub(super) async fn at_rest(play: &mut Play, when: &str) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        if let Some(nodes) = nodes_at_rest(&play.door, &play.witness).await? {
            let found = nodes.differences();
            let verdict = if found.is_empty() { "ledger, registrations and processes agree" } else { "they differ" };
            play.tell("audit", &format!("{when}: {verdict}: {}", list(&nodes.ledger)));
            play.differences.extend(found.into_iter().map(|difference| format!("{when}: {difference}")));
            return Ok(());
        }
        clock::sleep(&*play.clock, LOOK_EVERY).await;
    }
    anyhow::bail!("the group did not come to rest: {when}")
}

/// `None`: something was under way before, meanwhile or after.
async fn nodes_at_rest(door: &Door, witness: &Witness) -> anyhow::Result<Option<Nodes>> {
    let Some(ledger) = resting(door).await? else { return Ok(None) };
    let (registered, processes) = (registered(witness)?, witness.processes()?);
    let still = resting(door).await?.is_some_and(|again| again == ledger);
    Ok(still.then(|| Nodes { ledger, registered, processes: processes.into_keys().collect() }))
}

async fn resting(door: &Door) -> anyhow::Result<Option<BTreeSet<String>>> {
    let Some(group) = door.group().await? else { return Ok(Some(BTreeSet::new())) };
    let expected = group.nodes.iter().filter(|node| node.phase != NodePhase::Failed);
    Ok(group.activity.is_none().then(|| expected.map(|node| node.name.to_string()).collect()))
}

fn registered(witness: &Witness) -> anyhow::Result<BTreeSet<String>> {
    let alive = |state| matches!(state, NodeState::Ready | NodeState::Booting | NodeState::Requested);
    let (good, bad): (Vec<_>, Vec<_>) = witness.registered()?.into_iter().partition(|node| alive(node.state));
    let bad = bad.into_iter().map(|node| format!("{} ({:?})", node.name, node.state).to_lowercase());
    Ok(good.into_iter().map(|node| node.name.to_string()).chain(bad).collect())
}

impl Nodes {
    fn differences(&self) -> Vec<String> {
        let Self { ledger, registered, processes } = self;
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, what: &str| {
            let names: Vec<String> = a.difference(b).cloned().collect();
            (!names.is_empty()).then(|| format!("{}: {what}", names.join(", ")))
        };
        let found = [
            only(ledger, registered, "in the ledger, but not registered with the provider"),
            only(registered, ledger, "registered with the provider, but not in the ledger"),
            only(ledger, processes, "in the ledger, but there is no process"),
            only(processes, ledger, "a process, but not in the ledger"),
        ];
        found.into_iter().flatten().collect()
    }
}

/// The last reckoning, when the group is gone.
pub(super) async fn whole(play: &mut Play) -> anyhow::Result<()> {
    at_rest(play, "at the end").await?;
    // in this order: whatever is processed has its enforcements, and what was enforced has its executions
    let mut instances = settled(play, "triggerinstances", |status| status == "processed").await?;
    instances.retain(|instance| text(instance, "status") == "processed");
    let enforcements = play.door.all("ruleenforcements").await?;
    let is_completed = |status: &str| status.parse().is_ok_and(ExecutionStatus::is_completed);
    let executions = settled(play, "executions", is_completed).await?;
    let activities = play.door.activities().await?;
    let mut found = of_nodes(play, &activities, &executions)?;
    found.extend(too_many(play.witness.most()));
    found.extend(events(&instances, &enforcements, &executions));
    play.tell(
        "audit",
        &format!(
            "{} activities, {} nodes, {} executions, {} events, {} enforcements, {} kills",
            activities.len(),
            play.witness.ever_seen().len(),
            executions.len(),
            instances.len(),
            enforcements.len(),
            play.kills.len()
        ),
    );
    play.differences.extend(found);
    Ok(())
}

/// As [`whole`], of a story whose events nobody has counted.
pub(super) async fn nodes_and_activities(
    play: &mut Play,
    activities: &[ScalingActivity],
) -> anyhow::Result<Vec<String>> {
    let is_completed = |status: &str| status.parse().is_ok_and(ExecutionStatus::is_completed);
    let executions = settled(play, "executions", is_completed).await?;
    of_nodes(play, activities, &executions)
}

/// Each node was made once, one activity went on at a time, and the kills were where they were meant to be.
fn of_nodes(play: &Play, activities: &[ScalingActivity], executions: &[Value]) -> anyhow::Result<Vec<String>> {
    play.witness.look()?;
    let started = started_of_log(&play.stage.log)?;
    let mut found = creations(activities, &play.witness.ever_seen(), &started);
    found.extend(overlaps(activities));
    found.extend(play.kills.iter().filter_map(|kill| missed(kill, executions)));
    Ok(found)
}

/// A whole list, once all that was unsettled in it at first is settled; what is not in time is a difference.
async fn settled(play: &mut Play, list: &str, is_settled: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Value>> {
    let unsettled = |items: &[Value]| -> BTreeSet<String> {
        let open = items.iter().filter(|item| !is_settled(text(item, "status")));
        open.map(|item| text(item, "id").to_owned()).collect()
    };
    let first = unsettled(&play.door.all(list).await?);
    for look in 1..=LOOKS {
        let items = play.door.all(list).await?;
        let late: Vec<String> = unsettled(&items).intersection(&first).cloned().collect();
        if late.is_empty() {
            return Ok(items);
        }
        if look == LOOKS {
            play.differences.push(format!("{list} that never came to an end: {}", late.join(", ")));
            return Ok(items);
        }
        clock::sleep(&*play.clock, LOOK_EVERY).await;
    }
    Ok(Vec::new())
}

/// Every node that was reserved was started exactly once, and no other was.
fn creations(activities: &[ScalingActivity], seen: &Processes, started: &Processes) -> Vec<String> {
    let adds = activities.iter().filter(|activity| activity.want > 0);
    let reserved: BTreeSet<String> = adds.flat_map(|activity| &activity.nodes).map(ToString::to_string).collect();
    let mut processes: Processes = seen.clone();
    for (name, pids) in started {
        processes.entry(name.clone()).or_default().extend(pids);
    }
    let created: BTreeSet<String> = processes.keys().cloned().collect();
    let never = reserved.difference(&created).map(|name| format!("{name} was reserved and never created"));
    let unasked = created.difference(&reserved).map(|name| format!("{name} was created and never reserved"));
    let twice = processes.iter().filter(|(_, pids)| pids.len() > 1);
    let twice = twice.map(|(name, pids)| format!("{name} was created {} times: processes {pids:?}", pids.len()));
    never.chain(unasked).chain(twice).collect()
}

fn too_many(most: usize) -> Option<String> {
    (most > MAX_NODES).then(|| format!("{most} nodes ran at the same time; at most {MAX_NODES} are allowed"))
}

/// One activity at a time, and each of them ended.
fn overlaps(activities: &[ScalingActivity]) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_order: Vec<&ScalingActivity> = activities.iter().collect();
    in_order.sort_by_key(|activity| activity.started_at);
    for pair in in_order.windows(2) {
        if pair[0].ended_at.is_none_or(|ended| ended > pair[1].started_at) {
            found.push(format!("{} {} and {} {} overlap", pair[0].kind, pair[0].id, pair[1].kind, pair[1].id));
        }
    }
    let open = in_order.iter().filter(|activity| !activity.status.is_ended());
    found.extend(open.map(|activity| format!("activity {} never ended", activity.id)));
    let failed = in_order.iter().filter(|activity| activity.status == ActivityStatus::Failed);
    found.extend(failed.map(|activity| format!("{} {} failed altogether", activity.kind, activity.id)));
    found
}

/// Each event was matched once: one enforcement and one execution by one rule, and one event per word of New Relic's.
fn events(instances: &[Value], enforcements: &[Value], executions: &[Value]) -> Vec<String> {
    let known: BTreeSet<&str> = instances.iter().map(|it| text(it, "id")).collect();
    let of_rules = executions.iter().filter(|it| it.get("rule").is_some() && it.get("parent").is_none());
    let counts = [
        ("enforcements", count(&known, enforcements.iter().map(|it| text(it, "trigger_instance_id")))),
        ("executions", count(&known, of_rules.map(|it| name_in(&it["trigger_instance"], "id")))),
    ];
    let mut found = Vec::new();
    for (what, counted) in counts {
        let wrong = counted.into_iter().filter(|(_, times)| *times != 1);
        found.extend(wrong.map(|(instance, times)| format!("event {instance}: {times} {what} instead of one")));
    }
    for kind in ["newrelic.WebAppAlertTrigger", "newrelic.WebAppNormalTrigger"] {
        let times = instances.iter().filter(|it| text(it, "trigger") == kind).count();
        if times != 1 {
            found.push(format!("{kind}: {times} events instead of one"));
        }
    }
    found
}

/// How often each of the known events is in a list.
fn count<'a>(known: &BTreeSet<&'a str>, of: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counted: BTreeMap<&str, usize> = known.iter().map(|instance| (*instance, 0)).collect();
    for instance in of {
        counted.entry(instance).and_modify(|times| *times += 1);
    }
    counted
}

/// A reference is a text, or an object that has it.
fn name_in<'a>(value: &'a Value, member: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| text(value, member))
}

/// A kill counts only if the workflow that it was meant for had begun before and ended after it.
fn missed(kill: &Kill, executions: &[Value]) -> Option<String> {
    let is_meant = |it: &&Value| {
        let of_node = kill.node.as_deref().is_none_or(|node| it["parameters"]["node"]["name"] == node);
        it["action"]["ref"] == kill.workflow && of_node
    };
    let hit = executions.iter().filter(is_meant).any(|it| {
        let began = moment(it, "start_timestamp").is_some_and(|began| began <= kill.at);
        began && moment(it, "end_timestamp").is_none_or(|ended| ended > kill.at)
    });
    (!hit).then(|| format!("the kill \"{}\" missed {}", kill.point, kill.workflow))
}

fn moment(execution: &Value, name: &str) -> Option<Timestamp> {
    execution[name].as_str()?.parse().ok()
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name].as_str().unwrap_or_default()
}

/// The nodes that the daemons say they started.
fn started_of_log(log: &Path) -> anyhow::Result<Processes> {
    let bytes = std::fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(started(&String::from_utf8_lossy(&bytes)))
}

fn started(log: &str) -> Processes {
    let mut processes = Processes::new();
    // a daemon that was killed may have left half a line
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let fields = &line["fields"];
        let pid = fields["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        if let (Some("started a local node"), Some(node), Some(pid)) =
            (fields["message"].as_str(), fields["node"].as_str(), pid)
        {
            processes.entry(node.to_owned()).or_default().insert(pid);
        }
    }
    processes
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
