//! G12: a step of a workflow costs the same at its end as at its beginning. (Rules: see the index in `rules`.)

use serde_json::json;

use super::effects::{PARKING, site};
use crate::support::daemon::Daemon;

/// Generous: another test may have the machine just then.
const MOST_GROWTH: f64 = 3.0;

async fn seconds_per_step(daemon: &Daemon<'_>, steps: u32) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let id = daemon.run("default.many", json!({ "steps": steps })).await;
        let end = daemon.end_of(&id).await;
        assert_eq!(end["result"]["output"], steps, "{end}");
        best = best.min(end["elapsed_seconds"].as_f64().unwrap() / f64::from(steps));
    }
    best
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g12_a_step_costs_the_same_in_a_long_workflow_as_in_a_short_one() {
    let hot = PARKING[0];
    let site = site().setting("workers.park", hot).workflow_with(
        "many",
        r#"for i in 0..params.steps { run("core.noop"); } params.steps"#,
        "{steps: {type: integer, required: true}}",
    );
    let daemon = Daemon::start(&site).await;
    let short = seconds_per_step(&daemon, 20).await;
    let long = seconds_per_step(&daemon, 200).await;
    assert!(long < short * MOST_GROWTH, "{long} s per step of 200, {short} s of 20");
}
