//! From an event to an action: timers, webhooks, criteria, throttles, files that change under way, held events.

use std::collections::BTreeMap;
use std::time::Duration;

use petrel::intake::{Receipt, Seen};
use petrel::model::refs::InstanceId;
use petrel::model::trigger::{InstanceStatus, Trigger};
use petrel::packs::diagnostic::Severity;
use petrel::sensors::mapping::WebhookRequest;
use petrel::store::events::InstanceFilter;
use petrel::store::rows::Page;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::site::{Running, Site};

const PAGE: Page = Page { limit: 100, offset: 0 };

/// A rule on webhook `url` that appends a word to the file `log`.
fn rule(site: &Site, name: &str, url: &str, more: &str) -> String {
    let log = site.path().join("log").display().to_string();
    format!(
        "name: {name}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {{url: {url}}}\n{more}\n\
         action:\n  ref: core.local\n  parameters: {{cmd: 'echo {name} {{{{ trigger.body.word }}}} >> {log}'}}\n"
    )
}

fn with_rule(site: Site, name: &str, url: &str, more: &str) -> Site {
    let text = rule(&site, name, url, more);
    site.file(&format!("rules/{name}.yaml"), &text)
}

fn seen(url: &str, body: Value) -> Seen {
    let parameters = BTreeMap::from([("url".to_owned(), json!(url))]);
    let trigger = Trigger { trigger_type: "core.st2.webhook".parse().unwrap(), parameters };
    let payload = json!({ "headers": {}, "headers_lower": {}, "body": body });
    let identity = trigger.identity();
    Seen { trigger: identity, ..Seen::of_type(trigger.trigger_type, payload) }
}

async fn send(running: &Running, url: &str, body: Value) -> InstanceId {
    running.engine.intake.accept(seen(url, body)).await.unwrap().instance()
}

/// The rules that an instance fired, once it is processed.
async fn fired(running: &Running, instance: InstanceId) -> Vec<String> {
    let events = running.engine.store.events();
    eventually("the instance is processed", async || {
        let status = events.instance_get(instance).await.unwrap().status;
        (status != InstanceStatus::Pending).then_some(())
    })
    .await;
    let rows = events.enforcement_list(None, Some(instance), PAGE).await.unwrap();
    let mut rules: Vec<String> = rows.iter().map(|row| row.rule.name().to_owned()).collect();
    rules.sort();
    rules
}

fn log(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.path().join("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_fires_at_instants_that_do_not_drift() {
    let timer = "name: ticks\nenabled: true\ntrigger:\n  type: core.st2.IntervalTimer\n  \
                 parameters: {unit: seconds, delta: 1}\naction:\n  ref: core.local\n  \
                 parameters: {cmd: 'echo {{ trigger.executed_at }} >> LOG'}\n";
    let site = Site::new();
    let text = timer.replace("LOG", &site.path().join("log").display().to_string());
    let site = site.file("rules/ticks.yaml", &text);
    let running = site.start().await;
    eventually("three ticks", async || (log(&site).len() >= 3).then_some(())).await;
    let (seen, _) = running.engine.store.events().instance_list(&InstanceFilter::default(), PAGE).await.unwrap();
    let mut instants: Vec<i64> = seen.iter().map(|seen| seen.occurred_at.as_micros()).collect();
    instants.sort_unstable();
    for pair in instants.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(apart >= 1_000_000 && apart % 1_000_000 == 0, "{instants:?}");
    }
    let mut lines = log(&site);
    let count = lines.len();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), count, "no instant fired twice");
    running.stop().await;

    let anchor = instants[0];
    let again = site.start().await;
    eventually("it goes on", async || (log(&site).len() > count).then_some(())).await;
    let (seen, _) = again.engine.store.events().instance_list(&InstanceFilter::default(), PAGE).await.unwrap();
    assert_eq!((seen[0].occurred_at.as_micros() - anchor) % 1_000_000, 0, "the anchor survives a restart");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_becomes_one_enforcement_and_one_action_per_rule() {
    let site = with_rule(Site::new(), "first", "deploy", "");
    let site = with_rule(site, "second", "deploy", "");
    let site = with_rule(site, "elsewhere", "other", "");
    let running = site.start().await;
    let event = Seen { dedupe_key: Some("delivery-1".to_owned()), ..seen("deploy", json!({ "word": "x" })) };
    let accepted = running.engine.intake.accept(event.clone()).await.unwrap();
    let Receipt::New(id) = accepted else { panic!("{accepted:?}") };
    let again = running.engine.intake.accept(event).await.unwrap();
    assert!(matches!(again, Receipt::Duplicate(first) if first == id), "{again:?}");
    assert_eq!(fired(&running, id).await, ["first", "second"]);
    let mut lines = eventually("both actions ran", async || Some(log(&site)).filter(|log| log.len() == 2)).await;
    lines.sort();
    assert_eq!(lines, ["first x", "second x"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_criteria_hold_as_they_read_and_the_backstop_catches_the_rest() {
    let criterion = |word: &str| format!("{{trigger.body.word: {{type: eq, pattern: {word}}}}}");
    let site =
        with_rule(Site::new(), "any", "u", &format!("criteria:\n  any: [{}, {}]", criterion("a"), criterion("b")));
    let site = with_rule(
        site,
        "all",
        "u",
        &format!("criteria:\n  all:\n    - {}\n    - {{trigger.body.n: {{type: gt, pattern: 5}}}}", criterion("a")),
    );
    let site = with_rule(site, "not", "u", &format!("criteria:\n  not: {}", criterion("a")));
    let site = with_rule(site, "when", "u", "when: trigger.body.n == 7");
    let site = with_rule(site, "rest", "v", "type: backstop");
    let site = with_rule(site, "exact", "v", &format!("criteria: {}", criterion("a")));
    let running = site.start().await;
    let cases: [(&str, &str, i64, &[&str]); 6] = [
        ("u", "a", 9, &["all", "any"]),
        ("u", "a", 1, &["any"]),
        ("u", "b", 7, &["any", "not", "when"]),
        ("u", "c", 9, &["not"]),
        ("v", "a", 1, &["exact"]),
        ("v", "z", 1, &["rest"]),
    ];
    for (url, word, n, expected) in cases {
        let id = send(&running, url, json!({ "word": word, "n": n })).await;
        assert_eq!(fired(&running, id).await, expected, "{url} {word} {n}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttle_lets_one_per_key_pass() {
    let throttle = "throttle: {key: '{{ trigger.body.host }}', once_within: 10m}";
    let site = with_rule(Site::new(), "page", "alert", throttle);
    let running = site.start().await;
    let mut passed = Vec::new();
    for host in ["a", "a", "b", "a", "b"] {
        let id = send(&running, "alert", json!({ "host": host, "word": host })).await;
        passed.push(!fired(&running, id).await.is_empty());
    }
    assert_eq!(passed, [true, false, true, false, false]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g07_a_saved_file_takes_effect_and_a_broken_one_leaves_the_last_good_one() {
    let site = with_rule(Site::new(), "hot", "first", "");
    let running = site.start().await;
    let clock = std::sync::Arc::clone(&running.engine.world.clock);
    let saved = clock.now();
    site.write("rules/hot.yaml", &rule(&site, "hot", "second", ""));
    eventually("the catalogue knows", async || knows(&running, "second").then_some(())).await;
    assert!(clock.now().since(saved) < Duration::from_secs(3), "{:?}", clock.now().since(saved));
    let id = send(&running, "second", json!({ "word": "x" })).await;
    assert_eq!(fired(&running, id).await, ["hot"]);

    site.write(
        "rules/hot.yaml",
        &rule(&site, "hot", "third", "criteria: {trigger.body.word: {type: equels, pattern: x}}"),
    );
    eventually("it is refused", async || refused(&running)).await;
    assert!(knows(&running, "second") && !knows(&running, "third"));
    let id = send(&running, "second", json!({ "word": "x" })).await;
    assert_eq!(fired(&running, id).await, ["hot"]);
    running.stop().await;

    let again = site.start().await;
    let text = refused(&again).unwrap();
    assert!(text.contains("hot.yaml") && text.contains("equels"), "{text}");
    let id = send(&again, "second", json!({ "word": "x" })).await;
    assert_eq!(fired(&again, id).await, ["hot"], "also after a restart");
    again.stop().await;
}

fn knows(running: &Running, url: &str) -> bool {
    let catalogue = running.engine.catalogue.borrow();
    catalogue.rules.values().any(|rule| rule.trigger.parameters.get("url") == Some(&json!(url)))
}

fn refused(running: &Running) -> Option<String> {
    let found = running.engine.content.diagnostics();
    found.iter().find(|one| one.severity == Severity::Error).map(ToString::to_string)
}

/// A message of a New Relic workflow about one issue.
fn issue(state: &str, second: i64) -> WebhookRequest {
    let body = json!({
        "id": "5f1f2f6e", "issueUrl": "https://example.com/5f1f", "title": "slow", "priority": "CRITICAL",
        "impactedEntities": ["web"], "totalIncidents": 1, "state": state, "trigger": "STATE_CHANGE",
        "isCorrelated": false, "createdAt": 1_617_881_246_000_i64, "updatedAt": 1_617_881_246_000_i64 + second * 1000,
        "closedAt": 1_617_881_246_000_i64 + second * 1000, "sources": ["newrelic"], "alertPolicyNames": ["p"],
        "alertConditionNames": ["c"], "workflowName": "To Petrel"
    });
    WebhookRequest {
        method: "POST".to_owned(),
        path: "st2/nrhook".to_owned(),
        headers: BTreeMap::new(),
        query: BTreeMap::new(),
        body,
        content_type: Some("application/json".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_is_held_back_and_withdrawn_if_the_alert_comes_again() {
    let site = Site::new().file("configs/newrelic.yaml", "normal_report_delay: 1\n");
    let running = site.start().await;
    let hooks = running.engine.hooks();
    let sensor = hooks.find(Some("newrelic"), "/st2/nrhook").unwrap();
    let hears = async |state: &str, second: i64| hooks.receive(&sensor, &issue(state, second)).await.unwrap();
    let heard = async || {
        let (rows, _) = running.engine.store.events().instance_list(&InstanceFilter::default(), PAGE).await.unwrap();
        rows.iter().rev().map(|row| row.trigger_type.name().to_owned()).collect::<Vec<_>>()
    };
    hears("ACTIVATED", 0).await;
    hears("CLOSED", 10).await;
    hears("ACTIVATED", 20).await;
    assert_eq!(running.engine.store.events().holds_next().await.unwrap(), None, "withdrawn");
    assert_eq!(heard().await, ["WebAppAlertTrigger", "WebAppAlertTrigger"]);

    hears("CLOSED", 30).await;
    let due = running.engine.store.events().holds_next().await.unwrap().unwrap();
    assert_eq!(heard().await.len(), 2, "held back");
    let all = eventually("the recovery happens", async || Some(heard().await).filter(|heard| heard.len() == 3)).await;
    assert_eq!(all[2], "WebAppNormalTrigger");
    assert!(running.engine.world.clock.now() >= due);
    running.stop().await;
}
