//! Stories of workflows. Each runs hot (the thread waits), cold (evaluated again after every outcome) and dying after
//! every journal write, and has to end the same, with the same journal and every effect done exactly once.

mod branches;
mod bundles;
mod interrupts;
mod limits;
mod memory_host;
mod random_scripts;
mod steps;
mod traps;

use serde_json::{Value, json};

use super::*;
use memory_host::{Life, Run, run_script};

/// Runs a script every way there is and gives what they agree on.
fn every_way(script: &str, params: &Value) -> Run {
    let hot = run_script(script, params, Life::Hot);
    for life in [Life::Cold, Life::DiesAfter(1), Life::DiesAfter(3)] {
        let other = run_script(script, params, life);
        assert_eq!(other.end, hot.end, "{life:?} ended otherwise: {script}");
        assert_eq!(other.journal(), hot.journal(), "{life:?} has another journal: {script}");
        other.assert_every_effect_happened_once();
    }
    hot.assert_every_effect_happened_once();
    hot
}

/// What a script that finishes returns, every way.
fn finishes(script: &str) -> Value {
    match every_way(script, &json!({})).end {
        TurnEnd::Finished(value) => value,
        other => panic!("{script} ended as {other:?}"),
    }
}

/// What a script that fails raises, every way.
fn fails(script: &str) -> StepError {
    match every_way(script, &json!({})).end {
        TurnEnd::Failed(error) => error,
        other => panic!("{script} ended as {other:?}"),
    }
}

fn at(text: &str) -> Position {
    text.parse().unwrap()
}
