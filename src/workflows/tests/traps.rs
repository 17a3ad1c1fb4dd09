//! The places in which the script engine lets go of an uncatchable error: none of them may swallow a suspension.

use super::memory_host::{MemoryHost, bundle};
use super::*;

/// Expressions that call `run` where its error is wrapped or dropped.
const TRAPS: [&str; 7] = [
    r#"[1].map(|x| run("t.echo", #{x: x}))"#,
    r#"[1].filter(|x| run("t.echo", #{x: x}).x == 1)"#,
    r#"[1, 2].reduce(|sum, x| sum + run("t.echo", #{x: x}).x, 0)"#,
    r#"[1].for_each(|| run("t.echo", #{x: this}))"#,
    r#"{ let a = [3, 1, 2]; a.sort(|a, b| run("t.echo", #{d: a - b}).d); a }"#,
    r#"[1].some(|x| run("t.echo", #{x: x}).x == 1)"#,
    r#"call_it(|x| run("t.echo", #{x: x}))"#,
];

#[test]
fn a_suspension_is_not_swallowed_at_the_end_of_a_script() {
    for trap in TRAPS {
        let script = format!("fn call_it(f) {{ f.call(1) }} try {{ {trap} }} catch {{ }}");
        let host = MemoryHost::new(Life::Cold);
        let end = evaluate(&bundle(&script), &json!({}), host, &Limits::default());
        assert_eq!(end, TurnEnd::Suspended, "{trap}");
    }
}

#[test]
fn a_suspension_is_not_swallowed_before_another_step() {
    for trap in TRAPS {
        let script = format!(
            r#"fn call_it(f) {{ f.call(1) }}
               let x = try {{ {trap} }} catch {{ run("t.wrong"); "caught" }};
               run("t.after", #{{x: x}})"#
        );
        let run = every_way(&script, &json!({}));
        let steps = run.steps().join(", ");
        assert!(!steps.contains("t.wrong") && steps.contains("t.after"), "{trap}: {steps}");
    }
}

#[test]
fn a_suspension_is_not_swallowed_inside_a_branch() {
    for trap in TRAPS {
        let script = format!(
            r#"fn call_it(f) {{ f.call(1) }}
               parallel([|| {{ try {{ {trap} }} catch {{ "caught" }} }}, || run("t.echo", #{{}})])"#
        );
        let value = finishes(&script);
        assert_ne!(value[0], json!("caught"), "{trap}");
    }
}

#[test]
fn a_suspension_is_not_swallowed_inside_an_attempt() {
    for trap in TRAPS {
        let script = format!(
            r#"fn call_it(f) {{ f.call(1) }}
               retry(#{{attempts: 3}}, || {{ try {{ {trap} }} catch {{ throw "caught" }} }})"#
        );
        let steps = every_way(&script, &json!({})).steps().join(", ");
        assert!(!steps.contains("1.2."), "{trap}: {steps}");
    }
}

#[test]
fn a_long_sort_with_steps_in_it_survives_every_suspension() {
    let script = r#"let a = []; for i in 0..30 { a.push((i * 7) % 30); }
        a.sort(|a, b| run("t.echo", #{d: a - b}).d);
        a[0] == 0 && a[29] == 29"#;
    assert_eq!(finishes(script), json!(true));
}

#[test]
fn a_restart_inside_a_closure_of_map_is_a_restart() {
    let script = r#"try { [1].map(|x| restart(#{x: x})) } catch { run("t.wrong") }"#;
    assert_eq!(every_way(script, &json!({})).end, TurnEnd::Restart(json!({"x": 1})));
}
