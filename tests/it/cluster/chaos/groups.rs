//! Twenty groups on the governor, and how many nodes of theirs there were in the world at any time.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::door::Door;
use crate::cluster::ledger::Effect;
use crate::support::eventually;

pub(super) const GROUPS: usize = 20;
const MIN_NODES: usize = 1;
const MAX_NODES: usize = 3;

pub(super) fn name(number: usize) -> String {
    format!("g{number:02}")
}

/// Makes all groups and waits until each has its first node in service.
pub(super) async fn make_all(door: &Door) {
    for number in 0..GROUPS {
        let config = json!({ "min_nodes": MIN_NODES, "max_nodes": MAX_NODES, "drain_timeout": "1s",
            "expand_delay": "0s", "deflate_delay": "0s", "warmup": "0s", "tick": "5s", "flap_max": 1000 });
        let new = json!({ "name": name(number), "provider": "c", "config": config });
        let (status, answer) = door.try_send(Method::POST, "/v1/asg", &new).await.expect("an answer");
        assert!(status.is_success(), "{status} {answer}");
    }
    eventually("every group has its first node", async || {
        let groups = door.try_get("/v1/asg").await?;
        let groups = groups.as_array()?.clone();
        groups.iter().all(|group| group["in_service"] == MIN_NODES && group["activity"].is_null()).then_some(())
    })
    .await;
}

/// What is wrong with the groups, in words (G5).
pub(super) fn findings(effects: &[Effect], groups: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut there: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for effect in effects {
        let Some((group, _)) = effect.tag.split_once('-') else { continue };
        let nodes = there.entry(group).or_default();
        match effect.verb.as_str() {
            "create_node" => {
                nodes.insert(&effect.tag);
                if nodes.len() > MAX_NODES {
                    findings.push(format!("G5: {group} had more than {MAX_NODES} nodes in the world: {nodes:?}"));
                }
            }
            "delete_node" => {
                nodes.remove(effect.tag.as_str());
                if nodes.len() < MIN_NODES {
                    findings.push(format!("G5: {group} had less than {MIN_NODES} nodes in the world"));
                }
            }
            _ => {}
        }
    }
    for group in groups {
        let name = group["name"].as_str().unwrap_or_default();
        let in_world = there.remove(name).unwrap_or_default();
        let of_phase = |wanted: fn(&str) -> bool| -> BTreeSet<&str> {
            let nodes = group["nodes"].as_array().into_iter().flatten();
            let such = nodes.filter(|node| node["phase"].as_str().is_some_and(wanted));
            such.filter_map(|node| node["name"].as_str()).collect()
        };
        let (known, serving) = (of_phase(|_| true), of_phase(|phase| phase == "in_service"));
        if !in_world.is_subset(&known) || !serving.is_subset(&in_world) || !group["activity"].is_null() {
            findings.push(format!("G5: {name} has {in_world:?} in the world, its ledger says {group}"));
        }
    }
    findings
}

/// How often something was asked of a node's provider.
pub(super) fn calls(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| effect.verb.ends_with("_node")).count()
}
