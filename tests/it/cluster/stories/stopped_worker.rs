//! G3 over several daemons: a worker that was stopped past its lease has lost it, and its processes are dead before
//! somebody else starts again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::cluster::harness::{Cluster, Servers};
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::site::Site;

/// Says that it began, then every 50 ms that it lives; ends when the file `enough` is there.
const HEARTBEAT: &str = "say() { echo $1 $$ $(date +%s%N) $PETREL_EXECUTION_ID >> FOLDER/beats; }; say start; \
                         while ! test -e FOLDER/enough; do say beat; sleep 0.05; done; say end";

fn site() -> Site {
    let site = Site::new();
    let folder = site.path().display().to_string();
    let command = HEARTBEAT.replace("FOLDER", &folder);
    let action = format!(
        "name: beat\nrunner_type: local-shell-cmd\non_lost: retry\nparameters:\n  cmd:\n    immutable: true\n    \
         default: '{command}'\n"
    );
    site.file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/actions/beat.yaml", &action)
        .setting("packs", &format!("{folder}/packs"))
}

/// One line of an attempt: the process that wrote it and when, in nanoseconds.
struct Line {
    word: String,
    process: u32,
    at: u64,
    execution: String,
}

fn lines(site: &Path) -> Vec<Line> {
    let text = fs::read_to_string(site.join("beats")).unwrap_or_default();
    let read = |line: &str| {
        let [word, process, at, execution] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let (word, execution) = (word.to_owned(), execution.to_owned());
        Some(Line { word, process: process.parse().ok()?, at: at.parse().ok()?, execution })
    };
    text.lines().map(|line| read(line).expect("a whole line")).collect()
}

/// First and last sign of life of each attempt, in the order in which they began.
fn attempts(site: &Path) -> Vec<(u64, u64)> {
    let mut by_process: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for line in lines(site) {
        let span = by_process.entry(line.process).or_insert((line.at, line.at));
        span.1 = span.1.max(line.at);
    }
    let mut attempts: Vec<_> = by_process.into_values().collect();
    attempts.sort_unstable();
    attempts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_the_processes_of_a_worker_stopped_past_its_lease_are_dead_before_the_retry_starts() {
    let servers = Servers { database: fresh_database().await, broker: None };
    let mut cluster = Cluster::start_with_roles(site(), &servers, &["", "api", ""]).await;
    let folder = cluster.site.path().to_owned();
    let id = cluster.door(1).run("t.beat", json!({})).await;
    eventually("the first attempt lives", async || (lines(&folder).len() > 2).then_some(())).await;
    let worker = if has_a_child(&cluster, 0) { 0 } else { 2 };
    cluster.members[worker].stop().await;
    eventually("a second attempt lives", async || {
        let started = lines(&folder).iter().filter(|line| line.word == "start").count();
        (started > 1).then_some(())
    })
    .await;
    cluster.members[worker].go_on().await;
    let survivor = cluster.door(2 - worker);
    let revived = cluster.door(worker);
    eventually("the stopped one has come to itself", async || revived.try_get("/v1/status").await).await;
    fs::write(folder.join("enough"), "").unwrap();
    let row = survivor.end_of(&id).await;
    assert_eq!(row["status"], "succeeded", "{row}");
    let attempts = attempts(&folder);
    assert_eq!(attempts.len(), 2, "the retry, and no third one: {attempts:?}");
    let [(_, last_of_first), (first_of_second, _)] = attempts[..] else { panic!("two") };
    assert!(last_of_first < first_of_second, "the first attempt was alive when the second began: {attempts:?}");
    assert!(lines(&folder).iter().all(|line| line.execution == id), "the key is the same for both");
    cluster.assert_alive();
}

/// Has this daemon a process at work?
fn has_a_child(cluster: &Cluster, number: usize) -> bool {
    let pid = cluster.members[number].pid().as_raw_nonzero().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut parents = processes.filter_map(|process| Some(crate::support::stat(process.parse().ok()?)?[1].clone()));
    parents.any(|parent| parent == pid)
}
