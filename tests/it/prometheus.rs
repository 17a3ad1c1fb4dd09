//! What Alertmanager sends reaches the governor: a group grows while an alert fires, and knows when it has ended.

use petrel::clock::{Clock, SystemClock};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::scaling::{copy_shipped, site};
use crate::servers::prometheus::Prometheus;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

const HOOK: &str = "prometheus/alertmanager";

/// A notification about two alerts: one about the group, with this status, and a stranger that fires.
fn notification(status: &str, started_at: &str, ended_at: &str) -> Value {
    let alert = |fingerprint: &str, asg: &str, status: &str| {
        json!({
            "status": status, "fingerprint": fingerprint, "startsAt": started_at, "endsAt": ended_at,
            "labels": { "alertname": "BackendSlow", "asg": asg, "severity": "critical" },
            "annotations": { "summary": "slow" }, "generatorURL": "http://prometheus:9090/graph",
        })
    };
    json!({
        "receiver": "petrel", "status": "firing", "version": "4", "groupKey": "{}", "truncatedAlerts": 0,
        "alerts": [alert("aaaa", "web", status), alert("bbbb", "other", "firing")],
    })
}

async fn group_when(daemon: &Daemon<'_>, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || Some(daemon.get("/v1/asg/web").await).filter(|group| is(group))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_fires_expands_its_group_once_and_one_that_ends_closes_its_incident() {
    let site = site("none");
    copy_shipped(&site, "rules");
    let daemon = Daemon::start(&site).await;
    let new = json!({ "name": "web", "provider": "files",
        "config": { "min_nodes": 1, "max_nodes": 3, "warmup": "0s", "drain_timeout": "1s" } });
    let (status, answer) = daemon.post("/v1/asg", &new).await;
    assert!(status.is_success(), "{status} {answer}");
    group_when(&daemon, "the group is there", |group| group["in_service"] == 1 && group["activity"].is_null()).await;

    let started_at = SystemClock::new().now().to_string();
    let firing = notification("firing", &started_at, "0001-01-01T00:00:00Z");
    for _ in 0..3 {
        let taken = daemon.deliver(HOOK, None, &firing).await.unwrap();
        assert_eq!(taken.status, StatusCode::ACCEPTED);
    }
    let grown = group_when(&daemon, "the group has grown", |group| group["in_service"] == 2).await;
    assert_eq!(grown["incidents"][0]["key"], "prometheus/aaaa", "{grown}");
    let alerts = "/v1/executions?action=autoscale.alert";
    daemon.until_idle().await;
    assert_eq!(daemon.count(alerts).await, 2, "one for each alert, however often it is repeated");

    let resolved = notification("resolved", &started_at, &SystemClock::new().now().to_string());
    assert_eq!(daemon.deliver(HOOK, None, &resolved).await.unwrap().status, StatusCode::ACCEPTED);
    let over = group_when(&daemon, "the incident is over", |group| group["incidents"] == json!([]));
    assert_eq!(over.await["in_service"], 2, "it shrinks later");
    let refused = daemon.deliver(HOOK, None, &json!({ "alerts": "none" })).await.unwrap();
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_is_told_a_groups_targets_and_to_forget_them() {
    let site = Site::new();
    let folder = site.path().join("targets");
    site.write("configs/prometheus.yaml", &format!("targets_folder: {}\n", folder.display()));
    let daemon = Daemon::start(&site).await;
    let targets = r#"targets=["127.0.0.1:8081", "127.0.0.1:8082"]"#;
    let said =
        daemon.cli(&["run", "prometheus.write_targets", "group=web", targets, r#"labels={"env": "test"}"#]).await;
    let written = std::fs::read_to_string(folder.join("web.json")).unwrap_or_else(|_| panic!("{said}"));
    let expected = json!([{
        "targets": ["127.0.0.1:8081", "127.0.0.1:8082"], "labels": { "asg": "web", "env": "test" },
    }]);
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), expected);
    for removed in [true, false] {
        let id = daemon.run("prometheus.remove_targets", json!({ "group": "web" })).await;
        let end = daemon.end_of(&id).await;
        assert_eq!((&end["status"], &end["result"]["removed"]), (&json!("succeeded"), &json!(removed)), "{end}");
    }
    assert!(!folder.join("web.json").exists());
}

/// As the rule on a timer does; the first group's part of the result.
async fn measure(daemon: &Daemon<'_>) -> Value {
    let id = daemon.run("default.asg_measure", json!({})).await;
    let ended = daemon.end_of(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert!(ended["result"]["output"]["measured"][0].is_object(), "{ended}");
    ended["result"]["output"]["measured"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_of_a_group_is_what_prometheus_says_and_sizes_its_expansion() {
    let prometheus = Prometheus::start().await;
    let site = site("none").file("configs/prometheus.yaml", &format!("url: {}\n", prometheus.url()));
    let site = site.file(
        "web.yaml",
        "name: web\nprovider: files\nmetrics: prometheus\nmetrics_parameters: {load_query: 'sum(up) * 42'}\n\
         config: {min_nodes: 1, max_nodes: 9, warmup: 0s, node_capacity: 20, safe_util_pct: 70}\n",
    );
    let daemon = Daemon::start(&site).await;
    daemon.cli(&["asg", "apply", "web.yaml"]).await;
    group_when(&daemon, "the group is there", |group| group["in_service"] == 1 && group["activity"].is_null()).await;
    assert_eq!(measure(&daemon).await, json!({ "group": "web", "load": 42.0 }));
    let alert = json!({ "application": "web", "incident_key": "7", "severity": "critical", "state": "open" });
    let seen = daemon.end_of(&daemon.run("autoscale.alert", alert).await).await.to_string();
    assert!(seen.contains("adding 2 nodes for a load of 42"), "{seen}");

    let unknown = json!({ "metrics_parameters": { "load_query": "sum(nobody_knows_this)" } });
    daemon.put("/v1/asg/web", &unknown).await;
    let problem = measure(&daemon).await.to_string();
    assert!(problem.contains("the load of `web` is not known by `sum(nobody_knows_this)`"), "{problem}");
    let nonsense = daemon.end_of(&daemon.run("prometheus.query", json!({ "query": "sum(" })).await).await;
    let why = nonsense["result"]["error"].to_string();
    assert!(nonsense["status"] == "failed" && why.contains("bad_data") && why.contains("`sum(`"), "{why}");
}
