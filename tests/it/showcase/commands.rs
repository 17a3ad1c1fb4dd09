//! The commands of the showcase with a load balancer and a zone behind them.

use super::{Place, at_rest, named, serving};
use crate::irc::until_there;
use crate::servers::bind::{Bind, ZONE};
use crate::servers::haproxy::Haproxy;
use crate::servers::ngircd::{Ngircd, PASSWORD, Person};
use crate::support::daemon::Daemon;

const ROOM: &str = "#bot-testing";

async fn say(daemon: &Daemon<'_>, line: &str) -> String {
    daemon.cli(&["chat", line]).await
}

/// Says a command that is asked back, and means it.
async fn mean(daemon: &Daemon<'_>, line: &str) {
    let asked = say(daemon, line).await;
    let (_, code) = asked.rsplit_once("confirm=").unwrap_or_else(|| panic!("nobody asked back: {asked}"));
    say(daemon, &format!("{line} confirm={}", code.trim())).await;
}

/// A group that somebody made with the words of the showcase.
async fn made(daemon: &Daemon<'_>) {
    say(daemon, &format!("!asg create name=web domain={ZONE}")).await;
    assert_eq!(serving(daemon, "web").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a08_a_group_made_in_a_real_room_has_its_balancer_its_names_its_nodes_and_notices() {
    let (haproxy, bind, irc) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start(), Ngircd::start());
    let place = Place::attached(&haproxy, &bind);
    place.site.write(
        "configs/irc.yaml",
        &format!("server: {}\npassword: {PASSWORD}\nchannels: ['{ROOM}']\nusers: {{ann: st2admin}}\n", irc.address()),
    );
    let daemon = Daemon::start(&place.site).await;
    let mut ann = Person::join(&irc, "ann", ROOM).await;
    until_there(&mut ann).await;
    ann.say(ROOM, &format!("!asg create name=web domain={ZONE} channel=bot-testing")).await;
    for step in ["ann: on it (", "ASG[web] is being set up", "ASG[web] web-001 is in service"] {
        ann.hear(step).await;
    }
    assert_eq!(serving(&daemon, "web").await, 1);
    assert_eq!((haproxy.serving("be_web").await, named(&bind).await), (owned(&["web-001"]), owned(&["web-001"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a09_a_node_that_is_added_answers_through_the_load_balancer() {
    let (haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let place = Place::attached(&haproxy, &bind);
    let daemon = Daemon::start(&place.site).await;
    made(&daemon).await;
    say(&daemon, "!asg node add asg=web").await;
    assert_eq!(serving(&daemon, "web").await, 2);
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = http.get(haproxy.url("be_web")).send().await.unwrap();
        let node: serde_json::Value = answer.json().await.unwrap();
        answered.insert(node["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(Vec::from_iter(answered), ["web-001", "web-002"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_a_manual_expansion_is_clipped_and_waits_for_the_delay_unless_it_is_forced() {
    let (haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let place = Place::attached(&haproxy, &bind);
    let daemon = Daemon::start(&place.site).await;
    made(&daemon).await;
    say(&daemon, "!asg expand asg=web by=2").await;
    assert_eq!(serving(&daemon, "web").await, 3);
    let refused = say(&daemon, "!asg expand asg=web by=2").await;
    assert!(refused.contains("expand_delay"), "{refused}");
    assert_eq!(serving(&daemon, "web").await, 3);
    say(&daemon, "!asg expand asg=web by=9 force=true").await;
    assert_eq!(serving(&daemon, "web").await, 6, "its maximum");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a11_a_named_node_is_out_of_load_balancer_and_zone_and_gone() {
    let (haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let place = Place::attached(&haproxy, &bind);
    let daemon = Daemon::start(&place.site).await;
    made(&daemon).await;
    say(&daemon, "!asg expand asg=web by=2").await;
    at_rest(&daemon, "web").await;
    mean(&daemon, "!asg node delete name=web-002 asg=web").await;
    let group = at_rest(&daemon, "web").await;
    let nodes: Vec<&str> = group["nodes"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["web-001", "web-003"]);
    assert_eq!((haproxy.serving("be_web").await, named(&bind).await), (owned(&nodes), owned(&nodes)));
    let listed = daemon.run("local.list_nodes", serde_json::json!({ "group": "web" })).await;
    assert!(!daemon.end_of(&listed).await["result"].to_string().contains("web-002"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a12_a_manual_deflation_takes_its_step_and_never_goes_below_the_minimum() {
    let (haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let place = Place::attached(&haproxy, &bind);
    let daemon = Daemon::start(&place.site).await;
    made(&daemon).await;
    say(&daemon, "!asg expand asg=web by=3").await;
    assert_eq!(serving(&daemon, "web").await, 4);
    say(&daemon, "!asg deflate asg=web force=true").await;
    assert_eq!(serving(&daemon, "web").await, 3, "deflate_by is 1");
    say(&daemon, "!asg deflate asg=web by=9 force=true").await;
    assert_eq!(serving(&daemon, "web").await, 1);
    assert_eq!((haproxy.serving("be_web").await.len(), named(&bind).await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_a_deleted_group_leaves_nothing_and_deleting_it_again_is_harmless() {
    let (haproxy, bind) = tokio::join!(Haproxy::start(&[("be_web", "")]), Bind::start());
    let place = Place::attached(&haproxy, &bind);
    let daemon = Daemon::start(&place.site).await;
    let before = bind.records().await;
    made(&daemon).await;
    say(&daemon, "!asg node add asg=web").await;
    at_rest(&daemon, "web").await;
    for _ in 0..2 {
        mean(&daemon, "!asg delete name=web").await;
        assert!(at_rest(&daemon, "web").await.is_null());
        assert_eq!((haproxy.serving("be_web").await, bind.records().await), (Vec::new(), before.clone()));
        assert_eq!(crate::support::processes::processes_with(&daemon.data_dir().join("nodes")), [""; 0]);
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
