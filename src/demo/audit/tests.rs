use serde_json::json;

use super::*;

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn processes(list: &[(&str, &[i32])]) -> Processes {
    list.iter().map(|(name, pids)| ((*name).to_owned(), pids.iter().copied().collect())).collect()
}

fn activity(nodes: &[&str], want: i32, started_at: &str, ended_at: &str) -> ScalingActivity {
    serde_json::from_value(json!({
        "id": "00000000-0000-4000-8000-000000000001".to_owned(), "kind": "expand", "want": want, "origin": "tick",
        "started_at": started_at, "deadline": ended_at, "status": "succeeded", "nodes": nodes, "reason": "",
        "execution": null, "stuck_since": null, "ended_at": ended_at,
    }))
    .unwrap()
}

const NOON: &str = "2026-11-21T12:00:00Z";
const LATER: &str = "2026-11-21T12:00:10Z";
const LATEST: &str = "2026-11-21T12:00:20Z";

#[test]
fn whoever_is_known_to_some_and_not_to_others_is_named() {
    let agree = Nodes { ledger: names(&["a"]), registered: names(&["a"]), processes: names(&["a"]) };
    assert_eq!(agree.differences(), Vec::<String>::new());
    let differ = Nodes { ledger: names(&["a", "b"]), registered: names(&["a", "c"]), processes: names(&["b", "d"]) };
    assert_eq!(
        differ.differences(),
        [
            "b: in the ledger, but not registered with the provider",
            "c: registered with the provider, but not in the ledger",
            "a: in the ledger, but there is no process",
            "d: a process, but not in the ledger",
        ]
    );
}

#[test]
fn a_node_created_twice_or_never_or_unasked_is_found_by_eye_and_by_log() {
    let asked = [activity(&["a", "b"], 2, NOON, LATER)];
    let once = processes(&[("a", &[1]), ("b", &[2])]);
    assert_eq!(creations(&asked, &once, &once), Vec::<String>::new());
    let found = creations(&asked, &processes(&[("a", &[1]), ("c", &[3])]), &processes(&[("a", &[4])]));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[2].starts_with("a was created 2 times"), "{found:?}");
}

#[test]
fn activities_follow_each_other() {
    let (first, second) = (activity(&[], 1, NOON, LATER), activity(&[], 1, LATER, LATEST));
    assert_eq!(overlaps(&[second.clone(), first]), Vec::<String>::new());
    assert_eq!(overlaps(&[second, activity(&[], 1, NOON, LATEST)]).len(), 1);
}

#[test]
fn an_event_that_was_matched_twice_or_not_at_all_is_found() {
    let instances = [
        json!({ "id": "i1", "trigger": "newrelic.WebAppAlertTrigger" }),
        json!({ "id": "i2", "trigger": "newrelic.WebAppNormalTrigger" }),
    ];
    let enforcement = |instance: &str| json!({ "trigger_instance_id": instance, "rule": { "ref": "default.r" } });
    let execution = |instance: &str| json!({ "trigger_instance": { "id": instance }, "rule": { "ref": "default.r" } });
    let good = [enforcement("i1"), enforcement("i2")];
    let run = [execution("i1"), execution("i2")];
    assert_eq!(events(&instances, &good, &run), Vec::<String>::new());
    let twice = [enforcement("i1"), enforcement("i2"), enforcement("i2")];
    assert!(!events(&instances, &twice, &run).is_empty());
    assert!(!events(&instances, &good[..1], &run).is_empty(), "an execution without enforcement");
    let one_too_new = [enforcement("i1"), enforcement("i2"), enforcement("i3")];
    assert_eq!(events(&instances, &one_too_new, &run), Vec::<String>::new(), "i3 came after the list was read");
    assert!(!events(&instances[..1], &good[..1], &run[..1]).is_empty(), "the recovery is missing");
}

#[test]
fn a_kill_counts_only_in_the_middle_of_its_workflow() {
    let executions = [json!({
        "action": { "ref": "default.asg_add_node" }, "parameters": { "node": { "name": "a" } },
        "start_timestamp": NOON, "end_timestamp": LATEST,
    })];
    let kill = |at: &str, node: &str| Kill {
        point: "here",
        at: at.parse().unwrap(),
        workflow: "default.asg_add_node",
        node: Some(node.to_owned()),
    };
    assert_eq!(missed(&kill(LATER, "a"), &executions), None);
    assert!(missed(&kill(LATEST, "a"), &executions).is_some(), "too late");
    assert!(missed(&kill(LATER, "b"), &executions).is_some(), "another node");
}

#[test]
fn the_log_says_who_was_started_even_if_its_last_line_is_cut() {
    let log = "{\"fields\":{\"message\":\"started a local node\",\"group\":\"web\",\"node\":\"web-001\",\"pid\":7}}\n\
               {\"fields\":{\"message\":\"petrel is ready\"}}\n{\"fields\":{\"mess";
    assert_eq!(started(log), processes(&[("web-001", &[7])]));
}
