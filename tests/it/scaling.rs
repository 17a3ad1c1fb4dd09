//! Scaling end to end: the shipped workflows over a provider whose nodes are files, with the real engine around them.

use std::collections::BTreeSet;
use std::path::Path;

use petrel::governor::actions::actions;
use petrel::governor::view::GroupView;
use petrel::model::decision::{Delays, Request};
use petrel::model::execution::ExecutionStatus;
use petrel::model::group::{GroupName, NodeCount};
use petrel::model::scaling::Origin;
use petrel::packs::diagnostic::Severity;
use petrel::store::rows::Page;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::{Running, Site};

/// A site with the shipped workflows and a pack `files`: a node is a file, and every call is a line of `calls`.
pub(crate) fn site(broken_node: &str) -> Site {
    let site = Site::new();
    copy_shipped(&site, "workflows");
    let folder = site.path().display().to_string();
    let shell = |verb: &str, command: &str| {
        format!(
            "name: {verb}\nrunner_type: local-shell-cmd\nenabled: true\non_lost: retry\nparameters:\n  \
             group: {{type: string}}\n  name: {{type: string, default: ''}}\n  tag: {{type: string}}\n  \
             address: {{type: string}}\n  within: {{type: string}}\n  pool: {{type: string, default: ''}}\n  cmd:\n    immutable: true\n    default: \
             'echo {verb} {{{{ name or group }}}} {{{{ pool }}}} >> {folder}/calls; {command}'\n"
        )
    };
    let ready = "name: wait_ready\nrunner_type: rhai\nparameters:\n  group: {type: string}\n  name: {type: string}\n  \
                 within: {type: string}\n";
    site.file("packs/files/pack.yaml", "name: files\nref: files\nversion: 1.0.0\n")
        .file(
            "packs/files/actions/create_node.yaml",
            &shell(
                "create_node",
                &format!("touch {folder}/{{{{ name }}}}.node; test \"{{{{ name }}}}\" != \"{broken_node}\""),
            ),
        )
        .file(
            "packs/files/actions/delete_node.yaml",
            &shell("delete_node", &format!("rm -f {folder}/{{{{ name }}}}.node")),
        )
        .file("packs/files/actions/add_backend.yaml", &shell("add_backend", "true"))
        .file("packs/files/actions/drain_backend.yaml", &shell("drain_backend", "true"))
        .file("packs/files/actions/remove_backend.yaml", &shell("remove_backend", "true"))
        .file("packs/files/actions/create_pool.yaml", &shell("create_pool", "true"))
        .file("packs/files/actions/delete_pool.yaml", &shell("delete_pool", "true"))
        .file("packs/files/actions/wait_ready.yaml", ready)
        .file("packs/files/actions/wait_ready.rhai", "#{ address: `${params.name}:80` }")
        .setting("packs", &format!("{folder}/packs"))
}

/// What the repository has in this folder, for a site of its own.
pub(crate) fn copy_shipped(site: &Site, folder: &str) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in std::fs::read_dir(shipped).unwrap().map(Result::unwrap) {
        let name = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        site.write(&name, &std::fs::read_to_string(entry.path()).unwrap());
    }
}

fn web() -> GroupName {
    "web".parse().unwrap()
}

fn files(site: &Site) -> Vec<String> {
    let entries =
        std::fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut nodes: Vec<String> = entries.filter_map(|name| name.strip_suffix(".node").map(str::to_owned)).collect();
    nodes.sort();
    nodes
}

fn calls(site: &Site, node: &str) -> Vec<String> {
    let all = std::fs::read_to_string(site.path().join("calls")).unwrap();
    let of_node = all.lines().filter_map(|line| line.strip_suffix(node));
    of_node.map(|verb| verb.trim().to_owned()).collect()
}

async fn create(running: &Running, config: Value) {
    let new = json!({ "name": "web", "provider": "files", "load_balancer": "files", "config": config });
    let admission = running.engine.governor.create(serde_json::from_value(new).unwrap(), Origin::Api).await.unwrap();
    assert!(admission.activity.is_some(), "{}", admission.decision);
}

async fn ask(running: &Running, request: Request) {
    let admission = running.engine.governor.admit(&web(), &request).await.unwrap();
    assert!(admission.activity.is_some(), "{}", admission.decision);
}

/// The group once nothing is under way in it; `None` if it is no more.
async fn at_rest(running: &Running) -> Option<GroupView> {
    eventually("what is under way in the group ends", async || match running.engine.governor.get(&web()).await {
        Ok(group) => group.activity.is_none().then_some(Some(group)),
        Err(_) => Some(None),
    })
    .await
}

fn serving(group: &GroupView) -> Vec<(String, String)> {
    let nodes = group.nodes.iter().map(|node| (node.name.to_string(), format!("{} {:?}", node.phase, node.address)));
    nodes.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_workflows_and_actions_around_scaling_load_and_fit_together() {
    let site = Site::new();
    copy_shipped(&site, "workflows");
    copy_shipped(&site, "rules");
    let running = site.start().await;
    let findings = running.engine.content.diagnostics();
    let findings: Vec<String> =
        findings.iter().filter(|it| it.severity != Severity::Note).map(ToString::to_string).collect();
    assert_eq!(findings, Vec::<String>::new());
    let catalogue = running.engine.dispatcher.catalogue();
    let rules = catalogue.rules.values().filter(|rule| rule.enabled && rule.reference.name().starts_with("asg_"));
    assert_eq!(rules.count(), 11);
    let shipped: BTreeSet<&str> = catalogue.actions.keys().map(|it| it.as_str()).collect();
    let written: BTreeSet<&str> = actions(&running.engine.governor).into_iter().map(|(name, ..)| name).collect();
    let of_pack = shipped.iter().copied().filter(|name| name.starts_with("autoscale."));
    assert_eq!(of_pack.collect::<BTreeSet<_>>(), written);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_set_up_expanded_deflated_and_deleted_and_leaves_nothing() {
    let site = site("none");
    let running = site.start().await;
    create(&running, json!({ "min_nodes": 2, "max_nodes": 4, "drain_timeout": "1s" })).await;
    let group = at_rest(&running).await.unwrap();
    assert_eq!((group.in_service.get(), files(&site).len()), (2, 2), "{:?}", serving(&group));
    assert_eq!(group.nodes[0].address.as_deref(), Some("web-001:80"));

    let by = Some(NodeCount::new(2));
    ask(&running, Request::Expand { by, delays: Delays::Skip, origin: Origin::Api }).await;
    assert_eq!(at_rest(&running).await.unwrap().in_service.get(), 4);
    ask(&running, Request::Deflate { by, delays: Delays::Skip, origin: Origin::Api }).await;
    let group = at_rest(&running).await.unwrap();
    assert_eq!((group.in_service.get(), group.total.get()), (2, 2));
    assert_eq!(files(&site), ["web-003", "web-004"]);
    assert_eq!(
        calls(&site, "web-001"),
        ["create_node", "add_backend", "drain_backend", "remove_backend", "delete_node"],
        "drained before it is taken away"
    );

    ask(&running, Request::Delete { origin: Origin::Api }).await;
    assert_eq!(at_rest(&running).await, None);
    assert_eq!(files(&site), Vec::<String>::new());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_undoes_itself_and_the_others_stay() {
    let site = site("web-003");
    let running = site.start().await;
    create(&running, json!({ "min_nodes": 1, "max_nodes": 5, "expand_by": 3 })).await;
    at_rest(&running).await.unwrap();
    ask(&running, Request::Expand { by: None, delays: Delays::Skip, origin: Origin::Api }).await;
    let group = at_rest(&running).await.unwrap();
    let phases: Vec<String> = group.nodes.iter().map(|node| format!("{} {}", node.name, node.phase)).collect();
    assert_eq!(phases, ["web-001 in_service", "web-002 in_service", "web-003 failed", "web-004 in_service"]);
    assert_eq!(files(&site), ["web-001", "web-002", "web-004"], "what the failed node had was undone");
    let activities = running.engine.governor.activities(&web(), Page { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!(activities[0]["status"], "partial");

    ask(&running, Request::Tick).await;
    assert_eq!(at_rest(&running).await.unwrap().total.get(), 3, "the failed one was proven gone");
    running.stop().await;
}

/// Found by the matrix: what a `catch` gives is nothing in the language of scripts, so the workflow stumbled over the node that
/// had failed, and neither said which it was nor which ones serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_of_which_a_part_fails_ends_well_and_says_which_nodes_it_has_and_which_it_has_not() {
    let site = site("web-002");
    let running = site.start().await;
    create(&running, json!({ "min_nodes": 2, "max_nodes": 5 })).await;
    let group = at_rest(&running).await.unwrap();
    assert_eq!((group.in_service.get(), group.total.get()), (1, 2), "{:?}", serving(&group));
    let activities = running.engine.governor.activities(&web(), Page { limit: 1, offset: 0 }).await.unwrap();
    let execution = activities[0]["execution"].as_str().unwrap().parse().unwrap();
    let row = running.engine.store.executions().execution_get(execution).await.unwrap();
    assert_eq!(row.status, ExecutionStatus::Succeeded, "{:?}", row.result);
    let output = &row.result.unwrap()["output"];
    assert_eq!((&output["added"], &output["failed"][0]["node"]), (&json!(["web-001"]), &json!("web-002")), "{output}");
    assert!(output["failed"][0]["problem"].as_str().unwrap().contains("create_node"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expansion_of_which_nothing_works_fails_and_leaves_nothing() {
    let site = site("web-002");
    let running = site.start().await;
    create(&running, json!({ "min_nodes": 1 })).await;
    at_rest(&running).await.unwrap();
    ask(&running, Request::AddNode { delays: Delays::Skip, origin: Origin::Api }).await;
    let group = at_rest(&running).await.unwrap();
    assert_eq!((group.in_service.get(), group.total.get()), (1, 2), "it counts until it is proven gone");
    assert_eq!(files(&site), ["web-001"]);
    let history = running.engine.governor.activities(&web(), Page { limit: 1, offset: 0 }).await.unwrap();
    let problem = history[0]["problem"].as_str().unwrap();
    assert!(problem.contains("files.create_node"), "what went wrong is told: {problem}");
    let explained = running.engine.governor.explain(&web(), 1).await.unwrap();
    assert!(explained[0].sentence.starts_with("adding a node"), "{}", explained[0].sentence);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_13_a_node_that_cannot_leave_the_load_balancer_is_not_destroyed_and_still_counts() {
    let site = site("none");
    let broken = std::fs::read_to_string(site.path().join("packs/files/actions/remove_backend.yaml")).unwrap();
    site.write("packs/files/actions/remove_backend.yaml", &broken.replace("; true'", "; exit 1'"));
    let hurried = std::fs::read_to_string(site.path().join("workflows/asg_delete_node.rhai")).unwrap();
    site.write("workflows/asg_delete_node.rhai", &hurried.replace("delay: \"5s\"", "delay: \"0s\""));
    let running = site.start().await;
    create(&running, json!({ "min_nodes": 2, "max_nodes": 4 })).await;
    at_rest(&running).await.unwrap();
    running.engine.governor.configure(&web(), json!({ "min_nodes": 1 }).as_object().unwrap()).await.unwrap();
    let node = "web-001".parse().unwrap();
    ask(&running, Request::DeleteNode { name: node, delays: Delays::Skip, origin: Origin::Api }).await;
    let group = at_rest(&running).await.unwrap();
    assert_eq!((group.in_service.get(), group.total.get()), (1, 2), "it still counts");
    assert_eq!(files(&site), ["web-001", "web-002"]);
    let verbs = calls(&site, "web-001");
    let first = |what: &str| verbs.iter().position(|verb| verb.contains(what));
    assert!(first("drain_backend") < first("remove_backend"), "{verbs:?}");
    assert_eq!(first("delete_node"), None, "{verbs:?}");
    running.stop().await;
}

/// As it is kept in version control.
fn group_file(max_nodes: u32) -> String {
    format!(
        "groups:\n- name: web\n  provider: files\n  load_balancer: files\n  load_balancer_parameters: {{pool: blue}}\n  \
         config: {{min_nodes: 1, max_nodes: {max_nodes}, mode: approve, warmup: 0s}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_a_file_is_planned_applied_and_grows_once_somebody_approves() {
    let site = site("none").file("web.yaml", &group_file(4));
    let daemon = Daemon::start(&site).await;
    assert_eq!(daemon.cli(&["asg", "plan", "web.yaml"]).await, "+ web: create, 1 to 4 nodes of provider files\n");
    let applied = daemon.cli(&["asg", "apply", "web.yaml"]).await;
    assert!(applied.contains("web: created\n"), "{applied}");
    let in_service = async |wanted: u64| {
        let group = daemon.get("/v1/asg/web").await;
        (group["in_service"] == wanted && group["activity"].is_null()).then_some(group)
    };
    eventually("the group is set up", async || in_service(1).await).await;
    assert_eq!(daemon.cli(&["asg", "plan", "web.yaml"]).await, "  web: as it should be\n");
    site.write("web.yaml", &group_file(6));
    let planned = daemon.cli(&["asg", "plan", "web.yaml"]).await;
    assert_eq!(planned, "~ web: change\n    config.max_nodes: 4 → 6\n");
    daemon.cli(&["asg", "apply", "web.yaml"]).await;
    assert_eq!(daemon.get("/v1/asg/web").await["max_nodes"], 6);

    let nothing = daemon.cli(&["asg", "approve", "web"]).await;
    assert!(nothing.contains("nothing waits for approval"), "{nothing}");
    let alert = json!({ "application": "web", "incident_key": "7", "severity": "critical", "state": "open" });
    eventually("the alert makes the governor want a node", async || {
        let id = daemon.run("autoscale.alert", alert.clone()).await;
        let seen = daemon.end_of(&id).await;
        (seen["result"]["groups"]["web"]["verdict"] == "record").then_some(())
    })
    .await;
    let shown = daemon.cli(&["asg", "get", "web"]).await;
    assert!(shown.contains("expand, wanted since"), "{shown}");
    let approved = daemon.cli(&["chat", "!asg approve asg=web"]).await;
    assert!(approved.contains("admin approved it"), "{approved}");
    eventually("the node that was approved serves", async || in_service(2).await).await;
    let history = daemon.cli(&["asg", "history", "web"]).await;
    assert!(history.contains("expand") && history.contains("create"), "{history}");
    let protected = daemon.cli(&["asg", "protect", "web", "web-001"]).await;
    assert_eq!(protected, "web: web-001 is never chosen for removal\n");
    let kept = daemon.cli(&["asg", "delete-node", "web", "web-001", "--force"]).await;
    assert!(kept.contains("is protected"), "{kept}");
    let calls = std::fs::read_to_string(site.path().join("calls")).unwrap();
    let balanced: Vec<&str> = calls.lines().filter(|line| line.contains("pool") || line.contains("backend")).collect();
    assert_eq!(balanced, ["create_pool web blue", "add_backend web-001 blue", "add_backend web-002 blue"]);
}
