//! What must be true once a group has come to rest, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};

use petrel::model::node::NodePhase;
use petrel::store::Store;
use petrel::store::rows::Page;

use super::outside::{LOOKS, Outside, address, record_of};
use super::server::World;

/// Compares ledger, provider, load balancer and zone, and looks for what was left over. All that is wrong.
pub(super) async fn audit(store: &Store, world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let outside = world.outside();
    let mut ledger = BTreeMap::new();
    let group = store.groups().group_get("web").await.ok();
    for node in group.iter().flat_map(|group| &group.nodes) {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        if text("phase") != NodePhase::InService.to_string() {
            wrong.push(format!("{} rests as {}", text("name"), text("phase")));
        }
        if text("address") != address(&text("name")) {
            wrong.push(format!("the ledger has {} at {:?}", text("name"), text("address")));
        }
        ledger.insert(text("name"), text("tag"));
    }
    wrong.extend(differences(&outside, &ledger));
    let around: BTreeSet<String> = group.iter().flat_map(|_| ["group", "pool", "zone"].map(str::to_owned)).collect();
    if outside.around != around {
        wrong.push(format!("around the group stands {:?} and not {around:?}", outside.around));
    }
    wrong.extend(outside.wrongs.iter().cloned());
    wrong.extend(leftovers(store, group.is_some_and(|group| !group.activities.is_empty())).await);
    wrong.extend(twice(world));
    wrong
}

/// Whoever may only watch has asked nothing but how things are.
pub(super) fn written(world: &World) -> Vec<String> {
    let log = world.log().into_iter().filter(|entry| !LOOKS.contains(&entry.call.verb.as_str()));
    log.map(|entry| format!("{} {} was asked", entry.call.verb, entry.call.about)).collect()
}

fn differences(outside: &Outside, ledger: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if outside.nodes != *ledger {
        wrong.push(format!("the provider has {:?} and the ledger {ledger:?}", outside.nodes));
    }
    let serving: BTreeSet<String> = ledger.keys().cloned().collect();
    let backends: BTreeMap<String, String> = serving.iter().map(|name| (name.clone(), address(name))).collect();
    if outside.backends != backends {
        wrong.push(format!("the load balancer has {:?} and should have {backends:?}", outside.backends));
    }
    let records: BTreeMap<String, String> = serving.iter().map(|name| (record_of(name), address(name))).collect();
    if outside.records != records {
        wrong.push(format!("the zone has {:?} and should have {records:?}", outside.records));
    }
    if outside.configured != serving {
        wrong.push(format!("configured are {:?} and should be {serving:?}", outside.configured));
    }
    wrong
}

/// Nothing is under way, and nobody waits for anything.
async fn leftovers(store: &Store, open_activity: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if open_activity {
        wrong.push("an activity is under way".to_owned());
    }
    let unfinished = store.executions().execution_list_unfinished(10).await.unwrap();
    let unfinished: Vec<_> = unfinished.iter().map(|row| (row.action.as_str(), row.status)).collect();
    if !unfinished.is_empty() {
        wrong.push(format!("unfinished: {unfinished:?}"));
    }
    for kind in ["queue", "lease", "slot", "timer", "timeout", "signal", "inquiry", "pause"] {
        let left = store.obligations().obligation_list_kind(kind, 10).await.unwrap();
        if !left.is_empty() {
            wrong.push(format!("somebody waits: {left:?}"));
        }
    }
    let activities = store.groups().activity_list("web", Page { limit: 100, offset: 0 }).await.unwrap();
    let open = activities.into_iter().filter(|activity| activity["ended_at"].is_null());
    wrong.extend(open.map(|activity| format!("this activity never ended: {activity}")));
    wrong
}

/// What a node needs is done to it once: it comes once, is put behind the load balancer once, goes once. What somebody else took away in between
/// is no effect of ours and may be done again.
fn twice(world: &World) -> Vec<String> {
    let mut effects: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in world.log().into_iter().filter(|entry| entry.changed) {
        *effects.entry((entry.call.verb, entry.call.about)).or_default() += 1;
    }
    let twice = effects.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|((verb, about), times)| format!("{verb} {about} changed the world {times} times")).collect()
}

/// A crash may repeat what was in doubt, one step of each workflow, and nothing else.
pub(super) fn repeated(world: &World) -> Vec<String> {
    let mut calls: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in world.log().into_iter().filter(|entry| !LOOKS.contains(&entry.call.verb.as_str())) {
        *calls.entry((entry.call.verb, entry.call.about)).or_default() += 1;
    }
    let mut repeats: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((verb, about), times) in calls.into_iter().filter(|(_, times)| *times > 1) {
        let node = about.split('.').next().unwrap_or_default().to_owned();
        repeats.entry(node).or_default().extend(std::iter::repeat_n(verb, times - 1));
    }
    let too_many = repeats.into_iter().filter(|(_, verbs)| verbs.len() > 1);
    too_many.map(|(node, verbs)| format!("after one crash {verbs:?} were asked again of {node}")).collect()
}
