//! A group whose nodes have names, through the whole daemon: the zone has exactly the ledger's names after each step.

use serde_json::{Value, json};

use super::zone_with;
use crate::scaling::copy_shipped;

use crate::servers::bind::{Bind, ZONE};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// The shipped workflows, and our server as the place of names.
fn site(bind: &Bind) -> Site {
    let site = Site::new();
    copy_shipped(&site, "workflows");
    let (server, secret) = (bind.address(), bind.secret("petrel"));
    site.file("configs/dns.yaml", &format!("server: {server}\nkey_name: petrel\nkey_secret: {secret}\n"))
}

/// The group once nothing is under way in it; `Null` if it is no more.
async fn at_rest(daemon: &Daemon<'_>) -> Value {
    eventually("the group comes to rest", async || {
        let (status, group) = daemon.try_get("/v1/asg/web").await;
        if status.as_u16() == 404 {
            return Some(Value::Null);
        }
        group["activity"].is_null().then_some(group)
    })
    .await
}

/// What the zone must have for the nodes of the ledger.
fn named(group: &Value) -> Vec<String> {
    let nodes = group["nodes"].as_array().into_iter().flatten();
    let records = nodes.flat_map(|node| {
        assert_eq!(node["phase"], "in_service", "{node}");
        let name = format!("{}.web.{ZONE}", node["name"].as_str().unwrap());
        let address = node["address"].as_str().unwrap();
        [format!("{name} A {address}"), format!("{name} TXT \"petrel-owner={name}\"")]
    });
    zone_with(records)
}

async fn ask(daemon: &Daemon<'_>, verb: &str) -> Value {
    let (status, answer) = daemon.post(&format!("/v1/asg/web/{verb}"), &json!({ "by": 2, "force": true })).await;
    assert!(status.is_success(), "{verb}: {status} {answer}");
    at_rest(daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a19_the_zone_has_the_ledgers_names_while_a_group_is_made_grows_shrinks_and_goes() {
    let bind = Bind::start().await;
    let site = site(&bind);
    let mut daemon = Daemon::start(&site).await;
    let checked = daemon.run("dns.create_zone", json!({ "domain": ZONE })).await;
    assert_eq!(daemon.end_of(&checked).await["status"], "succeeded");
    let new = json!({ "name": "web", "provider": "local", "dns": "dns", "domain": ZONE,
        "config": { "min_nodes": 1, "max_nodes": 4, "drain_timeout": "1s" } });
    let (status, answer) = daemon.post("/v1/asg", &new).await;
    assert!(status.is_success(), "{status} {answer}");
    let group = at_rest(&daemon).await;
    assert_eq!((group["in_service"].as_u64(), bind.records().await), (Some(1), named(&group)));
    let group = ask(&daemon, "expand").await;
    assert_eq!((group["in_service"].as_u64(), bind.records().await), (Some(3), named(&group)));

    daemon.kill9().await;
    daemon.restart().await;
    let group = ask(&daemon, "deflate").await;
    assert_eq!((group["in_service"].as_u64(), bind.records().await), (Some(1), named(&group)));
    let said = daemon.cli(&["asg", "delete", "web"]).await;
    assert_eq!(at_rest(&daemon).await, Value::Null, "{said}");
    assert_eq!(bind.records().await, zone_with([]));
    assert!(!daemon.log().contains(bind.secret("petrel")));
}
