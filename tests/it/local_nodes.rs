//! Real nodes: that there is exactly one where one is wanted, and none where none is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU16;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use petrel::clock::{Clock, SystemClock};
use petrel::local::actions::add_actions;
use petrel::local::load::Load;
use petrel::local::nodes::{Knobs, LocalNodes, NodeError, NodeState, Registration, Running};
use petrel::model::execution::ExecutionStatus;
use petrel::model::group::GroupName;
use petrel::model::node::NodeName;
use petrel::model::time::Timestamp;
use petrel::runners::native::Native;
use petrel::runners::{Call, Outcome, RunEnd, Runner, Stop};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::native;
use crate::support::processes::processes_with;
use crate::support::{eventually, is_dead, stat};

/// Long enough for what happens at once, also on a slow machine.
const SOON: Duration = Duration::from_secs(20);
const NEVER: u32 = u32::MAX;

struct Site {
    data: TempDir,
    nodes: Arc<LocalNodes>,
}

impl Site {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let nodes = Arc::new(nodes_in(data.path()));
        Self { data, nodes }
    }

    async fn create(&self, knobs: Knobs) -> Running {
        self.nodes.create(&wanted("tag-1", knobs)).await.unwrap()
    }

    async fn delete(&self, drain: Duration) -> bool {
        self.nodes.delete(&group(), &name(), None, drain).await.unwrap()
    }

    fn state(&self) -> Option<NodeState> {
        self.nodes.status(&group(), &name()).unwrap().map(|status| status.state)
    }

    /// What is left on disk about nodes.
    fn files(&self) -> usize {
        fs::read_dir(self.data.path().join("nodes/web")).unwrap().count()
    }
}

fn nodes_in(data: &std::path::Path) -> LocalNodes {
    LocalNodes::new(&data.join("nodes"), env!("CARGO_BIN_EXE_petrel"), Arc::new(SystemClock::new())).unwrap()
}

fn group() -> GroupName {
    "web".parse().unwrap()
}

fn name() -> NodeName {
    "web-001".parse().unwrap()
}

fn wanted(tag: &str, knobs: Knobs) -> Registration {
    let created_at = Timestamp::default();
    Registration { group: group(), name: name(), tag: tag.to_owned(), size: None, knobs, created_at }
}

async fn get(node: &Running, path: &str) -> reqwest::Result<reqwest::Response> {
    reqwest::Client::builder().no_proxy().build()?.get(format!("{}{path}", node.url())).send().await
}

async fn metric(node: &Running, name: &str) -> u64 {
    let text = get(node, "/metrics").await.unwrap().text().await.unwrap();
    let mut rows = text.lines().filter_map(|line| line.split_once(' '));
    rows.find_map(|(row, value)| (row == name).then(|| value.parse().unwrap())).unwrap()
}

async fn dies(pid: i32) {
    eventually("the process ends", async || is_dead(pid).then_some(())).await;
}

#[tokio::test]
async fn creating_again_finds_the_same_process() {
    let site = Site::new();
    let first = site.create(Knobs::default()).await;
    let again = site.create(Knobs { concurrency: NonZeroU16::MAX, ..Knobs::default() }).await;
    assert_eq!((first.process.pid(), first.port), (again.process.pid(), again.port));
    assert_eq!(metric(&first, "node_capacity").await, 4, "the first knobs hold");
    assert_eq!(processes_with(site.data.path()), [first.process.pid().to_string()]);
}

#[tokio::test]
async fn a_name_belongs_to_the_tag_that_took_it() {
    let site = Site::new();
    let first = site.create(Knobs::default()).await;
    let refused = site.nodes.create(&wanted("tag-2", Knobs::default())).await.unwrap_err();
    assert!(matches!(refused, NodeError::NameTaken { .. }), "{refused}");
    let deleted = site.nodes.delete(&group(), &name(), Some("tag-2"), Duration::ZERO).await.unwrap();
    assert!(!deleted && !is_dead(first.process.pid()), "nor is it deleted for somebody else");
}

#[tokio::test]
async fn many_who_create_the_same_node_at_once_start_one_process() {
    let site = Site::new();
    let daemons: Vec<LocalNodes> = (0..8).map(|_| nodes_in(site.data.path())).collect();
    let node = wanted("tag-1", Knobs::default());
    let created = join_all(daemons.iter().map(|daemon| daemon.create(&node))).await;
    let mut pids: Vec<i32> = created.into_iter().map(|running| running.unwrap().process.pid()).collect();
    pids.dedup();
    assert_eq!(pids.len(), 1);
    assert_eq!(processes_with(site.data.path()), [pids[0].to_string()]);
}

#[tokio::test]
async fn a_node_is_nobodys_child_and_in_nobodys_session() {
    let site = Site::new();
    let node = site.create(Knobs::default()).await;
    let own = i32::try_from(std::process::id()).unwrap();
    let (ours, its) = (stat(own).unwrap(), stat(node.process.pid()).unwrap());
    assert_ne!(its[1], own.to_string());
    assert_ne!((&its[2], &its[3]), (&ours[2], &ours[3]));
    assert_eq!(fs::read(format!("/proc/{}/environ", node.process.pid())).unwrap(), b"");
}

const CREATES_IN: &str = "PETREL_TEST_CREATES_IN";

#[tokio::test]
async fn a_node_survives_its_creators_kill_9_and_is_found_again() {
    #[expect(clippy::disallowed_methods, reason = "this test runs itself again, as the creator that is killed")]
    if let Ok(data) = std::env::var(CREATES_IN) {
        let node = nodes_in(data.as_ref()).create(&wanted("tag-1", Knobs::default())).await.unwrap();
        println!("created {}", node.process.pid());
        return std::future::pending().await;
    }
    let site = Site::new();
    #[expect(clippy::disallowed_methods, reason = "the creator is a process of its own")]
    let mut creator = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "local_nodes::a_node_survives_its_creators_kill_9_and_is_found_again"])
        .env(CREATES_IN, site.data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(creator.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.find_map(|line| line.split_once("created ")?.1.parse::<i32>().ok()).unwrap();
    creator.kill().unwrap();
    creator.wait().unwrap();

    assert_eq!(site.state(), Some(NodeState::Ready));
    assert_eq!(site.create(Knobs::default()).await.process.pid(), pid);
    assert_eq!(site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap().process.pid(), pid);
    assert!(site.delete(Duration::ZERO).await);
    assert!(is_dead(pid));
}

#[tokio::test]
async fn what_a_creator_registered_and_did_not_start_is_started_by_the_next_or_deleted() {
    for is_wanted in [true, false] {
        let site = Site::new();
        let folder = site.data.path().join("nodes/web");
        fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string(&wanted("tag-1", Knobs::default())).unwrap();
        fs::write(folder.join("web-001.json"), text).unwrap();
        assert_eq!(site.state(), Some(NodeState::Dead));
        if is_wanted {
            site.create(Knobs::default()).await;
            assert_eq!(processes_with(site.data.path()).len(), 1);
        } else {
            assert!(site.delete(Duration::ZERO).await);
            assert_eq!((site.state(), site.files()), (None, 0));
        }
    }
}

#[tokio::test]
async fn a_node_ends_by_itself_when_its_registration_is_gone() {
    for hang in [false, true] {
        let site = Site::new();
        let node = site.create(Knobs { hang, ..Knobs::default() }).await;
        fs::remove_file(site.data.path().join("nodes/web/web-001.json")).unwrap();
        dies(node.process.pid()).await;
        assert_eq!((site.state(), site.files()), (None, 0), "and leaves nothing behind");
    }
}

#[tokio::test]
async fn a_node_ends_by_itself_when_the_data_folder_is_gone() {
    let site = Site::new();
    let node = site.create(Knobs::default()).await;
    site.data.close().unwrap();
    dies(node.process.pid()).await;
}

#[tokio::test]
async fn a22_deleting_twice_succeeds_twice_and_so_does_deleting_what_never_was() {
    let site = Site::new();
    assert!(!site.delete(Duration::ZERO).await);
    let node = site.create(Knobs::default()).await;
    assert!(site.delete(SOON).await);
    assert!(is_dead(node.process.pid()));
    assert!(!site.delete(SOON).await);
    assert_eq!((site.state(), site.files()), (None, 0));

    let new = site.nodes.create(&wanted("tag-2", Knobs::default())).await.unwrap();
    assert_ne!(new.process.pid(), node.process.pid(), "the name is free again");
}

#[tokio::test]
async fn a_delete_that_was_killed_in_the_middle_is_finished_by_the_next() {
    let site = Site::new();
    let node = site.create(Knobs::default()).await;
    let pid = rustix::process::Pid::from_raw(node.process.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    fs::remove_file(site.data.path().join("nodes/web/web-001.json")).unwrap();
    assert_eq!(site.state(), Some(NodeState::Leaving), "it hangs, unregistered, and is not forgotten");
    assert!(site.delete(Duration::ZERO).await);
    assert!(is_dead(node.process.pid()));
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn a_full_node_queues_and_then_sheds() {
    let site = Site::new();
    let full = Knobs { concurrency: NonZeroU16::MIN, queue: 1, service_time_ms: NEVER, ..Knobs::default() };
    let node = site.create(full).await;
    let node = site.nodes.wait_ready(&group(), &name(), SOON).await.map(|ready| (ready == node, ready)).unwrap().1;
    let seen = eventually("one is worked on, one waits, and the third is refused", async || {
        let (inflight, waiting) = (metric(&node, "node_inflight").await, metric(&node, "node_waiting").await);
        (inflight == 1 && waiting == 1).then_some(())
    });
    let refused = async {
        seen.await;
        get(&node, "/").await.unwrap().status()
    };
    tokio::select! {
        answer = get(&node, "/") => panic!("{answer:?}"),
        answer = get(&node, "/") => panic!("{answer:?}"),
        status = refused => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
    }
    assert_eq!(metric(&node, "node_shed_total").await, 1);
    assert_eq!(get(&node, "/health").await.unwrap().status(), StatusCode::OK, "full is not ill");
}

#[tokio::test]
async fn a_node_finishes_its_requests_before_it_is_deleted() {
    let site = Site::new();
    site.create(Knobs { service_time_ms: 400, ..Knobs::default() }).await;
    let node = site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap();
    let deleted = async {
        eventually("the request has come", async || (metric(&node, "node_inflight").await == 1).then_some(())).await;
        site.delete(SOON).await
    };
    let (answer, deleted) = tokio::join!(get(&node, "/"), deleted);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert!(deleted);
}

#[tokio::test]
async fn wait_ready_waits_for_the_boot_but_not_for_ever() {
    let site = Site::new();
    let clock = SystemClock::new();
    site.create(Knobs { boot_delay_ms: 300, ..Knobs::default() }).await;
    site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap();
    assert!(clock.monotonic() >= Duration::from_millis(300));
    site.delete(Duration::ZERO).await;

    for knobs in [Knobs { boot_delay_ms: NEVER, ..Knobs::default() }, Knobs { hang: true, ..Knobs::default() }] {
        site.create(knobs).await;
        let late = site.nodes.wait_ready(&group(), &name(), Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(late.to_string(), "node `web-001` did not become ready within 300ms");
        site.delete(Duration::ZERO).await;
    }
    let unknown = site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap_err();
    assert!(matches!(unknown, NodeError::Unknown { .. }), "{unknown}");
}

#[tokio::test]
async fn a_node_that_crashed_is_dead_until_it_is_created_again() {
    let site = Site::new();
    let first = site.create(Knobs { crash_after_ms: Some(300), ..Knobs::default() }).await;
    dies(first.process.pid()).await;
    assert_eq!(site.state(), Some(NodeState::Dead));
    let dead = site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap_err();
    assert!(matches!(dead, NodeError::Dead { .. }), "{dead}");
    let second = site.create(Knobs::default()).await;
    assert_ne!(first.process, second.process);
}

#[tokio::test]
async fn an_open_loop_of_load_counts_what_was_served_and_what_was_shed() {
    let site = Site::new();
    let slow = Knobs { concurrency: NonZeroU16::MIN, queue: 0, service_time_ms: 20, ..Knobs::default() };
    site.create(slow).await;
    let node = site.nodes.wait_ready(&group(), &name(), SOON).await.unwrap();
    let urls = vec![node.url()];
    let load = Load::new(Arc::new(SystemClock::new()), Arc::new(move || urls.clone()), 400).unwrap();
    let enough = eventually("both have happened", async || {
        let counts = load.counts();
        (counts.ok >= 5 && counts.shed >= 5).then_some(counts)
    });
    tokio::select! {
        () = load.run(CancellationToken::new()) => panic!("nobody ended it"),
        counts = enough => assert_eq!(counts.errors, 0),
    }
}

fn call(action: &str, parameters: &Value) -> Call {
    native::call(&format!("local.{action}"), parameters)
}

async fn run(site: &Site, action: &str, parameters: Value, stop: Stop) -> Outcome {
    let mut native = Native::default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    add_actions(&mut native, &site.nodes, &clock);
    match native.run(call(action, &parameters), stop).await {
        RunEnd::Finished(outcome) => outcome,
        other => panic!("it did not end: {other:?}"),
    }
}

#[tokio::test]
async fn the_actions_tell_a_nodes_whole_life() {
    let site = Site::new();
    let node = json!({"group": "web", "name": "web-001", "tag": "t", "size": null, "concurrency": 2, "version": "7"});
    let created = run(&site, "create_node", node, Stop::default()).await;
    assert_eq!(created.status, ExecutionStatus::Succeeded, "{created:?}");
    let same = json!({"group": "web", "name": "web-001"});
    let ready = run(&site, "wait_ready", same.clone(), Stop::default()).await.result;
    assert_eq!((&ready["address"], &ready["url"]), (&json!("127.0.0.1"), &created.result["url"]));

    let listed = run(&site, "list_nodes", json!({"group": null}), Stop::default()).await.result;
    let row = &listed["nodes"][0];
    assert_eq!((&row["name"], &row["state"], &row["version"]), (&json!("web-001"), &json!("ready"), &json!("7")));
    assert_eq!((&row["alive"], &row["tag"], &row["pid"]), (&json!(true), &json!("t"), &created.result["pid"]));

    let crashed = run(&site, "crash_node", same.clone(), Stop::default()).await.result;
    assert_eq!(crashed["crashed"], true);
    let deleted = run(&site, "delete_node", same.clone(), Stop::default()).await.result;
    assert_eq!(deleted["deleted"], true);
    let listed = run(&site, "list_nodes", json!({"group": "web"}), Stop::default()).await.result;
    assert_eq!(listed, json!({"nodes": []}));
}

#[tokio::test]
async fn bad_parameters_and_a_stop_are_answered() {
    let site = Site::new();
    let cases = [
        (json!({"group": "web"}), "parameters of local.wait_ready: missing field `name`"),
        (json!({"group": "../x", "name": "a"}), "`../x` is not a group name"),
        (json!({"group": "web", "name": "a", "within": "soon"}), "`soon` is not a duration"),
        (json!({"group": "web", "name": "a"}), "there is no node `a` in group `web`"),
    ];
    for (parameters, error) in cases {
        let outcome = run(&site, "wait_ready", parameters, Stop::default()).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed);
        assert!(outcome.result["error"].as_str().unwrap().contains(error), "{outcome:?}");
    }
    site.create(Knobs { boot_delay_ms: NEVER, ..Knobs::default() }).await;
    let stop = Stop::default();
    stop.raise();
    let stopped = run(&site, "wait_ready", json!({"group": "web", "name": "web-001"}), stop).await;
    assert_eq!(stopped.status, ExecutionStatus::Canceled);
}
