//! G7 and G8: bad content is refused with its place and hurts nothing else; a bad script is bounded.

use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use regex::Regex;
use reqwest::StatusCode;
use serde_json::json;

use super::effects::{ids_by_tag, rule, site};
use crate::support::daemon::Daemon;
use crate::support::eventually;

/// The status with which a hook takes an event.
async fn knock(daemon: &Daemon<'_>, hook: &str) -> StatusCode {
    daemon.deliver(hook, None, &json!({ "n": hook })).await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g07_a_bad_rule_is_refused_with_its_place_and_the_last_good_one_works_on_also_after_a_restart() {
    let good = rule("e", "t.keyed", r#"{tag: "{{ trigger.body.n }}"}"#);
    let site = site().file("rules/e.yaml", &good);
    let mut daemon = Daemon::start(&site).await;
    assert_eq!(knock(&daemon, "e").await, StatusCode::ACCEPTED);
    site.write(
        "rules/e.yaml",
        &good.replace("enabled: true", "enabled: true\ncriteria:\n  trigger.body.n: {type: equls, pattern: x}"),
    );
    site.write("rules/broken.yaml", "name: broken\ntrigger: [unclosed\n");
    let place = Regex::new(r"rules/e\.yaml:\d+:\d+").unwrap();
    eventually("the mistake is told with its place", async || {
        let log = daemon.log();
        (place.is_match(&log) && log.contains("equls") && log.contains("rules/broken.yaml")).then_some(())
    })
    .await;
    assert_eq!(knock(&daemon, "e").await, StatusCode::ACCEPTED, "the last good version works on");
    daemon.kill9().await;
    daemon.restart().await;
    assert_eq!(knock(&daemon, "e").await, StatusCode::ACCEPTED, "also after a restart");
    daemon.until_idle().await;
    assert_eq!(ids_by_tag(&site, "keyed")["e"].len(), 3);
    let said = daemon.cli(&["validate"]).await;
    assert!(place.is_match(&said) && said.contains("help"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g07_a_broken_script_is_refused_with_its_place_and_the_last_good_one_works_on_also_after_a_restart() {
    let site = site().workflow("answers", "run(\"core.noop\");\n42");
    let mut daemon = Daemon::start(&site).await;
    site.write("workflows/answers.rhai", "let x = 1;\nlet y = ;\n");
    let place = Regex::new(r"workflows/answers\.rhai:2:9").unwrap();
    eventually("the mistake is told with its place", async || place.is_match(&daemon.log()).then_some(())).await;
    for restart in [false, true] {
        if restart {
            daemon.kill9().await;
            daemon.restart().await;
        }
        let id = daemon.run("default.answers", json!({})).await;
        let end = daemon.end_of(&id).await;
        assert_eq!(end["result"]["output"], 42, "restarted: {restart}: {end}");
    }
    site.write("workflows/answers.rhai", "43");
    eventually("the mended one is taken", async || {
        let id = daemon.run("default.answers", json!({})).await;
        (daemon.end_of(&id).await["result"]["output"] == 43).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g07_a_saved_file_takes_effect_within_seconds_and_a_removed_one_ends() {
    const SOON: Duration = Duration::from_secs(10);
    let site = site().file("rules/e.yaml", &rule("e", "core.noop", "{}"));
    let daemon = Daemon::start(&site).await;
    assert_eq!(knock(&daemon, "late").await, StatusCode::NOT_FOUND);
    let clock = SystemClock::new();
    site.write("rules/late.yaml", &rule("late", "core.noop", "{}"));
    std::fs::remove_file(site.path().join("rules/e.yaml")).unwrap();
    eventually("the new rule listens", async || (knock(&daemon, "late").await == StatusCode::ACCEPTED).then_some(()))
        .await;
    eventually("the old one is gone", async || (knock(&daemon, "e").await == StatusCode::NOT_FOUND).then_some(()))
        .await;
    assert!(clock.monotonic() < SOON, "it took {:?}", clock.monotonic());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g08_a_script_that_loops_or_grows_for_ever_fails_alone() {
    let site = site()
        .workflow("loops", "while true {}")
        .workflow("grows", r#"let s = "xxxxxxxxxxxxxxxx"; while true { s += s; }"#)
        .workflow("works", r#"run("t.keyed", #{ tag: "works" }); 1"#)
        .file("packs/t/actions/spins.yaml", "name: spins\nrunner_type: rhai\nparameters: {}\n")
        .file("packs/t/actions/spins.rhai", "let x = 0; loop { x += 1; }");
    let daemon = Daemon::start(&site).await;
    let mut bad = Vec::new();
    for action in ["default.loops", "default.grows", "t.spins"] {
        bad.push((action, daemon.run(action, json!({})).await));
    }
    let works = daemon.run("default.works", json!({})).await;
    assert_eq!(daemon.end_of(&works).await["status"], "succeeded", "others go on");
    let words = ["operations", "string", "operations"];
    for ((action, id), word) in bad.iter().zip(words) {
        let end = daemon.end_of(id).await;
        assert_eq!(end["status"], "failed", "{action}: {end}");
        assert!(end["result"].to_string().contains(word), "{action} says why: {end}");
    }
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
