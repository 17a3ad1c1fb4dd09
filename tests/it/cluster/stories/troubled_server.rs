//! PostgreSQL answers, but not with what was asked for: for a while it gives up on locks and cancels statements.

use std::time::Duration;

use serde_json::json;

use crate::cluster::door::Delivered;
use crate::cluster::harness::{Cluster, Servers};
use crate::servers::free_port;
use crate::servers::fresh_database;
use crate::servers::postgres::connect;
use crate::store::troubles::raise_on;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

const RULE: &str =
    "name: f\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {url: f}\naction:\n  ref: core.noop\n";
const SCRIPT: &str = r#"let last = 0; for i in 0..3 { sleep("400ms"); run("core.noop"); last = i; } last"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_waits_for_its_store_says_so_once() {
    let url = format!("postgres://petrel@127.0.0.1:{}/petrel", free_port());
    let site = Site::new().setting("store.url", &url);
    let log = Daemon::log_of_waiting(&site, Duration::from_millis(2_500)).await;
    assert_eq!(log.matches("the store cannot be used yet").count(), 1, "{log}");
}

/// A lock on a hot table for 30 s ended acknowledged events as `processing_failed` and workflows with "its worker died".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_fails_while_locks_are_not_given() {
    let url = fresh_database().await;
    let servers = Servers { database: url.clone(), broker: None };
    let site = Site::new().file("rules/f.yaml", RULE).workflow("slow", SCRIPT);
    let cluster = Cluster::start(site, &servers, 1).await;
    let (door, client) = (cluster.door(0), connect(&url).await);
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(door.run("default.slow", json!({})).await);
    }
    for table in ["enforcements", "executions", "journal"] {
        raise_on(&client, table, "55P03", 1_000_000).await;
    }
    let mut accepted = 0;
    for number in 0..20 {
        let delivered = door.deliver("f", None, &json!({ "number": number })).await;
        accepted += usize::from(matches!(delivered, Delivered::Accepted(_)));
    }
    assert_eq!(accepted, 20, "events are taken: their table is free");
    eventually("it is not ready", async || {
        let (status, _) = door.readiness().await?;
        status.is_server_error().then_some(())
    })
    .await;
    client.batch_execute("DROP FUNCTION raise_trouble CASCADE").await.unwrap();
    for id in runs {
        let row = door.end_of(&id).await;
        assert_eq!(row["status"], "succeeded", "{row}");
    }
    cluster.until_idle().await;
    let failed = door.count("/v1/triggerinstances?status=processing_failed&limit=1").await;
    let enforcements = door.count("/v1/ruleenforcements?limit=1").await;
    let abandoned = door.count("/v1/executions?status=abandoned&limit=1").await;
    assert_eq!((failed, abandoned, enforcements), (0, 0, accepted));
}
