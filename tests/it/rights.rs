//! Which role may request which of the actions that come with Petrel, whose decision a step of a workflow is, and who
//! can read what the daemon writes.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use petrel::daemon::{Engine, Home, World};
use petrel::model::access::{Permission, Role};
use petrel::model::execution::ExecutionStatus;
use petrel::requests::{RequestError, Requester, Requests, Wanted};
use petrel::runners::user::{Machine, NamedUser};
use serde_json::{Map, json};

use crate::scaling::copy_shipped;
use crate::support::daemon::Daemon;
use crate::support::eventually;
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
        json!({ "trigger_name": "slack.command", "payload": { "user": "U1", "channel": "C1", "line": "asg list" } });
    let refused = running.run("core.inject_trigger", forged).await;
    assert!(refused.result.unwrap()["error"].as_str().unwrap().contains("speaks for a user"));
    running.stop().await;
}

/// All files and folders below this one that others can open.
fn open_to_others(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        if !metadata.is_symlink() && metadata.mode() & 0o077 != 0 {
            found.push(format!("{:04o} {}", metadata.mode() & 0o7777, entry.path().display()));
        }
        if metadata.is_dir() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_the_daemon_writes_is_for_its_owner_only_and_what_was_not_is_repaired() {
    let site = Site::new();
    fs::create_dir(site.path().join("data")).unwrap();
    fs::set_permissions(site.path().join("data"), Permissions::from_mode(0o755)).unwrap();
    let mut daemon = Daemon::start(&site).await;
    let data = daemon.data_dir();
    let node = daemon.run("local.create_node", json!({ "group": "web", "name": "web-001", "tag": "t" })).await;
    daemon.end_of(&node).await;
    let copy = site.path().join("copy.db");
    daemon.cli(&["backup", copy.to_str().unwrap()]).await;
    assert_eq!(open_to_others(&data), [""; 0]);
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    let told = daemon.log();
    assert!(told.contains("had mode 0755, so other users could look into it"), "{told}");

    let node = daemon.run("local.delete_node", json!({ "group": "web", "name": "web-001" })).await;
    daemon.end_of(&node).await;
    daemon.kill9().await;
    for file in ["petrel.db", "petrel.db-wal", "petrel.db-shm", "datastore.key", "admin.key", "endpoints.json"] {
        fs::set_permissions(data.join(file), Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&data, Permissions::from_mode(0o2775)).unwrap();
    daemon.restart().await;
    assert_eq!(open_to_others(&data), [""; 0]);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
    daemon.terminate().await;
    fs::set_permissions(&copy, Permissions::from_mode(0o644)).unwrap();
    let restored = daemon.cli(&["restore", copy.to_str().unwrap()]).await;
    assert!(restored.contains("restored"), "{restored}");
    assert_eq!(open_to_others(&data), [""; 0]);
}

/// A folder that everybody gets to, for scripts.
fn reachable() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Only a process that may become another user can show it; any other one shows that it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_run_as_their_own_user_who_finds_scripts_and_no_keys_and_are_ended_on_cancel() {
    let (runners, packs) = (reachable(), reachable());
    if !rustix::process::geteuid().is_root() {
        let refusal = Machine::this().unwrap().find(&named("nobody"), runners.path().into()).unwrap_err();
        assert!(refusal.to_string().contains("runners.local.user: the daemon runs as user"), "{refusal}");
        return;
    }
    let scripts = packs.path().join("lab/actions");
    write_pack(packs.path());
    let site = Site::new()
        .setting("packs", packs.path().to_str().unwrap())
        .setting("runners.dir", runners.path().to_str().unwrap())
        .setting("runners.local.user", "nobody");
    let daemon = Daemon::start(&site).await;
    let out = async |action: &str, parameters: serde_json::Value| {
        let id = daemon.run(action, parameters).await;
        daemon.end_of(&id).await["result"].clone()
    };
    let rights = "id -un; echo $HOME $USER $LOGNAME; grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f2";
    let nothing = ["0000000000000000"; 4].join("\n");
    let said = out("core.local", json!({ "cmd": rights })).await;
    assert_eq!(said["stdout"], format!("nobody\n/nonexistent nobody nobody\n{nothing}"));
    let key = daemon.data_dir().join("admin.key").display().to_string();
    let stolen = out("core.local", json!({ "cmd": format!("cat {key}; cat /proc/$PPID/environ") })).await;
    assert_eq!((&stolen["stdout"], &stolen["succeeded"]), (&json!(""), &json!(false)), "{stolen}");
    assert_eq!(out("lab.who", json!({})).await["stdout"], format!("nobody\n{}", scripts.display()));
    let loaded = json!({ "cmd": ":", "env": { "LD_PRELOAD": "/nowhere/evil.so" } });
    let loaded = out("core.local", loaded).await["stderr"].as_str().unwrap().to_owned();
    assert_eq!(
        loaded.matches("/nowhere/evil.so").count(),
        1,
        "by the shell only, not while it was still root: {loaded}"
    );
    let long = format!("id -un; : {}", "x".repeat(120_000));
    assert_eq!(out("core.local", json!({ "cmd": long })).await["stdout"], "nobody");
    let closed = out("core.local", json!({ "cmd": "true", "cwd": daemon.data_dir() })).await;
    assert!(closed["stderr"].as_str().unwrap().contains("cannot enter the working directory"), "{closed}");
    let marker = format!("{}.5", 1_000_000 + std::process::id());
    let sleeping = daemon.run("core.local", json!({ "cmd": format!("sleep {marker} & sleep {marker}") })).await;
    eventually("both sleep", async || (processes_with(&marker) >= 2).then_some(())).await;
    daemon.cli(&["execution", "cancel", &sleeping]).await;
    daemon.end_of(&sleeping).await;
    assert_eq!(processes_with(&marker), 0, "the guard may still end what it started");
    assert_eq!(fs::read_dir(runners.path().join("scripts")).unwrap().count(), 0, "no script stays behind");
}

/// A pack whose script says who runs it, and where.
fn write_pack(packs: &Path) {
    let files = [
        ("lab/pack.yaml", "name: lab\nref: lab\nversion: 1.0.0\n"),
        ("lab/actions/who.yaml", "name: who\nrunner_type: local-shell-script\nentry_point: who.sh\n"),
        ("lab/actions/who.sh", "#!/bin/bash\nid -un\npwd\n"),
    ];
    fs::create_dir_all(packs.join("lab/actions")).unwrap();
    files.into_iter().for_each(|(name, text)| fs::write(packs.join(name), text).unwrap());
}

fn named(user: &str) -> NamedUser {
    NamedUser { user: user.to_owned(), ..NamedUser::default() }
}

/// How many processes have this word on their command line.
fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_actions_cannot_run_as_is_a_start_error_that_names_the_setting() {
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let dir = closed.path().join("runners").display().to_string();
    let cases = [("gone-for-good", "runners.local.user: there is no user `gone-for-good`"), ("nobody", "runners.")];
    for (user, said) in cases {
        let site = Site::new().setting("runners.local.user", user).setting("runners.dir", &dir);
        let home = Home { site: site.path().to_owned(), program: env!("CARGO_BIN_EXE_petrel").into() };
        let opened = Engine::open(&site.config(), &home, World::real()).await;
        let problem = opened.err().map(|problem| format!("{problem:#}")).unwrap_or_default();
        assert!(problem.starts_with(said), "{user}: {problem}");
    }
}
