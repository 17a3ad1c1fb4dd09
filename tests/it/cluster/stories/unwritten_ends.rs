//! A step that ran and whose end its workflow could not write yet has been run: nobody begins it again.

use std::time::Duration;

use petrel::clock::{SystemClock, sleep};
use serde_json::json;

use crate::cluster::harness::{Cluster, Servers};
use crate::cluster::ledger::Ledger;
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::site::Site;

const STEPS: usize = 20;
/// Long enough for a lease to look as if nobody had heard of it, short enough not to run out.
const AWAY: Duration = Duration::from_secs(9);

/// Found by the chaos run (seed 4): the store was away when the steps ended, and when it was back they were taken for
/// claims of which nobody had heard, and begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_ended_while_the_store_was_away_are_not_run_again() {
    let ledger = Ledger::start().await;
    let site = Site::new();
    let (folder, packs) = (site.path().display().to_string(), site.path().join("packs").display().to_string());
    let slow = format!(
        "name: slow\nrunner_type: local-shell-cmd\non_lost: retry\nparameters:\n  tag: {{type: string}}\n  cmd:\n    \
         immutable: true\n    default: 'echo {{{{ tag }}}} >> {folder}/begun; sleep 2; echo {{{{ tag }}}} >> {folder}/ended'\n"
    );
    let script = format!(
        r#"let steps = []; for i in 0..{STEPS} {{ steps.push(i); }}
           map_items(steps, |i| run("t.slow", #{{ tag: `s${{i}}` }}), #{{ concurrency: {STEPS} }}); run("t.mark", #{{ tag: "end" }})"#
    );
    let site = site
        .file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/actions/slow.yaml", &slow)
        .file("packs/t/actions/mark.yaml", &ledger.action("mark", "mark", "retry"))
        .workflow("flow", &script)
        .setting("packs", &packs)
        .setting("workers.slots", "64");
    let servers = Servers { database: fresh_database().await, broker: None };
    let mut cluster = Cluster::start(site, &servers, 1).await;
    let folder = cluster.site.path().to_owned();
    let lines = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let door = cluster.door(0);
    let id = door.run("default.flow", json!({})).await;
    eventually("all steps have begun", async || (lines("begun").len() == STEPS).then_some(())).await;
    cluster.members[0].database.cut().await;
    eventually("all steps have ended", async || (lines("ended").len() == STEPS).then_some(())).await;
    sleep(&SystemClock::new(), AWAY).await;
    cluster.members[0].database.pass().await;
    let row = door.end_of(&id).await;
    assert_eq!(row["status"], "succeeded", "{row}");
    let mut begun = lines("begun");
    begun.sort_unstable();
    let all = begun.len();
    begun.dedup();
    assert_eq!((all, begun.len()), (STEPS, STEPS), "each step was run once");
    assert_eq!(ledger.times("mark").len(), 1);
}
