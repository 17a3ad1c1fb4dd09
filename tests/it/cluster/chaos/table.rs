//! The figures of a run, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::books::Books;
use super::faults::Fault;
use super::groups;

/// The table.
pub(super) fn render(faults: &[Fault], books: &Books, findings: &[String], drained_in: Duration) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<42} {value}").expect("memory");
    let mut by_kind: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
    for fault in faults {
        let (times, lasted) = by_kind.entry(&fault.what).or_default();
        *times += 1;
        *lasted += fault.lasted;
    }
    line("faults", faults.len().to_string());
    for (kind, (times, lasted)) in by_kind {
        line(&format!("  {kind}"), format!("{times}, {:.1} s in all", lasted.as_secs_f64()));
    }
    let sent = &books.sent;
    line("webhooks", sent.webhooks.to_string());
    line("  acknowledged", sent.acknowledged.len().to_string());
    line("  answers that left it open", format!("{:?}", sent.unknown));
    line("events in the store", books.instances.len().to_string());
    line("  of them ticks", books.ticks().values().map(Vec::len).sum::<usize>().to_string());
    line("executions", books.executions.len().to_string());
    line("  begun again", books.begun_again().to_string());
    line("  abandoned (on_lost: fail)", books.abandoned().to_string());
    line("effects in the world", books.effects.len().to_string());
    line("orders to groups, calls to their provider", format!("{}, {}", sent.orders, groups::calls(&books.effects)));
    let count = |words: &[&str]| findings.iter().filter(|it| words.iter().any(|word| it.starts_with(word))).count();
    line("losses", count(&["G1", "G6"]).to_string());
    line("duplicates and other violations", count(&["G2", "G3", "G4", "G5"]).to_string());
    line("longest stall", format!("{:.1} s", books.longest_stall().as_secs_f64()));
    line("everything done after the last fault", format!("{:.1} s", drained_in.as_secs_f64()));
    text
}
