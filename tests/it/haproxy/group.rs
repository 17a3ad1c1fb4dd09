//! A group of nodes behind HAProxy, through the whole daemon: what HAProxy has is what the ledger says, and visitors
//! notice nothing.

use serde_json::{Value, json};

use super::rig::Visitors;
use crate::scaling::copy_shipped;
use crate::servers::haproxy::Haproxy;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// Once nothing is under way in the group: the names of its nodes, all of which serve.
async fn at_rest(daemon: &Daemon<'_>) -> Vec<String> {
    let group = eventually("the group comes to rest", async || {
        let group = daemon.get("/v1/asg/web").await;
        group["activity"].is_null().then_some(group)
    })
    .await;
    let nodes = group["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["phase"] == "in_service"), "{group}");
    names(nodes)
}

/// What an action of the pack says about the group.
async fn ask(daemon: &Daemon<'_>, action: &str) -> Value {
    let id = daemon.run(&format!("haproxy.{action}"), json!({ "group": "web" })).await;
    let ended = daemon.end_of(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    ended["result"].clone()
}

/// The names of the servers that HAProxy has, all of which serve.
async fn behind_haproxy(daemon: &Daemon<'_>) -> Vec<String> {
    let listed = ask(daemon, "list_backends").await;
    let servers = listed["backends"].as_array().unwrap();
    assert!(servers.iter().all(|server| server["state"] == "ready"), "{listed}");
    names(servers)
}

fn names(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a21_a_group_grows_and_shrinks_behind_haproxy_and_no_request_fails() {
    let haproxy = Haproxy::start(&[("be_web", "")]).await;
    let configuration =
        format!("socket: {}\nbackend: be_{{group}}\ncheck_interval: 100ms\n", haproxy.socket().display());
    let site = Site::new().file("configs/haproxy.yaml", &configuration);
    copy_shipped(&site, "workflows");
    let daemon = Daemon::start(&site).await;
    assert_eq!(ask(&daemon, "create_pool").await["backend"], "be_web");
    let create = [
        "asg",
        "create",
        "web",
        "--provider",
        "local",
        "--load-balancer",
        "haproxy",
        "--min-nodes",
        "2",
        "--max-nodes",
        "4",
        "--node",
        "service_time_ms=5",
        "--config",
        "drain_timeout=20s",
    ];
    let said = daemon.cli(&create).await;
    let nodes = at_rest(&daemon).await;
    assert_eq!(nodes, ["web-001", "web-002"], "{said}");
    assert_eq!(behind_haproxy(&daemon).await, nodes);

    let visitors = Visitors::come(haproxy.url("be_web"), 4);
    for (change, wanted) in [("expand", 4), ("deflate", 2), ("expand", 4)] {
        visitors.until_served(20).await;
        let said = daemon.cli(&["asg", change, "web", "--by", "2", "--force"]).await;
        let nodes = at_rest(&daemon).await;
        assert_eq!(nodes.len(), wanted, "{said}");
        assert_eq!(behind_haproxy(&daemon).await, nodes);
    }
    visitors.until_served(20).await;
    let (served, met) = visitors.go().await;
    assert_eq!(met, Vec::<String>::new(), "of {served} requests");

    let said = daemon.cli(&["asg", "delete", "web"]).await;
    eventually("the group is gone", async || (daemon.try_get("/v1/asg/web").await.0 == 404).then_some(())).await;
    assert_eq!(behind_haproxy(&daemon).await, Vec::<String>::new(), "{said}");
    haproxy.say("add server be_web/stranger 127.0.0.1:1").await;
    ask(&daemon, "delete_pool").await;
    assert_eq!(behind_haproxy(&daemon).await, Vec::<String>::new());
}
