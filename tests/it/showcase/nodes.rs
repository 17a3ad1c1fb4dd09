//! Nodes: what they are made of, how many at once, and who looks at them.

use std::time::Duration;

use petrel::model::decision::Request;
use petrel::model::group::GroupName;
use petrel::model::scaling::Origin;
use serde_json::json;

use super::{Place, at_rest, create, serving};
use crate::scaling;
use crate::support::daemon::Daemon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a17_nodes_are_made_as_the_group_says_and_a_change_concerns_only_new_ones() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "3", "--node", "version=1", "--node", "size=small"]).await;
    daemon.put("/v1/asg/web", &json!({ "node_parameters": { "version": "2", "size": "large" } })).await;
    daemon.cli(&["asg", "add-node", "web"]).await;
    let group = at_rest(&daemon, "web").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (node, version) in group["nodes"].as_array().unwrap().iter().zip(["1", "2"]) {
        let url = format!("http://{}:{}/", node["address"].as_str().unwrap(), node["port"]);
        let answer: serde_json::Value = http.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["version"], version, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_an_expansion_brings_exactly_its_step_at_once() {
    const BOOT: Duration = Duration::from_secs(2);
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    let boot = format!("boot_delay_ms={}", BOOT.as_millis());
    create(&daemon, "web", "shop", &["--max-nodes", "9", "--config", "expand_by=3", "--node", &boot]).await;
    place.alert("shop", "critical", "Alert opened on shop: it is down").await;
    crate::support::eventually("three more are on their way", async || {
        (daemon.get("/v1/asg/web").await["total"] == 4).then_some(())
    })
    .await;
    assert_eq!(serving(&daemon, "web").await, 4);
    let history = daemon.get("/v1/asg/web/activities").await;
    let expansion = history.as_array().unwrap().iter().find(|activity| activity["kind"] == "expand").unwrap();
    let moment = |name: &str| expansion[name].as_str().unwrap().parse::<petrel::model::time::Timestamp>().unwrap();
    let took = moment("ended_at").since(moment("started_at"));
    assert!(took < BOOT * 2, "three boots side by side took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a24_one_tick_decides_for_each_of_fifty_groups_once() {
    let site = scaling::site("none");
    let running = site.start().await;
    let governor = &running.engine.governor;
    for number in 0..50 {
        let new = json!({ "name": format!("g{number}"), "provider": "files", "config": { "mode": "observe" } });
        governor.create(serde_json::from_value(new).unwrap(), Origin::Api).await.unwrap();
    }
    let report = governor.tick_all().await.unwrap();
    let told = format!("{report:?}");
    for number in 0..50 {
        let name: GroupName = format!("g{number}").parse().unwrap();
        let times: i64 = governor.explain(&name, 10).await.unwrap().iter().map(|row| row.times).sum();
        assert_eq!(times, 2, "the creation and the tick, {name}: {told}");
    }
    let again = governor.admit(&"g7".parse().unwrap(), &Request::Tick).await.unwrap();
    assert!(again.activity.is_none(), "{}", again.decision);
    running.stop().await;
}
