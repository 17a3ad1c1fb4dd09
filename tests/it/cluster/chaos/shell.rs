//! What the processes of steps say about themselves: two attempts of one step never live at the same time, and none
//! begins after the step's end was written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use petrel::model::time::Timestamp;
use petrel::store::rows::ExecutionRow;

/// Daemons go by the clock of the store, as far as they can read it over a slow network; processes by the machine's.
const CLOCKS_DIFFER: Duration = Duration::from_millis(250);

/// One process of a step, from its first word to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    execution: String,
    began: Timestamp,
    last: Timestamp,
    has_ended: bool,
}

/// All of them.
pub(super) fn attempts(site: &Path) -> Vec<Attempt> {
    let text = fs::read_to_string(site.join("shell")).unwrap_or_default();
    let mut attempts: BTreeMap<(&str, &str), Attempt> = BTreeMap::new();
    for line in text.lines() {
        let [_, execution, process, nanos, word] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("half a line: `{line}`");
        };
        let at = Timestamp::from_micros(nanos.parse::<i64>().unwrap() / 1000);
        let new = Attempt { execution: execution.to_owned(), began: at, last: at, has_ended: false };
        let attempt = attempts.entry((execution, process)).or_insert(new);
        attempt.last = at;
        attempt.has_ended |= word == "ends";
    }
    attempts.into_values().collect()
}

/// What is wrong with them, in words.
pub(super) fn findings(attempts: &[Attempt], executions: &[ExecutionRow]) -> Vec<String> {
    let mut by_execution: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        by_execution.entry(&attempt.execution).or_default().push(attempt);
    }
    let mut findings = Vec::new();
    for row in executions.iter().filter(|row| row.action.as_str() == "c.shell") {
        let mut own = by_execution.remove(row.id.to_string().as_str()).unwrap_or_default();
        own.sort_by_key(|attempt| attempt.began);
        if own.windows(2).any(|pair| pair[1].began <= pair[0].last) {
            findings.push(format!("G3: two attempts of {} lived at the same time: {own:?}", row.id));
        }
        let too_late = |ended: Timestamp| own.iter().any(|attempt| attempt.last > ended.plus(CLOCKS_DIFFER));
        if row.ended_at.is_some_and(too_late) {
            findings.push(format!("G3: at work after its end: {own:?} of {row:?}"));
        }
        if !own.iter().any(|attempt| attempt.has_ended) {
            findings.push(format!("G3: {} was never run to its end: {own:?}", row.id));
        }
    }
    findings.extend(by_execution.into_values().map(|own| format!("G3: nobody asked for {own:?}")));
    findings
}
