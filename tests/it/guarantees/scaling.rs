//! G5 from outside: whoever asks and however often, a group never exceeds its limit, and does one thing at a time.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::scaling::site;
use crate::support::daemon::Daemon;
use crate::support::eventually;

async fn group(daemon: &Daemon<'_>) -> Value {
    daemon.get("/v1/asg/web").await
}

/// The group when nothing is under way; meanwhile its limits are watched.
async fn at_rest(daemon: &Daemon<'_>) -> Value {
    eventually("the group comes to rest", async || {
        let group = group(daemon).await;
        assert!(group["total"].as_u64().unwrap() <= 3, "{group}");
        group["activity"].is_null().then_some(group)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g05_max_holds_and_one_activity_runs_under_concurrent_requests_and_kills() {
    let site = site("none");
    let mut daemon = Daemon::start(&site).await;
    let new = json!({ "name": "web", "provider": "files", "load_balancer": "files",
        "config": { "min_nodes": 1, "max_nodes": 3, "drain_timeout": "1s" } });
    let (status, answer) = daemon.post("/v1/asg", &new).await;
    assert!(status.is_success(), "{status} {answer}");
    at_rest(&daemon).await;
    let ask = json!({ "by": 1, "force": true });
    for kill in [true, false, false] {
        let answers = join_all((0..8).map(|_| daemon.post("/v1/asg/web/expand", &ask))).await;
        let admitted = answers.iter().filter(|(status, _)| status.is_success()).count();
        assert!(admitted <= 1, "one activity at a time: {answers:?}");
        if kill {
            daemon.kill9().await;
            daemon.restart().await;
        }
        at_rest(&daemon).await;
    }
    let group = at_rest(&daemon).await;
    assert_eq!((&group["in_service"], &group["total"]), (&json!(3), &json!(3)), "{group}");
    let (status, refused) = daemon.post("/v1/asg/web/expand", &ask).await;
    assert!(status.is_client_error(), "{status} {refused}");
    let nodes = std::fs::read_dir(site.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "node"));
    assert_eq!(nodes.count(), 3, "the world holds what the ledger says");
}
