//! G1 to G3 one by one: acknowledged, enforced once, continued from the journal, whenever the daemon dies.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use petrel::clock::{SystemClock, sleep};
use petrel::model::execution::ExecutionStatus;
use petrel::model::trigger::InstanceStatus;
use petrel::store::events::InstanceFilter;
use petrel::store::executions::ExecutionFilter;
use petrel::store::rows::Page;
use reqwest::StatusCode;
use serde_json::json;

use super::effects::{PARKING, ids_by_tag, lines, rule, site, times_by_tag};
use crate::support::daemon::{Daemon, Delivered};
use crate::support::eventually;
use crate::support::site::Site;

const ALL: Page = Page { limit: 10_000, offset: 0 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_what_was_acknowledged_survives_kill_9_and_is_processed_once() {
    let site = site().file("rules/e.yaml", &rule("e", "t.keyed", r#"{tag: "{{ trigger.body.n }}"}"#));
    let mut daemon = Daemon::start(&site).await;
    let mut acknowledged: BTreeMap<usize, String> = BTreeMap::new();
    for (round, millis) in [5, 20, 60].into_iter().enumerate() {
        let sent = join_all((0..40).map(|i| {
            let (n, daemon) = (100 * round + i, &daemon);
            async move {
                let key = (i % 2 == 0).then(|| format!("delivery-{n}"));
                (n, daemon.deliver("e", key.as_deref(), &json!({ "n": format!("e{n}") })).await)
            }
        }));
        let pid = daemon.pid();
        let kill = async {
            sleep(&SystemClock::new(), Duration::from_millis(millis)).await;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        let (answers, ()) = tokio::join!(sent, kill);
        daemon.kill9().await;
        let accepted = |answer: Delivered| (answer.status == StatusCode::ACCEPTED).then_some(answer.instance);
        acknowledged.extend(answers.into_iter().filter_map(|(n, answer)| Some((n, accepted(answer?)?))));
        daemon.restart().await;
    }
    assert!(!acknowledged.is_empty(), "nothing was acknowledged before any of the kills");
    daemon.until_idle().await;
    daemon.kill9().await;
    let (instances, _) = daemon.store().events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
    let ran = ids_by_tag(&site, "keyed");
    for (n, id) in acknowledged {
        let tag = format!("e{n}");
        let found: Vec<_> = instances.iter().filter(|instance| instance.payload["body"]["n"] == tag.as_str()).collect();
        assert_eq!(found.len(), 1, "{tag} was acknowledged once");
        assert_eq!((found[0].id.to_string(), found[0].status), (id, InstanceStatus::Processed));
        assert_eq!(ran[&tag].len(), 1, "{tag} caused one execution");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g02_one_event_and_one_rule_give_one_enforcement_whatever_is_repeated() {
    let site = site().file("rules/e.yaml", &rule("e", "t.once", r#"{tag: "{{ trigger.body.n }}"}"#));
    let mut daemon = Daemon::start(&site).await;
    let body = json!({ "n": "the-one" });
    let mut instances = Vec::new();
    for _ in 0..4 {
        let repeated = join_all((0..5).map(|_| daemon.deliver("e", Some("the-delivery"), &body))).await;
        for answer in repeated.into_iter().flatten() {
            assert_eq!(answer.status, StatusCode::ACCEPTED);
            instances.push(answer.instance);
        }
        daemon.kill9().await;
        daemon.restart().await;
    }
    daemon.until_idle().await;
    instances.dedup();
    assert_eq!(instances.len(), 1, "every repetition was answered with the first instance");
    daemon.kill9().await;
    let store = daemon.store();
    let enforcements = store.events().enforcement_list(None, None, ALL).await.unwrap();
    assert_eq!(enforcements.len(), 1);
    let (_, executions) = store.executions().execution_list(&ExecutionFilter::default(), ALL).await.unwrap();
    assert_eq!(executions, 1);
    assert!(lines(&site, "once").len() <= 1, "{:?}", lines(&site, "once"));
}

fn steps() -> Site {
    site().workflow(
        "steps",
        r#"
            run("t.once", #{ tag: "first" });
            run("t.slow_keyed", #{ tag: "again" });
            let lost = "";
            try { run("t.slow_once", #{ tag: "lost" }) } catch (e) { lost = e.status }
            run("t.once", #{ tag: "last" });
            lost
        "#,
    )
}

/// Kills the daemon when the slow step with this tag has begun.
async fn kill_in_step(daemon: &mut Daemon<'_>, site: &Site, tag: &str) {
    eventually("the step begins", async || lines(site, "begun").iter().any(|(begun, _)| begun == tag).then_some(()))
        .await;
    daemon.kill9().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_a_workflow_continues_and_a_step_in_flight_follows_its_on_lost() {
    for park in PARKING {
        let site = steps().setting("workers.park", park);
        let mut daemon = Daemon::start(&site).await;
        let id = daemon.run("default.steps", json!({})).await;
        kill_in_step(&mut daemon, &site, "again").await;
        daemon.restart().await;
        kill_in_step(&mut daemon, &site, "lost").await;
        daemon.restart().await;

        let end = daemon.end_of(&id).await;
        assert_eq!(end["status"], "succeeded", "park {park}: {end}");
        assert_eq!(end["result"]["output"], "abandoned", "the script saw that the step was lost: {end}");
        let again: Vec<_> = lines(&site, "begun").into_iter().filter(|(tag, _)| tag == "again").collect();
        assert_eq!(again.len(), 2, "it was begun again: {again:?}");
        assert_eq!(again[0].1, again[1].1, "under the same execution id");
        assert_eq!(ids_by_tag(&site, "keyed")["again"].len(), 1);
        let once = times_by_tag(&site, "once");
        assert_eq!((once.get("first"), once.get("last"), once.get("lost")), (Some(&1), Some(&1), None), "{once:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_a_rollback_that_is_killed_in_the_middle_undoes_the_rest_once() {
    for park in PARKING {
        let site = site().setting("workers.park", park).workflow(
            "undone",
            r#"
                run("t.once", #{ tag: "a" }, #{ undo: ["t.keyed", #{ tag: "undo-a" }] });
                run("t.once", #{ tag: "b" }, #{ undo: ["t.slow_keyed", #{ tag: "undo-b" }] });
                run("t.once", #{ tag: "c" }, #{ undo: ["t.keyed", #{ tag: "undo-c" }] });
                fail("on purpose");
            "#,
        );
        let mut daemon = Daemon::start(&site).await;
        let id = daemon.run("default.undone", json!({})).await;
        kill_in_step(&mut daemon, &site, "undo-b").await;
        daemon.restart().await;
        let end = daemon.end_of(&id).await;
        assert_eq!((&end["status"], &end["result"]["rollback"]), (&json!("failed"), &json!("complete")), "{end}");
        let mut undone: Vec<String> = lines(&site, "keyed").into_iter().map(|(tag, _)| tag).collect();
        undone.dedup();
        assert_eq!(undone, ["undo-c", "undo-b", "undo-a"], "in reverse, park {park}");
        assert!(ids_by_tag(&site, "keyed").values().all(|ids| ids.len() == 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g03_an_action_that_died_with_its_daemon_is_abandoned_and_not_run_again() {
    let site = site();
    let mut daemon = Daemon::start(&site).await;
    let id = daemon.run("t.slow_once", json!({ "tag": "alone" })).await;
    kill_in_step(&mut daemon, &site, "alone").await;
    daemon.restart().await;
    let end = daemon.end_of(&id).await;
    assert_eq!(end["status"], ExecutionStatus::Abandoned.as_str());
    assert_eq!(lines(&site, "begun").len(), 1);
    assert_eq!(lines(&site, "once"), [], "its process ended with the daemon");
}
