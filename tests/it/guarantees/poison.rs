//! What kills the daemon each time it is evaluated is set aside, and everything else goes on.

use std::fs;

use petrel::model::execution::ExecutionStatus;
use reqwest::StatusCode;
use serde_json::json;

use super::effects::{rule, site};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// Rules on one event that together take long enough for a test to see that it is matched.
const SLOW_RULES: usize = 16;

const SLOW_SCRIPT: &str = "let n = 0; while n < 1000000 { n += 1; } n";

/// Kills the daemon each time it evaluates this, until it has set it aside. Gives back how often.
async fn kill_while_evaluated(daemon: &mut Daemon<'_>, id: &str, is_over: impl AsyncFn(&Daemon<'_>) -> bool) -> usize {
    let mut deaths = 0;
    loop {
        let evaluated = eventually("it is evaluated or set aside", async || {
            let text = fs::read_to_string(daemon.data_dir().join("evaluating")).unwrap_or_default();
            if text.contains(id) {
                return Some(true);
            }
            is_over(daemon).await.then_some(false)
        });
        if !evaluated.await {
            return deaths;
        }
        daemon.kill9().await;
        deaths += 1;
        assert!(deaths < 10, "it goes on killing");
        daemon.restart().await;
    }
}

fn poisoned_site() -> Site {
    let action = "name: slow\nrunner_type: rhai\nentry_point: slow.rhai\non_lost: retry\nparameters: {}\n";
    site()
        .file("packs/t/actions/slow.yaml", action)
        .file("packs/t/actions/slow.rhai", SLOW_SCRIPT)
        .file("rules/e.yaml", &rule("e", "t.keyed", r#"{tag: "e{{ trigger.body.n }}"}"#))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_that_kills_the_daemon_three_times_alone_is_set_aside() {
    let site = poisoned_site();
    let mut daemon = Daemon::start(&site).await;
    let id = daemon.run("t.slow", json!({})).await;
    let over = async |daemon: &Daemon<'_>| {
        let row = daemon.execution(&id).await;
        crate::support::daemon::is_over(&row["status"])
    };
    let deaths = kill_while_evaluated(&mut daemon, &id, over).await;
    let end = daemon.end_of(&id).await;
    assert_eq!((deaths, &end["status"]), (4, &json!(ExecutionStatus::Abandoned.as_str())), "{end}");
    let reason = end["result"]["error"].as_str().unwrap();
    assert!(reason.contains("died 3 times"), "{reason}");
    assert!(daemon.log().contains("it is set aside"));
    // Everything else goes on, and a copy can be asked for.
    let answer = daemon.deliver("e", None, &json!({ "n": 1 })).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let (status, copy) = daemon.post(&format!("/v1/executions/{id}/re_run"), &json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{copy}");
    daemon.until_idle().await;
    assert_eq!(daemon.end_of(copy["id"].as_str().unwrap()).await["status"], "succeeded");
    assert_eq!(daemon.count("/v1/executions?action=t.keyed&status=succeeded").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_the_daemon_three_times_alone_is_set_aside() {
    let site = (0..SLOW_RULES).fold(poisoned_site(), |site, n| {
        let slow = r#"{tag: "{% for i in range(40000) %}{% endfor %}"}"#;
        let rule = rule("poison", "t.once", slow).replace("on_poison", &format!("on_poison_{n}"));
        site.file(&format!("rules/poison{n}.yaml"), &rule)
    });
    let mut daemon = Daemon::start(&site).await;
    let poison = daemon.deliver("poison", None, &json!({ "n": 0 })).await.unwrap().instance;
    let over = async |daemon: &Daemon<'_>| {
        let row = daemon.get(&format!("/v1/triggerinstances/{poison}")).await;
        row["status"] != "pending"
    };
    let deaths = kill_while_evaluated(&mut daemon, &poison, over).await;
    let row = daemon.get(&format!("/v1/triggerinstances/{poison}")).await;
    assert_eq!((deaths, &row["status"]), (4, &json!("processing_failed")), "{row}");
    assert!(row["failure_reason"].as_str().unwrap().contains("died 3 times"), "{row}");
    let (status, answer) = daemon.post(&format!("/v1/triggerinstances/{poison}/re_emit"), &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    daemon.deliver("e", None, &json!({ "n": 1 })).await.unwrap();
    daemon.until_idle().await;
    assert_eq!(daemon.count("/v1/executions?action=t.keyed&status=succeeded").await, 1);
}
