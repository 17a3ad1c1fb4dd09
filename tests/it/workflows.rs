//! Workflows end to end: scripts over real steps, with parked threads and without, ended and resumed.

use petrel::model::execution::ExecutionStatus;
use serde_json::json;

use crate::support::eventually;
use crate::support::site::Site;

/// Both ways to wait for a step: on a thread, and in the journal only.
const PARKING: [&str; 2] = ["5s", "0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_runs_its_steps_in_order_and_returns_what_it_says() {
    for park in PARKING {
        let site = Site::new().setting("workers.park", park).workflow(
            "hello",
            r#"
                let a = run("core.local", #{ cmd: "echo one" }).stdout;
                let b = run("core.local", #{ cmd: `echo ${a} two` }).stdout;
                b
            "#,
        );
        let running = site.start().await;
        let result = running.succeed("default.hello", json!({})).await;
        assert_eq!(result["output"], "one two", "park {park}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_caught_or_rolls_back_in_reverse() {
    for park in PARKING {
        let site = Site::new().setting("workers.park", park).workflow_with(
            "build",
            r#"
                for name in ["a", "b"] {
                    run("core.local", #{ cmd: `echo +${name} >> ${params.log}` },
                        #{ undo: ["core.local", #{ cmd: `echo -${name} >> ${params.log}` }] });
                }
                try { run("core.local", #{ cmd: "exit 3" }) } catch (e) { log(e.message) }
                run("core.local", #{ cmd: "exit 4" });
            "#,
            "{log: {type: string, required: true}}",
        );
        let running = site.start().await;
        let log = site.path().join("log");
        let end = running.run("default.build", json!({ "log": log.display().to_string() })).await;
        assert_eq!(end.status, ExecutionStatus::Failed, "{:?}", end.result);
        let result = end.result.expect("a result");
        assert_eq!(result["rollback"], "complete", "{result}");
        assert_eq!(std::fs::read_to_string(&log).expect("the log"), "+a\n+b\n-b\n-a\n");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_run_side_by_side_and_come_back_in_order() {
    for park in PARKING {
        let site = Site::new().setting("workers.park", park).workflow(
            "many",
            r#"
                let doubled = map_items([1, 2, 3, 4, 5], |x| { run("core.noop"); x * 2 }, #{ concurrency: 2 });
                let both = parallel([|| run("core.local", #{ cmd: "echo l" }).stdout, || 7]);
                #{ doubled: doubled, both: both }
            "#,
        );
        let running = site.start().await;
        let result = running.succeed("default.many", json!({})).await;
        assert_eq!(result["output"], json!({ "doubled": [2, 4, 6, 8, 10], "both": ["l", 7] }));
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleeps_signals_and_keys_work_and_a_signal_may_come_early() {
    let site = Site::new().workflow(
        "waits",
        r#"
            sleep("50ms");
            let n = kv_incr("count", 2);
            kv_set("seen", #{ n: n });
            let s = wait_signal("go", #{ key: "k1", timeout: "30s" });
            #{ n: kv_get("seen").n, said: s.word }
        "#,
    );
    let running = site.start().await;
    let now = running.engine.world.clock.now();
    let signal = petrel::store::journal::NewSignal {
        name: "go".to_owned(),
        correlation: "k1".to_owned(),
        sender: "test".to_owned(),
        payload: json!({ "word": "yes" }),
        expires_at: now.plus(std::time::Duration::from_secs(60)),
    };
    assert!(running.engine.store.journals().signal_send(&signal, now).await.expect("sent"));
    let result = running.succeed("default.waits", json!({})).await;
    assert_eq!(result["output"], json!({ "n": 2, "said": "yes" }));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canceled_workflow_stops_its_steps_and_undoes_what_it_did() {
    for park in PARKING {
        let site = Site::new().setting("workers.park", park).workflow_with(
            "long",
            r#"
                run("core.local", #{ cmd: `echo up > ${params.mark}` },
                    #{ undo: ["core.local", #{ cmd: `echo down > ${params.mark}` }] });
                run("core.local", #{ cmd: "sleep 600", timeout: 900 });
            "#,
            "{mark: {type: string, required: true}}",
        );
        let running = site.start().await;
        let mark = site.path().join("mark");
        let id = running.request("default.long", json!({ "mark": mark.display().to_string() })).await;
        let executions = running.engine.store.executions();
        eventually("the second step runs", async || {
            let children = executions.execution_children(id).await.expect("children");
            (children.len() == 2 && children[1].status == ExecutionStatus::Running).then_some(())
        })
        .await;
        running.engine.dispatcher.cancel(id).await.expect("cancel");
        let end = running.end_of(id).await;
        assert_eq!(end.status, ExecutionStatus::Canceled, "{:?}", end.result);
        assert_eq!(std::fs::read_to_string(&mark).expect("the mark"), "down\n");
        let children = executions.execution_children(id).await.expect("children");
        assert_eq!(children[1].status, ExecutionStatus::Canceled);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_workflow_asks_for_nothing_new_until_it_is_resumed() {
    let site = Site::new().workflow("steps", r#"for i in 0..50 { run("core.local", #{ cmd: "sleep 0.05" }); } "done""#);
    let running = site.start().await;
    let id = running.request("default.steps", json!({})).await;
    running.until(id, |row| row.status == ExecutionStatus::Running).await;
    running.engine.dispatcher.pause(id).await.expect("pause");
    running.until(id, |row| row.status == ExecutionStatus::Paused).await;
    let before = running.engine.store.executions().execution_children(id).await.expect("children").len();
    assert!(before < 50);
    running.engine.dispatcher.resume(id).await.expect("resume");
    let end = running.end_of(id).await;
    assert_eq!(end.status, ExecutionStatus::Succeeded, "{:?}", end.result);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_not_lost_to_a_turn_that_publishes() {
    let site = Site::new().workflow(
        "talks",
        r#"for i in 0..2000 { publish("at", i); run("core.local", #{ cmd: "sleep 0.02" }); } "never""#,
    );
    let running = site.start().await;
    let id = running.request("default.talks", json!({})).await;
    let executions = running.engine.store.executions();
    running.until(id, |row| row.status == ExecutionStatus::Running).await;
    eventually("three steps have begun", async || {
        let children = executions.execution_children(id).await.expect("children");
        (children.len() >= 3).then_some(())
    })
    .await;
    running.engine.dispatcher.cancel(id).await.expect("cancel");
    let end = running.end_of(id).await;
    assert_eq!(end.status, ExecutionStatus::Canceled, "{:?}", end.result);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_ends_as_timeout_when_its_own_time_is_up() {
    for park in PARKING {
        let site = Site::new().setting("workers.park", park).workflow(
            "hurry",
            r#"
                let end = "in time";
                try { run("core.pause", #{ max_pause: 600 }, #{ timeout: "1s" }); } catch (e) { end = e.status; }
                end
            "#,
        );
        let running = site.start().await;
        let result = running.succeed("default.hurry", json!({})).await;
        assert_eq!(result["output"], "timeout", "park {park}");
        running.stop().await;
    }
}
