//! Scripts that take too much are ended with the name of the limit and the line, and cannot catch it.

use super::memory_host::{MemoryHost, bundle};
use super::*;

fn limited(script: &str, limits: &Limits) -> LimitExceeded {
    let ends = [Life::Hot, Life::Cold].map(|life| MemoryHost::new(life).drive(&bundle(script), &json!({}), limits));
    assert_eq!(ends[0], ends[1], "{script}");
    match &ends[0] {
        TurnEnd::LimitExceeded(limit) => limit.clone(),
        other => panic!("{script} ended as {other:?}"),
    }
}

#[test]
fn a_script_over_a_limit_ends_with_its_name_and_line() {
    use LimitKind::{ArraySize, CallDepth, MapSize, Operations, StringSize};
    let limits = Limits { operations: 20_000, array_size: 100, map_size: 100, ..Limits::default() };
    let cases = [
        ("\nloop { let x = 1; }", Operations, 2),
        ("try {\n loop { let x = 1; } } catch { }", Operations, 2),
        ("try { [1].map(|x| {\n loop { let x = 1; } }) } catch { }\n 1 + 1; ()", Operations, 2),
        ("retry(#{attempts: 9}, || {\n loop { let x = 1; } })", Operations, 2),
        ("parallel([|| {\n loop { let x = 1; } }])", Operations, 2),
        ("let s = \"x\";\nloop { s += s; }", StringSize, 2),
        ("let a = [];\nloop { a.push(1); }", ArraySize, 2),
        ("let s = \"\";\ns.pad(1_000_000_000, 'x');", StringSize, 2),
        ("let m = #{}; let i = 0;\nloop { m[`k${i}`] = i; i += 1; }", MapSize, 2),
        ("fn f(x) {\n f(x + 1) }\nf(1)", CallDepth, 2),
    ];
    for (script, kind, line) in cases {
        let limit = limited(script, &limits);
        assert_eq!(limit.limit, kind, "{script}: {limit}");
        if kind == Operations {
            assert!(limit.line.is_some(), "{script}: {limit}");
        } else {
            assert_eq!(limit.line, Some(line), "{script}: {limit}");
        }
    }
}

#[test]
fn the_deepest_allowed_recursion_fits_on_the_stack_of_a_thread() {
    let script = "fn f(n) { if n == 0 { 0 } else { 1 + f(n - 1) } } f(46)";
    assert_eq!(finishes(script), json!(46));
    let script = r#"fn f(n) { if n == 0 { run("t.echo", #{n: 1}).n } else { parallel([|| f(n - 1)])[0] } } f(10)"#;
    assert_eq!(finishes(script), json!(1));
}

#[test]
fn a_journal_that_is_full_ends_the_script_after_a_warning_at_half() {
    let limits = Limits { journal_entries: 10, ..Limits::default() };
    let host = MemoryHost::new(Life::Hot);
    let end = host.drive(&bundle("loop {\n log(\"x\"); }"), &json!({}), &limits);
    let TurnEnd::LimitExceeded(limit) = end else { panic!("{end:?}") };
    assert_eq!((limit.limit, limit.line), (LimitKind::JournalEntries, Some(2)));
    assert!(limit.to_string().contains("`journal_entries` of 10 in line 2: start a fresh journal with `restart"));
    assert_eq!(host.warnings(), ["the journal holds 5 of 10 entries; `restart(params)` starts a fresh one"]);
}

#[test]
fn a_journal_that_is_too_large_ends_the_script() {
    let limits = Limits { journal_bytes: 500, ..Limits::default() };
    let script = r#"loop { run("t.echo", #{text: "0123456789012345678901234567890123456789"}); }"#;
    assert_eq!(limited(script, &limits).limit, LimitKind::JournalBytes);
}

#[test]
fn operations_of_a_branch_are_bounded_but_do_not_add_up() {
    let limits = Limits { operations: 2_000, ..Limits::default() };
    let script = r#"map_items([1, 2, 3, 4, 5], |x| { let i = 0; while i < 200 { i += 1; } run("t.echo"); i })"#;
    let ends = [Life::Hot, Life::Cold].map(|life| MemoryHost::new(life).drive(&bundle(script), &json!({}), &limits));
    assert_eq!(ends[0], TurnEnd::Finished(json!([200, 200, 200, 200, 200])));
    assert_eq!(ends[0], ends[1]);
}
