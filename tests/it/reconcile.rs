//! One group file attaches a load balancer and a zone; what they forget, and what stays there by mistake, is brought back to
//! what the ledger says.

use serde_json::{Value, json};

use crate::scaling::copy_shipped;
use crate::servers::bind::{Bind, ZONE};
use crate::servers::haproxy::Haproxy;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// All that somebody writes who has an HAProxy and a BIND.
fn group_file(haproxy: &Haproxy, bind: &Bind) -> String {
    format!(
        "name: web\nprovider: local\nconfig: {{min_nodes: 2, max_nodes: 4, drain_timeout: 1s}}\nload_balancer: haproxy\n\
         load_balancer_parameters: {{socket: {}, backend: be_web, check_interval: 100ms}}\ndns: dns\ndomain: {ZONE}\n\
         dns_parameters: {{server: '{}', key_name: petrel, key_secret: '{}'}}\n",
        haproxy.socket().display(),
        bind.address(),
        bind.secret("petrel"),
    )
}

async fn at_rest(daemon: &Daemon<'_>) -> Value {
    eventually("the group comes to rest", async || {
        let group = daemon.get("/v1/asg/web").await;
        group["activity"].is_null().then_some(group)
    })
    .await
}

/// As the rule on a timer does.
async fn look_around(daemon: &Daemon<'_>) -> Value {
    let id = daemon.run("default.asg_observe", json!({})).await;
    let ended = daemon.end_of(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    ended["result"]["output"]["looks"][0]["drift"].clone()
}

async fn tick(daemon: &Daemon<'_>) -> Value {
    let id = daemon.run("autoscale.governor_tick", json!({})).await;
    daemon.end_of(&id).await["result"]["acted"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_load_balancer_and_zone_forget_comes_back_and_what_stays_by_mistake_goes() {
    let (mut haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let site = Site::new();
    copy_shipped(&site, "workflows");
    site.write("web.yaml", &group_file(&haproxy, &bind));
    let daemon = Daemon::start(&site).await;
    let applied = daemon.cli(&["asg", "apply", "web.yaml"]).await;
    assert!(applied.contains("web: created"), "{applied}");
    let group = at_rest(&daemon).await;
    assert_eq!(
        (group["in_service"].as_u64(), haproxy.serving("be_web").await),
        (Some(2), names(&["web-001", "web-002"]))
    );
    assert_eq!(bind.resolve(&format!("web-002.web.{ZONE}"), "A").await, ["127.0.0.1"]);
    assert_eq!(look_around(&daemon).await, json!([]));

    haproxy.kill_9().await;
    haproxy.start_again().await;
    bind.change(&format!("update delete web-001.web.{ZONE}")).await;
    let gone = format!("web-000.web.{ZONE}");
    bind.change(&format!("update add {gone} 30 A 127.0.0.9\nupdate add {gone} 30 TXT \"petrel-owner={gone}\"")).await;
    haproxy.say("add server be_web/stranger 127.0.0.1:1").await;
    assert_eq!(haproxy.serving("be_web").await, names(&[]), "a HAProxy that starts has forgotten them");
    assert_eq!(look_around(&daemon).await.as_array().unwrap().len(), 5);
    assert_eq!(tick(&daemon).await, json!([]), "once may be chance");
    look_around(&daemon).await;
    let shown = daemon.cli(&["asg", "drift", "web"]).await;
    for part in ["web-001 is in service, and its name does not lead to it", "`stranger` is known to the load_balancer"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(tick(&daemon).await[0][1]["verdict"], "reconcile");
    at_rest(&daemon).await;
    assert_eq!(haproxy.serving("be_web").await, names(&["web-001", "web-002"]));
    assert_eq!(bind.resolve(&format!("web-001.web.{ZONE}"), "A").await, ["127.0.0.1"]);
    assert_eq!(bind.resolve(&gone, "A").await, Vec::<String>::new(), "it was a node of ours once");
    let left = look_around(&daemon).await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["name"]), (1, &json!("stranger")), "{left}");
    assert!(haproxy.say("show servers state be_web").await.contains("stranger"), "what is not ours stays");
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}
