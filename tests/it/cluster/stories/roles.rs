//! Roles on three daemons: one takes events in, one decides, one works.

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::door::Delivered;
use crate::cluster::harness::{Cluster, Servers};
use crate::servers::fresh_database;
use crate::support::eventually;
use crate::support::site::Site;

const RULE: &str = "name: f\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {url: f}\naction:\n  \
                    ref: default.flow\n  parameters: {n: \"{{ trigger.body.n }}\"}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_goes_through_three_daemons_with_different_roles_and_ends_in_a_finished_workflow() {
    let script = r#"run("core.noop"); run("autoscale.governor_tick"); params.n + 1"#;
    let site =
        Site::new().workflow_with("flow", script, "{n: {type: integer, required: true}}").file("rules/f.yaml", RULE);
    let servers = Servers { database: fresh_database().await, broker: None };
    let roles = ["api", "rules,sensors", "workers,governor"];
    let mut cluster = Cluster::start_with_roles(site, &servers, &roles).await;
    let door = cluster.door(0);
    for n in 0..5 {
        let delivered = door.deliver("f", None, &json!({ "n": n })).await;
        assert!(matches!(delivered, Delivered::Accepted(_)), "{delivered:?}");
    }
    let flows = eventually("the workflows are finished", async || {
        let rows = door.try_get("/v1/executions?action=default.flow").await?;
        let rows = rows.as_array().unwrap().clone();
        let all = rows.len() == 5 && rows.iter().all(|row| row["status"] == "succeeded");
        all.then_some(rows)
    })
    .await;
    let mut outputs: Vec<u64> = Vec::new();
    for flow in &flows {
        let row = door.get(&format!("/v1/executions/{}", flow["id"].as_str().unwrap())).await;
        outputs.push(row["result"]["output"].as_u64().unwrap());
    }
    outputs.sort_unstable();
    assert_eq!(outputs, [1, 2, 3, 4, 5]);
    for silent in [1, 2] {
        let answer = cluster.door(silent).try_send(Method::GET, "/v1/executions", &Value::Null).await;
        let (status, body) = answer.expect("its health can be asked for, so it answers");
        assert!(status.is_client_error(), "a daemon without the role api has no API: {status} {body}");
    }
    cluster.assert_alive();
}
