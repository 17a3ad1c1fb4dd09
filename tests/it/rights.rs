//! Which role may request which of the actions that come with Petrel, and whose decision a step of a workflow is.

use std::collections::BTreeMap;

use petrel::model::access::{Permission, Role};
use petrel::model::execution::ExecutionStatus;
use petrel::requests::{RequestError, Requester, Requests, Wanted};
use serde_json::{Map, json};

use crate::scaling::copy_shipped;
use crate::support::site::{Running, Site};

/// What changes something that the API keeps for a role. Every shipped action of these packs is here; of other packs
/// those that need more than `execution_run`.
const PERMISSIONS: &[(Permission, &[&str])] = &[
    (
        Permission::ExecutionRun,
        &[
            "autoscale.explain",
            "autoscale.group_info",
            "autoscale.list",
            "chatops.post_message",
            "chatops.post_result",
            "core.announcement",
            "core.ask",
            "core.http",
            "core.local",
            "core.noop",
            "core.pause",
            "core.remote",
            "core.remote_sudo",
            "core.uuid",
        ],
    ),
    (Permission::TriggerEmit, &["core.inject_trigger"]),
    (
        Permission::GroupOperate,
        &[
            "autoscale.add_node",
            "autoscale.alert",
            "autoscale.approve",
            "autoscale.deflate",
            "autoscale.delete_node",
            "autoscale.deny",
            "autoscale.expand",
            "autoscale.governor_tick",
            "autoscale.load",
        ],
    ),
    (
        Permission::GroupWrite,
        &[
            "autoscale.configure",
            "autoscale.create",
            "autoscale.delete",
            "autoscale.node_phase",
            "autoscale.observe",
            "aws.create_pool",
            "aws.create_zone",
            "aws.delete_pool",
            "aws.delete_zone",
            "default.asg_add_node",
            "default.asg_create",
            "default.asg_deflate",
            "default.asg_delete",
            "default.asg_delete_node",
            "default.asg_expand",
            "default.asg_reconcile",
            "dns.create_zone",
            "dns.delete_zone",
            "haproxy.create_pool",
            "haproxy.delete_pool",
            "my.grow",
        ],
    ),
    (Permission::ActAs, &["slack.command"]),
    (Permission::SystemManage, &["amqp.publish"]),
];

const DECIDED_ONE_BY_ONE: [&str; 4] = ["autoscale", "chatops", "core", "slack"];

/// With an action of a site's own pack that is `autoscale.create` under another name.
async fn start() -> (Site, Running) {
    let site = Site::new();
    copy_shipped(&site, "workflows");
    let packs = site.path().join("packs").display().to_string();
    let site = site
        .file("packs/my/pack.yaml", "name: my\nref: my\nversion: 1.0.0\n")
        .file("packs/my/actions/grow.yaml", "name: grow\nrunner_type: native\nentry_point: autoscale.create\n")
        .file("packs/my/actions/wipe.yaml", "name: wipe\nrunner_type: noop\npermission: group_write\n")
        .workflow("tidy", "run(\"my.wipe\")")
        .setting("packs", &packs);
    let running = site.start().await;
    (site, running)
}

fn by(role: Role) -> Requester {
    Requester::User { name: "ada".to_owned(), role }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_request_the_actions_that_it_has_the_permission_for() {
    let (_site, running) = start().await;
    let listed = PERMISSIONS.iter().flat_map(|(permission, actions)| actions.iter().map(|name| (*name, *permission)));
    let needed: BTreeMap<&str, Permission> = listed.chain([("my.wipe", Permission::GroupWrite)]).collect();
    let catalogue = running.engine.dispatcher.catalogue();
    let mut wrong = Vec::new();
    for action in catalogue.actions.keys() {
        let permission = needed.get(action.as_str()).copied();
        if permission.is_none() && DECIDED_ONE_BY_ONE.contains(&action.pack()) {
            wrong.push(format!("{action}: say here who may request it"));
        }
        let permission = permission.unwrap_or(Permission::ExecutionRun);
        for role in [Role::Observer, Role::Operator, Role::Admin] {
            let planned = running.engine.dispatcher.plan(Wanted::new(action.clone(), Map::new(), by(role)));
            let is_refused = matches!(planned, Err(RequestError::Forbidden { .. }));
            if is_refused == (role.may(permission) && role.may(Permission::ExecutionRun)) {
                wrong.push(format!("{role} requests {action}"));
            }
        }
        let of_content = Wanted::new(action.clone(), Map::new(), Requester::Content);
        if matches!(running.engine.dispatcher.plan(of_content), Err(RequestError::Forbidden { .. })) {
            wrong.push(format!("content requests {action}"));
        }
    }
    let gone = needed.keys().filter(|name| !catalogue.actions.contains_key(&name.parse().unwrap()));
    wrong.extend(gone.map(|name| format!("{name} does not exist")));
    assert_eq!(wrong, [""; 0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_of_a_workflow_that_an_operator_requests_are_its_contents_decision() {
    let (_site, running) = start().await;
    let wanted = Wanted::new("default.tidy".parse().unwrap(), Map::new(), by(Role::Operator));
    let plan = running.engine.dispatcher.plan(wanted).unwrap();
    running.engine.store.executions().execution_request(plan.execution()).await.unwrap();
    let id = plan.execution().id;
    plan.committed();
    assert_eq!(running.end_of(id).await.status, ExecutionStatus::Succeeded);
    let forged =
        json!({ "trigger": "slack.command", "payload": { "user": "U1", "channel": "C1", "line": "asg list" } });
    let refused = running.run("core.inject_trigger", forged).await;
    assert!(refused.result.unwrap()["error"].as_str().unwrap().contains("speaks for a user"));
    running.stop().await;
}
