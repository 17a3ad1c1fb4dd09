//! Actions that did not begin have their effect later: after a crash, and after the host lacked something.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures_util::future::join_all;
use petrel::daemon::{Engine, Home, World};
use petrel::model::execution::ExecutionStatus;
use petrel::store::executions::ExecutionFilter;
use petrel::store::rows::Page;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::effects::{rule, site, times_by_tag};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::{Running, Site};

const ALL: Page = Page { limit: 10_000, offset: 0 };
const ROUNDS: u64 = 4;
const EVENTS_A_ROUND: u64 = 40;

/// The executions whose children may have run, as their attempt files say.
fn begun(guards: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(guards).unwrap().map(|entry| entry.unwrap().path());
    let locks = files.filter(|path| path.extension().is_some_and(|it| it == "lock"));
    let started = locks.filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        serde_json::from_str::<Value>(&text).is_ok_and(|record| record["started"] == true)
    });
    started.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_over_kill_9_every_event_whose_action_had_not_begun_has_its_effect_once() {
    let site = site().file("rules/e.yaml", &rule("e", "t.once", r#"{tag: "{{ trigger.body.n }}"}"#));
    let mut daemon = Daemon::start(&site).await;
    let (mut acknowledged, mut begun_at_a_kill) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..ROUNDS {
        let sent = join_all((0..EVENTS_A_ROUND).map(|i| {
            let (n, daemon) = (round * EVENTS_A_ROUND + i, &daemon);
            async move { (n, daemon.deliver("e", Some(&format!("delivery-{n}")), &json!({ "n": n })).await) }
        }));
        let accepted = sent
            .await
            .into_iter()
            .filter(|(_, answer)| answer.as_ref().is_some_and(|answer| answer.status == StatusCode::ACCEPTED));
        acknowledged.extend(accepted.map(|(n, _)| n));
        daemon.kill9_until_guards_end().await;
        begun_at_a_kill.extend(begun(&daemon.data_dir().join("guards")));
        daemon.restart().await;
    }
    daemon.until_idle().await;
    daemon.kill9().await;
    let (rows, _) = daemon.store().executions().execution_list(&ExecutionFilter::default(), ALL).await.unwrap();
    let ran = times_by_tag(&site, "once");
    assert!(ran.values().all(|times| *times == 1), "run again on a guess: {ran:?}");
    for n in acknowledged {
        let tag = n.to_string();
        let row = rows.iter().find(|row| row.parameters["tag"] == tag).expect("its execution");
        if row.status == ExecutionStatus::Abandoned {
            assert!(begun_at_a_kill.contains(&row.id.to_string()), "abandoned though it had not begun: {row:?}");
        } else {
            assert_eq!((row.status, ran.get(&n.to_string())), (ExecutionStatus::Succeeded, Some(&1)), "{row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_could_not_begin_runs_once_when_the_host_has_recovered() {
    let site = Site::new();
    let folder = site.path().display().to_string();
    let petrel = env!("CARGO_BIN_EXE_petrel");
    let script = format!("#!/bin/sh\n[ -e {folder}/lacking ] && ulimit -n 4\nexec {petrel} \"$@\"\n");
    let site = site.file("guard.sh", &script).file("lacking", "");
    let program = site.path().join("guard.sh");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = site.config();
    let home = Home { site: site.path().to_owned(), program };
    let engine = Engine::open(&config, &home, World::real()).await.unwrap();
    engine.start(&config).await.unwrap();
    let running = Running { engine };
    let id = running.request("core.local", json!({ "cmd": format!("echo ran >> {folder}/effect") })).await;

    let reasons = eventually("the shortage is told", async || {
        let reasons = running.engine.dispatcher.reasons_not_ready();
        (!reasons.is_empty()).then_some(reasons)
    })
    .await;
    assert!(reasons[0].contains("file descriptors") && reasons[0].contains("LimitNOFILE"), "{reasons:?}");
    fs::remove_file(site.path().join("lacking")).unwrap();

    let row = running.end_of(id).await;
    assert_eq!(row.status, ExecutionStatus::Succeeded, "{row:?}");
    assert!(row.fence > 1, "it was put off at least once");
    assert_eq!(fs::read_to_string(site.path().join("effect")).unwrap(), "ran\n");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_open_files_is_raised_for_the_daemon_and_not_for_its_children() {
    let site = Site::new();
    let daemon = Daemon::start(&site).await;
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let of_daemon: Vec<&str> = line.split_whitespace().take(2).collect();
    assert_eq!(of_daemon[0], of_daemon[1], "the soft limit is the hard one");
    let id = daemon.run("core.local", json!({ "cmd": "ulimit -Sn" })).await;
    let end = daemon.end_of(&id).await;
    let soft = ours.current.map_or_else(|| "unlimited".to_owned(), |soft| soft.to_string());
    assert_eq!(end["result"]["stdout"], json!(soft), "{end}");
}
