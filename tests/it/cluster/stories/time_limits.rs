//! A step whose time is up is ended where it runs, whichever daemon looks at the time.

use std::fs;

use petrel::model::time::Timestamp;
use serde_json::json;

use crate::cluster::harness::{Cluster, Servers};
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::processes::processes_with;
use crate::support::site::Site;

/// Found while reading for the chaos run: the first daemon that saw the limit passed wrote "timeout" for what ran at
/// another one, and there it ran on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_runs_at_another_daemon_is_dead_when_its_time_is_up() {
    let site = Site::new();
    let folder = site.path().display().to_string();
    let beat = format!("while true; do date +%s%N >> {folder}/beats; sleep 0.05; done");
    let action = format!(
        "name: beat\nrunner_type: local-shell-cmd\nparameters:\n  cmd:\n    immutable: true\n    default: '{beat}'\n"
    );
    let site = site
        .file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/actions/beat.yaml", &action)
        .workflow(
            "flow",
            r#"let end = (); try { run("t.beat", #{}, #{ timeout: "2s" }) } catch (e) { end = e.status } end"#,
        )
        .setting("packs", &format!("{folder}/packs"));
    let servers = Servers { database: fresh_database().await, broker: None };
    let roles = ["api", "api", "api", "workers,governor,rules,sensors"];
    let mut cluster = Cluster::start_with_roles(site, &servers, &roles).await;
    let door = cluster.door(0);
    let id = door.run("default.flow", json!({})).await;
    let flow = door.end_of(&id).await;
    assert_eq!((&flow["status"], &flow["result"]["output"]), (&json!("succeeded"), &json!("timeout")), "{flow}");
    let steps = door.get("/v1/executions?action=t.beat").await;
    let end = steps[0]["end_timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let beats = cluster.site.path().join("beats");
    eventually("its process is gone", async || processes_with(&beats).is_empty().then_some(())).await;
    let text = fs::read_to_string(beats).unwrap();
    let last: i64 = text.lines().last().unwrap().parse().unwrap();
    assert!(Timestamp::from_micros(last / 1000) < end, "its process outlived its end");
    cluster.assert_alive();
}
