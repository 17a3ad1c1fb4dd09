//! The store goes away while a workflow or a rule reads the datastore: that is no answer, neither for the script nor for
//! the rule.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::cluster::door::Delivered;
use crate::cluster::harness::{Cluster, Servers};
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::site::Site;

/// So slow that most of the time is spent on the way to the database.
const SLOW: Duration = Duration::from_millis(15);

async fn alone(site: Site) -> Cluster {
    let servers = Servers { database: fresh_database().await, broker: None };
    let cluster = Cluster::start(site, &servers, 1).await;
    let key = json!({ "name": "word", "value": "good" });
    let (status, answer) = cluster.door(0).try_send(Method::PUT, "/v1/keys/word", &key).await.expect("an answer");
    assert!(status.is_success(), "{status} {answer}");
    cluster
}

/// Found by the chaos run (seed 4): the step got "the store is unavailable" as its outcome, for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_reads_the_datastore_waits_for_the_store() {
    let script = r#"run("core.noop"); let last = (); for i in 0..100 { last = kv_get("word"); } last"#;
    let mut cluster = alone(Site::new().workflow("reader", script)).await;
    let door = cluster.door(0);
    cluster.members[0].database.delay(SLOW).await;
    let id = door.run("default.reader", json!({})).await;
    let before = cluster.members[0].database.bytes().0;
    // Past the noop, in the middle of the reading.
    eventually("it reads", async || (cluster.members[0].database.bytes().0 > before + 12_000).then_some(())).await;
    cluster.members[0].database.cut().await;
    eventually("it is not ready", async || {
        let (status, _) = door.readiness().await?;
        status.is_server_error().then_some(())
    })
    .await;
    cluster.members[0].database.pass().await;
    let row = door.end_of(&id).await;
    assert_eq!((&row["status"], &row["result"]["output"]), (&json!("succeeded"), &json!("good")), "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_reads_the_datastore_waits_for_the_store() {
    let rule = "name: f\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {url: f}\ncriteria:\n  \
                trigger.body.word: {type: equals, pattern: \"{{ st2kv.system.word }}\"}\naction:\n  ref: core.noop\n";
    let mut cluster = alone(Site::new().file("rules/f.yaml", rule)).await;
    let door = cluster.door(0);
    cluster.members[0].database.delay(SLOW).await;
    let mut accepted = 0_usize;
    for cut in [false, true, true, true, true] {
        let delivered = door.deliver("f", None, &json!({ "word": "good" })).await;
        accepted += usize::from(matches!(delivered, Delivered::Accepted(_)));
        if cut {
            cluster.members[0].database.reset().await;
        }
    }
    cluster.members[0].database.pass().await;
    cluster.until_idle().await;
    let enforcements = door.count("/v1/ruleenforcements?limit=1").await;
    let executions = door.count("/v1/executions?action=core.noop&status=succeeded&limit=1").await;
    assert!(accepted > 0, "nothing was accepted");
    assert_eq!((enforcements, executions), (accepted, accepted), "each was matched and had its execution");
}
