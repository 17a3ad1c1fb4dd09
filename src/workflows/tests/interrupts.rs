//! Cancel, timeout and pause, and scripts that are not what they were.

use super::memory_host::{MemoryHost, bundle};
use super::*;

const SCRIPT: &str = r#"
    try { run("t.a"); run("t.b"); } catch { run("t.wrong") }
    parallel([|| run("t.c"), || run("t.d")]);
    [1].map(|x| run("t.e"));
    "done""#;

#[test]
fn an_interrupt_stops_the_script_at_the_next_new_step_wherever_it_comes() {
    for life in [Life::Hot, Life::Cold] {
        for entries in 1..7 {
            for interrupt in [Interrupt::Cancel, Interrupt::Timeout, Interrupt::Pause] {
                let host = MemoryHost::new(life);
                host.interrupt_when_there_are(entries, interrupt);
                let end = host.drive(&bundle(SCRIPT), &json!({}), &Limits::default());
                assert_eq!(end, TurnEnd::Interrupted(interrupt), "{life:?} after {entries}");
                assert!(host.written().len() <= entries + 1, "{life:?} after {entries}");
            }
        }
    }
}

#[test]
fn a_paused_script_goes_on_from_where_it_stood() {
    for entries in 1..7 {
        let host = MemoryHost::new(Life::Hot);
        host.interrupt_when_there_are(entries, Interrupt::Pause);
        let bundle = bundle(SCRIPT);
        assert_eq!(host.drive(&bundle, &json!({}), &Limits::default()), TurnEnd::Interrupted(Interrupt::Pause));
        host.interrupt_when_there_are(usize::MAX, Interrupt::Pause);
        host.interrupt(None);
        assert_eq!(host.drive(&bundle, &json!({}), &Limits::default()), TurnEnd::Finished(json!("done")));
    }
}

#[test]
fn what_is_recorded_is_replayed_under_an_interrupt() {
    let run = every_way(SCRIPT, &json!({}));
    let host = MemoryHost::with_journal(Life::Cold, &run.journal());
    host.interrupt(Some(Interrupt::Cancel));
    assert_eq!(host.drive(&bundle(SCRIPT), &json!({}), &Limits::default()), run.end);
}

#[test]
fn a_script_that_asks_something_else_diverges_and_both_are_named() {
    let recorded = every_way(
        r#"run("t.a", #{x: 1}); retry(#{attempts: 2}, || run("t.c")); map_items([1, 2], |x| run("t.m", #{x: x})); "end""#,
        &json!({}),
    );
    let cases = [
        (r#"run("t.b", #{x: 1})"#, "1", "asked is `run t.b {\"x\":1}`"),
        (r#"run("t.a", #{x: 2})"#, "1", "asked is `run t.a {\"x\":2}`"),
        (r#"try { spawn("t.a", #{x: 1}) } catch {}"#, "1", "asked is `spawn t.a"),
        (r#"run("t.a", #{x: 1});"#, "2", "the script ends before it"),
        (r#"run("t.a", #{x: 1}); throw "early""#, "2", "the script ends before it"),
        (r#"run("t.a", #{x: 1}); retry(#{attempts: 2}, || ());"#, "2.1.1", "the script ends before it"),
        (r#"run("t.a", #{x: 1}); retry(#{attempts: 2}, || run("t.c")); map_items([1], |x| x)"#, "3", "{\"branches\":1}"),
    ];
    for (script, position, text) in cases {
        let host = MemoryHost::with_journal(Life::Hot, &recorded.journal());
        let end = host.drive(&bundle(script), &json!({}), &Limits::default());
        let TurnEnd::Diverged(divergence) = end else { panic!("{script} ended as {end:?}") };
        assert_eq!(divergence.position, at(position), "{script}");
        assert!(divergence.to_string().contains(text), "{script}: {divergence}");
    }
}

#[test]
fn masked_parameters_are_compared_by_their_fingerprint() {
    let script = r#"run("t.login", #{password: params.password})"#;
    let mut journal = every_way(script, &json!({"password": "s3cret"})).journal();
    journal[0].request.params = json!({"password": "********"});
    let evaluate_with = |password: &str| {
        let host = MemoryHost::with_journal(Life::Cold, &journal);
        host.drive(&bundle(script), &json!({ "password": password }), &Limits::default())
    };
    assert!(matches!(evaluate_with("s3cret"), TurnEnd::Finished(_)));
    assert!(matches!(evaluate_with("guess"), TurnEnd::Diverged(_)));
}
