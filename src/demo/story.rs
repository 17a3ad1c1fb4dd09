//! The story: a group is created, an alert makes it grow, quiet makes it shrink, and it is deleted; and in the middle
//! of each of these the daemon is killed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::audit;
use super::door::{GROUP, Group};
use super::play::Play;
use crate::clock::{self, Clock};
use crate::local::load::Load;
use crate::local::nodes::{NodeState, NodeStatus, Phase};
use crate::model::node::NodePhase;
use crate::model::scaling::ActivityKind;

/// Two nodes serve this many requests per second easily.
const QUIET_LOAD: u32 = 20;
/// More than two nodes can serve, and less than five can.
const HEAVY_LOAD: u32 = 100;
/// What New Relic calls its incident.
const INCIDENT: u32 = 42;

/// The whole story. What it finds wrong is in `play.differences`.
pub(super) async fn perform(play: &mut Play, load: &Load) -> anyhow::Result<()> {
    create(play).await?;
    load.set_rate(HEAVY_LOAD);
    tell_load(play, load, "100 requests a second for two nodes that can serve 53").await;
    alert(play).await?;
    expand_with_a_broken_node(play).await?;
    tell_load(play, load, "five nodes").await;
    load.set_rate(QUIET_LOAD);
    recover(play).await?;
    delete(play).await?;
    let counts = load.counts();
    play.tell(
        "load",
        &format!("{} answered, {} refused as too many, {} broken off", counts.ok, counts.shed, counts.errors),
    );
    audit::whole(play).await
}

/// The load works for a moment, so that it can be seen what comes of it.
async fn tell_load(play: &Play, load: &Load, what: &str) {
    let before = load.counts();
    clock::sleep(&*play.clock, Duration::from_secs(1)).await;
    let (ok, shed) = (load.counts().ok - before.ok, load.counts().shed - before.shed);
    play.tell("load", &format!("{what}: in a second {ok} answered, {shed} refused"));
}

async fn create(play: &mut Play) -> anyhow::Result<()> {
    play.tell("create", "asg create web: at least 2 nodes, at most 5");
    play.ask(Method::POST, "asg", Some(&group())).await?;
    play.catch("activity that creates the group", |group| {
        let group = group?;
        (under_way(group, ActivityKind::Create) && group.in_service == 0).then_some(())
    })
    .await?;
    play.kill("during create, before a node is in service", "default.asg_create", None).await?;
    at_rest_with(play, 2).await?;
    audit::at_rest(play, "created").await
}

fn group() -> Value {
    json!({
        "name": GROUP,
        "application": "shop",
        "provider": "local",
        "config": {
            "min_nodes": 2, "max_nodes": 5, "expand_by": 1, "deflate_by": 1,
            "expand_delay": "3s", "deflate_delay": "3s", "recovery_hold": "2s", "warmup": "1s",
            "node_boot_timeout": "6s", "tick": "5s",
        },
        "node_parameters": { "concurrency": 8, "queue": 8, "service_time_ms": 300, "boot_delay_ms": 700 },
    })
}

async fn alert(play: &mut Play) -> anyhow::Result<()> {
    let message = newrelic("open", &*play.clock);
    play.tell("alert", &format!("New Relic says critical: shop (incident {INCIDENT})"));
    play.door.alert(&message).await?;
    play.door.alert(&message).await?;
    play.tell("alert", "New Relic says it again, as senders do: the same event, taken in once");
    let node = play
        .see("process of a third node", |witness| Ok(witness.registered()?.into_iter().find(is_third_booting)))
        .await?;
    play.kill("between create and ledger", "default.asg_add_node", Some(node.name.as_str())).await?;
    play.tell("operator", "asg configure web: two nodes at once from now on");
    play.ask(Method::PUT, "asg/web", Some(&json!({ "config": { "expand_by": 2 } }))).await?;
    at_rest_with(play, 3).await?;
    audit::at_rest(play, "one more node").await
}

fn is_third_booting(node: &NodeStatus) -> bool {
    node.name.as_str() == "web-003" && node.state == NodeState::Booting
}

/// One of two new nodes hangs before it is ready. Its part of the expansion is undone; the other part stays.
async fn expand_with_a_broken_node(play: &mut Play) -> anyhow::Result<()> {
    let broken = play
        .catch("expansion by two nodes", |group| {
            let activity = group?.activity.as_ref().filter(|activity| activity.kind == ActivityKind::Expand)?;
            (activity.nodes.len() == 2).then(|| activity.nodes.last().map(ToString::to_string))?
        })
        .await?;
    freeze(play, &broken).await?;
    play.tell("fault", &format!("{broken} hangs before it is ready (SIGSTOP)"));
    play.see("rollback of the broken node", |witness| {
        Ok(witness.node(&broken)?.filter(|node| node.state == NodeState::Leaving))
    })
    .await?;
    play.kill("mid-rollback", "default.asg_add_node", Some(&broken)).await?;
    play.until("broken node to be gone", |group| {
        group?.nodes.iter().all(|node| node.name.as_str() != broken).then_some(())
    })
    .await?;
    play.tell("rollback", &format!("{broken} is undone and cleared away"));
    at_rest_with(play, 5).await?;
    audit::at_rest(play, "five nodes while the alert is open").await
}

/// Stops the process of a node that boots; the daemon can only notice that no answer comes.
async fn freeze(play: &mut Play, node: &str) -> anyhow::Result<()> {
    let running = play
        .see("process of the node that is to hang", |witness| Ok(witness.node(node)?.and_then(|status| status.running)))
        .await?;
    running.process.signal(Signal::STOP)?;
    let frozen = play.witness.node(node)?.and_then(|status| status.running);
    let in_time = frozen.is_some_and(|running| running.phase == Phase::Booting);
    anyhow::ensure!(in_time, "{node} was ready before it could be made to hang: the demo was too slow");
    Ok(())
}

async fn recover(play: &mut Play) -> anyhow::Result<()> {
    play.until("word that the maximum is reached", |group| (group?.in_service == 5).then_some(())).await?;
    play.door.alert(&newrelic("closed", &*play.clock)).await?;
    play.tell("recovery", &format!("New Relic says closed: shop (incident {INCIDENT})"));
    let leaving = play.catch("node that leaves", |group| leaving(group?)).await?;
    play.kill("mid-deflate", "default.asg_delete_node", Some(&leaving)).await?;
    at_rest_with(play, 2).await?;
    audit::at_rest(play, "two nodes again").await
}

/// A node that a deflation takes away just now.
pub(super) fn leaving(group: &Group) -> Option<String> {
    let leaves = |phase| matches!(phase, NodePhase::Draining | NodePhase::Destroying);
    let node = group.nodes.iter().find(|node| leaves(node.phase))?;
    under_way(group, ActivityKind::Deflate).then(|| node.name.to_string())
}

async fn delete(play: &mut Play) -> anyhow::Result<()> {
    play.tell("delete", "asg delete web");
    play.ask(Method::DELETE, "asg/web", None).await?;
    play.until("end of the group", |group| group.is_none().then_some(())).await?;
    play.tell("delete", "the group is gone");
    Ok(())
}

fn under_way(group: &Group, kind: ActivityKind) -> bool {
    group.activity.as_ref().is_some_and(|activity| activity.kind == kind)
}

/// Waits until so many nodes serve, no other is left, and nothing is under way.
pub(super) async fn at_rest_with(play: &mut Play, count: u32) -> anyhow::Result<()> {
    play.until(&format!("rest with {count} nodes in service"), |group| {
        let group = group?;
        (group.in_service == count && group.total == count && group.activity.is_none()).then_some(())
    })
    .await?;
    play.tell("nodes", &format!("{count} in service"));
    Ok(())
}

fn newrelic(state: &str, clock: &dyn Clock) -> Value {
    json!({
        "current_state": state,
        "incident_id": INCIDENT,
        "severity": "CRITICAL",
        "account_name": "Acme",
        "policy_name": "Golden signals",
        "condition_name": "Response time",
        "details": "Response time > 2 s for at least 5 minutes",
        "targets": [{ "name": "shop", "type": "Application", "product": "APM" }],
        "timestamp": clock.now().as_micros() / 1000,
    })
}

/// The load on whatever serves, silent until it gets a rate.
pub(super) fn load(play: &Play) -> anyhow::Result<Load> {
    let witness = Arc::clone(&play.witness);
    Load::new(Arc::clone(&play.clock), Arc::new(move || witness.serving()), 0)
}
