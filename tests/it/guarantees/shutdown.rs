//! G11: SIGTERM lets short actions finish, ends long ones as they wish, and loses nothing.

use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use serde_json::json;

use super::effects::{lines, site, times_by_tag};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

async fn begun(site: &Site, tag: &str) {
    eventually("it begins", async || lines(site, "begun").iter().any(|(begun, _)| begun == tag).then_some(())).await;
}

async fn end_in_order(daemon: &mut Daemon<'_>) {
    let status = daemon.terminate().await;
    assert_eq!(status.code(), Some(0), "it ends well");
    assert!(!daemon.data_dir().join("endpoints.json").exists(), "nobody is sent to where nobody answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g11_what_runs_at_sigterm_is_given_time_to_finish() {
    let site =
        site().workflow("two", r#"run("t.slow_once", #{ tag: "w1", seconds: 1 }); run("t.once", #{ tag: "w2" }); 7"#);
    let mut daemon = Daemon::start(&site).await;
    let alone = daemon.run("t.slow_once", json!({ "tag": "alone", "seconds": 1 })).await;
    let workflow = daemon.run("default.two", json!({})).await;
    begun(&site, "alone").await;
    begun(&site, "w1").await;
    end_in_order(&mut daemon).await;
    assert_eq!(times_by_tag(&site, "once").get("alone"), Some(&1), "it was not cut off");
    daemon.restart().await;
    assert_eq!(daemon.execution(&alone).await["status"], "succeeded");
    let end = daemon.end_of(&workflow).await;
    assert_eq!((&end["status"], &end["result"]["output"]), (&json!("succeeded"), &json!(7)), "{end}");
    assert!(times_by_tag(&site, "once").values().all(|times| *times == 1), "{:?}", lines(&site, "once"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g11_what_does_not_finish_in_time_ends_by_its_on_lost() {
    let site = site().setting("server.shutdown_grace", "500ms");
    let mut daemon = Daemon::start(&site).await;
    let lost = daemon.run("t.slow_once", json!({ "tag": "lost", "seconds": 30 })).await;
    let again = daemon.run("t.slow_keyed", json!({ "tag": "again", "seconds": 3 })).await;
    let later = daemon.run_later("t.once", json!({ "tag": "later" }), 2_500).await;
    begun(&site, "lost").await;
    begun(&site, "again").await;
    let clock = SystemClock::new();
    end_in_order(&mut daemon).await;
    assert!(clock.monotonic() < Duration::from_secs(20), "it did not wait for the long one");
    daemon.restart().await;
    let end = daemon.end_of(&lost).await;
    assert_eq!(end["status"], "abandoned", "{end}");
    assert_eq!(daemon.end_of(&again).await["status"], "succeeded", "it was run again");
    assert_eq!(daemon.end_of(&later).await["status"], "succeeded", "what had not begun is still to come");
    let mut ids: Vec<String> =
        lines(&site, "begun").into_iter().filter(|(tag, _)| tag == "again").map(|(_, id)| id).collect();
    ids.dedup();
    assert_eq!(ids, [again], "under the same execution id");
    assert_eq!(times_by_tag(&site, "once").get("lost"), None);
}

/// Found by the matrix, which has a thousand engines in one process: runners and dispatcher held each other, and with them
/// every engine's store stayed open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_stopped_lets_go_of_its_store() {
    let site = site();
    let open = || {
        let files =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| entry.unwrap().path().read_link().ok());
        files.filter(|file| file.starts_with(site.path().join("data"))).count()
    };
    let running = site.start().await;
    running.succeed("core.noop", json!({})).await;
    assert!(open() > 0, "its database is open");
    running.stop().await;
    eventually("its files are closed", async || (open() == 0).then_some(())).await;
}
