//! What monitoring says, and what comes of it.

use serde_json::json;

use super::{Place, at_rest, create, serving};
use crate::support::daemon::Daemon;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a01_a_secret_that_is_missing_is_named_and_once_it_is_set_the_same_event_succeeds() {
    let place = Place::new();
    let schema = "token: {type: string, secret: true}\n";
    let action = "name: call\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  \
                  token: {type: string, secret: true, default: '{{ config_context.token }}'}\n  \
                  cmd: {immutable: true, default: 'test {{ token }} = sesame'}\n";
    let rule = "name: calls\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: call}}\n\
                action: {ref: pager.call, parameters: {}}\n";
    let site = &place.site;
    site.write("packs/pager/pack.yaml", "name: pager\nref: pager\nversion: 1.0.0\n");
    site.write("packs/pager/config.schema.yaml", schema);
    site.write("packs/pager/actions/call.yaml", action);
    site.write("rules/calls.yaml", rule);
    let packs = site.path().join("packs").display().to_string();
    let site = place.site.setting("packs", &packs);
    let daemon = Daemon::start(&site).await;
    daemon.deliver("call", None, &json!({})).await.unwrap();
    let refused = eventually("the rule has tried", async || {
        let tried = daemon.get("/v1/ruleenforcements").await;
        tried.as_array().unwrap().first().map(ToString::to_string)
    })
    .await;
    assert!(refused.contains("token"), "{refused}");
    site.write("configs/pager.yaml", "token: sesame\n");
    eventually("the same event succeeds", async || {
        daemon.deliver("call", None, &json!({})).await.unwrap();
        let calls = daemon.get("/v1/executions?action=pager.call").await;
        calls.as_array().unwrap().iter().any(|call| call["status"] == "succeeded").then_some(())
    })
    .await;
    assert!(!daemon.log().contains("sesame"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a03_the_packs_form_is_taken_in_at_its_own_port_and_what_is_malformed_is_refused_and_told() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    let taken = place.alert("shop", "critical", "Alert opened on shop: Apdex score fell below critical level").await;
    assert_eq!(taken.status(), 202);
    let answer: serde_json::Value = taken.json().await.unwrap();
    let instance = answer["trigger_instances"][0].as_str().unwrap();
    let recorded = daemon.get(&format!("/v1/triggerinstances/{instance}")).await;
    assert_eq!(recorded["trigger"], "newrelic.WebAppAlertTrigger", "it was there before it was answered");
    for (kind, body) in [("application/x-www-form-urlencoded", "alert={broken"), ("application/json", "[1, 2")] {
        let refused = place.send(kind, body.to_owned()).await;
        assert_eq!(refused.status(), 400, "{body}");
    }
    let told = daemon.log();
    assert!(told.lines().filter(|line| line.contains("newrelic")).any(|line| line.contains("refused")), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a05_a_warning_tells_people_and_expands_nothing_and_what_is_critical_does() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "2", "--channel", "ops"]).await;
    place.alert("shop", "warning", "Alert opened on shop: it is a little slow").await;
    eventually("the warning is told", async || {
        let told = daemon.get("/v1/asg/web").await["last_decision"]["sentence"].as_str().unwrap_or_default().to_owned();
        told.contains("warn").then_some(())
    })
    .await;
    assert_eq!(serving(&daemon, "web").await, 1);
    place.alert("shop", "critical", "Alert opened on shop: it is down").await;
    eventually("two nodes serve", async || (serving(&daemon, "web").await == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a06_an_alert_changes_only_the_group_whose_application_it_names() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "2"]).await;
    create(&daemon, "api", "billing", &["--max-nodes", "2"]).await;
    place.alert("billing", "critical", "Alert opened on billing: it is down").await;
    eventually("two nodes of the named group serve", async || (serving(&daemon, "api").await == 2).then_some(())).await;
    let other = at_rest(&daemon, "web").await;
    assert_eq!((other["in_service"].as_u64(), &other["incidents"]), (Some(1), &json!([])), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_an_incident_is_seen_while_it_is_open_and_gone_when_it_is_over() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "1"]).await;
    place.alert("shop", "critical", "Alert opened on shop: it is down").await;
    until_open(&daemon, true).await;
    assert!(daemon.cli(&["asg", "list"]).await.contains("1 open"));
    place.alert("shop", "critical", "Alert ended on shop: it is up").await;
    until_open(&daemon, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a28_simulated_trouble_and_recovery_go_through_the_real_door() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "2"]).await;
    let said = daemon.cli(&["chat", "!asg simulate crit application=shop"]).await;
    assert!(said.contains("New Relic's listener took it in: crit of shop"), "{said}");
    eventually("two nodes serve", async || (serving(&daemon, "web").await == 2).then_some(())).await;
    let said = daemon.cli(&["chat", "!asg simulate recovery application=shop"]).await;
    assert!(said.contains("recovery of shop"), "{said}");
    until_open(&daemon, false).await;
    let delivered = daemon.get("/v1/triggerinstances?trigger=newrelic.WebAppNormalTrigger").await;
    assert_eq!(delivered.as_array().unwrap().len(), 1, "{delivered}");
    let closed = format!("!asg simulate crit url={}", place.newrelic.replace("nrhook", "nobody"));
    let said = daemon.cli(&["chat", &closed]).await;
    assert!(said.contains("did not take it: no sensor listens on /st2/nobody"), "{said}");
    assert!(said.contains("newrelic_api_key"), "the way out: {said}");
    assert_eq!(daemon.cli(&["chat", "!asg simulate crit"]).await.matches("crit of Default Application").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_11_the_recovery_of_a_server_finds_its_rule() {
    let place = Place::new();
    let daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "db-1", &["--max-nodes", "1"]).await;
    place.server_alert("db-1", "Alert opened on db-1: CPU > 90 %").await;
    until_open(&daemon, true).await;
    place.server_alert("db-1", "Alert ended on db-1").await;
    until_open(&daemon, false).await;
    let seen = daemon.get("/v1/triggerinstances?trigger=newrelic.ServerNormalTrigger").await;
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_19_a_recovery_that_is_held_back_survives_kill_9() {
    let place = Place::new();
    place.site.write("configs/newrelic.yaml", "normal_report_delay: 3\n");
    let mut daemon = Daemon::start(&place.site).await;
    create(&daemon, "web", "shop", &["--max-nodes", "1"]).await;
    place.alert("shop", "critical", "Alert opened on shop: it is down").await;
    until_open(&daemon, true).await;
    assert_eq!(place.alert("shop", "critical", "Alert ended on shop: it is up").await.status(), 202);
    daemon.kill9().await;
    daemon.restart().await;
    until_open(&daemon, false).await;
}

async fn until_open(daemon: &Daemon<'_>, open: bool) {
    eventually("the incident is shown as it is", async || {
        let incidents = daemon.get("/v1/asg/web").await["incidents"].clone();
        ((incidents != json!([])) == open).then_some(())
    })
    .await;
}
