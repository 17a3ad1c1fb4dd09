//! Single steps: what they ask, what comes back, what can be caught.

use super::memory_host::{MemoryHost, bundle};
use super::*;

#[test]
fn a_step_gives_back_what_its_action_returned() {
    assert_eq!(finishes(r#"run("t.echo", #{a: 1, b: [1.5, "x", ()]})"#), json!({"a": 1, "b": [1.5, "x", null]}));
}

#[test]
fn steps_are_numbered_in_the_order_in_which_the_script_reaches_them() {
    let script = r#"
        fn twice(x) { run("t.echo", #{x: x}); run("t.echo", #{x: x}); }
        for i in 0..2 { twice(i); }
        sleep("1s");
        if now() == "" { uuid() } else { random_name("web-") }"#;
    let run = every_way(script, &json!({}));
    assert_eq!(
        run.steps(),
        ["1 run t.echo", "2 run t.echo", "3 run t.echo", "4 run t.echo", "5 sleep", "6 now", "7 random_name"]
    );
    assert_eq!(run.end, TurnEnd::Finished(json!("web-7")));
}

#[test]
fn a_recorded_error_can_be_caught_and_says_what_happened() {
    let script = r#"let seen = ();
        fn inner() { run("t.fail", #{}) }
        try { inner(); } catch (err) { seen = err; }
        seen"#;
    let expected = json!({
        "message": "t.fail went wrong", "status": "failed", "action": "t.fail", "position": "1",
        "details": {"exit_code": 2},
    });
    assert_eq!(finishes(script), expected);
}

#[test]
fn an_error_that_nobody_catches_fails_the_workflow_with_all_it_says() {
    let error = fails(r#"run("t.echo", #{}); run("t.slow", #{});"#);
    assert_eq!((error.message.as_str(), error.status.as_str()), ("t.slow went wrong", "timeout"));
    assert_eq!((error.position, error.action), (Some(at("2")), Some("t.slow".parse().unwrap())));
}

#[test]
fn what_a_script_throws_is_its_error() {
    let cases = [
        (r#"throw "no""#, "no", json!(null)),
        (r#"throw #{message: "no", code: 7}"#, "no", json!({"code": 7})),
        ("throw 42", "42", json!(42)),
        (r#"fail("no", #{code: 7})"#, "no", json!({"code": 7})),
        (r#"try { run("t.fail") } catch (e) { throw e }"#, "t.fail went wrong", json!({"exit_code": 2})),
    ];
    for (script, message, details) in cases {
        let error = fails(script);
        assert_eq!((error.message.as_str(), error.details), (message, details), "{script}");
    }
}

#[test]
fn a_mistake_in_the_script_names_its_place() {
    let error = fails("let a = 1;\nlet b = a.nonsense();");
    assert!(error.message.contains("nonsense"), "{error}");
    assert_eq!(error.details["line"], json!(2));
}

#[test]
fn params_are_known_in_main_in_functions_and_in_closures_and_can_be_hidden() {
    let script = r#"
        fn name() { params.name }
        fn hidden(params) { params }
        fn nested() { retry(#{attempts: 1}, || run("t.echo", #{n: params.name})) }
        [params.name, name(), hidden(1), nested().n, params.list.map(|x| x + params.list.len())]"#;
    let run = every_way(script, &json!({"name": "web", "list": [1, 2]}));
    assert_eq!(run.end, TurnEnd::Finished(json!(["web", "web", 1, "web", [3, 4]])));
}

#[test]
fn what_is_misspelt_or_of_the_wrong_kind_is_named() {
    let cases = [
        (r#"run("nodot")"#, "`nodot` is not a reference"),
        (r#"run("t.a", #{}, #{timeut: 1})"#, "`run` has no option `timeut`"),
        (r#"run("t.a", #{}, #{timeout: "5x"})"#, "`5x` is not a duration"),
        (r#"run("t.a", #{}, #{undo: "t.b"})"#, "`undo` has to be"),
        (r#"run("t.a", #{f: || 1})"#, "cannot be stored"),
        (r#"sleep_until("tomorrow")"#, "`tomorrow` is not a time"),
        (r#"log("loud", "x")"#, "`loud` is not a log level"),
        (r#"emit("x", #{})"#, "`x` is not a reference"),
        ("retry(#{}, || 1)", "needs the option `attempts`"),
        ("retry(#{attempts: 2, backoff: 0.5}, || 1)", "`backoff` has to be"),
        ("parallel([1])", "array of closures"),
        ("map_items([1], |x| x, #{concurrency: 0})", "`concurrency` has to be"),
        (r#"wait(#{handle: "7"})"#, "not a handle"),
        (r#"call("timestamp")"#, "call"),
    ];
    for (script, message) in cases {
        let error = fails(script);
        assert!(error.message.contains(message), "{script}: {error}");
    }
}

#[test]
fn retry_numbers_its_attempts_and_waits_longer_each_time() {
    let run = every_way(
        r#"retry(#{attempts: 3, delay: "10s", backoff: 2.0}, || { log("try"); run("t.fail", #{}) })"#,
        &json!({}),
    );
    assert_eq!(
        run.steps(),
        [
            "1 retry",
            "1.1.1 log",
            "1.1.2 run t.fail",
            "1.2 retry_delay",
            "1.2.1 log",
            "1.2.2 run t.fail",
            "1.3 retry_delay",
            "1.3.1 log",
            "1.3.2 run t.fail"
        ]
    );
    let delays: Vec<Value> = run.journal().iter().map(|entry| entry.request.params["millis"].clone()).collect();
    assert_eq!((&delays[3], &delays[6]), (&json!(10_000), &json!(20_000)));
    let TurnEnd::Failed(error) = run.end else { panic!("{:?}", run.end) };
    assert_eq!(error.position, Some(at("1.3.2")));
}

#[test]
fn retry_gives_the_value_of_the_first_attempt_that_has_one() {
    let script = r#"let tries = 0;
        let value = retry(#{attempts: 5}, || { tries += 1; if tries < 3 { run("t.fail") } else { run("t.echo", #{n: tries}) } });
        [value.n, tries, run("t.echo", #{after: true}).after]"#;
    assert_eq!(finishes(script), json!([3, 3, true]));
}

#[test]
fn spawned_children_run_while_the_script_goes_on() {
    let script = r#"
        let a = spawn("t.echo", #{n: 1});
        let b = spawn("t.fail", #{});
        let c = spawn("t.echo", #{n: 3}, #{timeout: "1m"});
        let failed = try { wait(b) } catch (e) { e.action };
        let all = wait_all([a, c]);
        [wait(c).n, all[0].n, failed, wait_any([c, a]).index]"#;
    assert_eq!(finishes(script), json!([3, 1, "t.fail", 0]));
}

#[test]
fn the_winner_of_wait_any_is_the_same_on_replay() {
    let script = r#"let a = spawn("t.echo", #{n: 1}); let b = spawn("t.echo", #{n: 2});
        let first = wait_any([a, b]);
        sleep(1);
        first.result.n"#;
    let bundle = bundle(script);
    let host = MemoryHost::new(Life::Cold);
    let evaluate_once = || evaluate(&bundle, &json!({}), host.clone(), &Limits::default());
    assert_eq!(evaluate_once(), TurnEnd::Suspended);
    assert!(host.deliver_where(|position| *position == at("2")));
    assert_eq!(evaluate_once(), TurnEnd::Suspended);
    assert!(host.deliver_where(|position| *position == at("1")));
    assert!(host.deliver_one());
    assert_eq!(evaluate_once(), TurnEnd::Finished(json!(2)));
}

#[test]
fn key_values_signals_questions_and_messages_are_steps() {
    let script = r##"
        kv_set("a", 1); kv_incr("a"); kv_incr("a", 5);
        let swapped = [kv_cas("a", 7, "x"), kv_cas("a", 7, "y")];
        let seen = [kv_get("a"), kv_get("b"), kv_get("b", 9), kv_delete("a")];
        let signal = wait_signal("deployed", #{key: "web", timeout: "2h"}).signal;
        let answer = ask("Really?", #{roles: ["admin"]}).answer;
        emit("site.happened", #{x: 1}); notify("#ops", "done", #{severity: "info"});
        log("error", "oh"); print("p"); debug("d"); publish("address", "10.0.0.1"); sleep_until(now());
        [swapped, seen, signal, answer]"##;
    let value = finishes(script);
    assert_eq!(value, json!([[true, false], ["x", null, 9, true], "deployed", "yes"]));
}

#[test]
fn undo_is_in_the_journal_before_its_effect_and_runs_in_reverse() {
    let script = r#"
        run("t.create", #{n: 1}, #{undo: ["t.delete", #{n: 1}]});
        on_rollback("t.tidy", #{});
        try { run("t.fail", #{}, #{undo: ["t.unfail", #{}]}) } catch {}
        run("t.create", #{n: 2}, #{undo: ["t.delete", #{n: 2}], timeout: "10m"});"#;
    let host = MemoryHost::new(Life::Cold);
    let bundle = bundle(script);
    assert_eq!(evaluate(&bundle, &json!({}), host.clone(), &Limits::default()), TurnEnd::Suspended);
    assert_eq!(rollback_plan(&host.written()).len(), 1, "registered while the effect is in flight");
    host.drive(&bundle, &json!({}), &Limits::default());
    let plan = rollback_plan(&host.written());
    let plan: Vec<String> = plan.iter().map(|undo| format!("{} {} {}", undo.for_position, undo.action, undo.params)).collect();
    assert_eq!(plan, ["4 t.delete {\"n\":2}", "3 t.unfail {}", "2 t.tidy {}", "1 t.delete {\"n\":1}"]);
}

#[test]
fn restart_ends_the_evaluation_and_no_script_can_catch_it() {
    let script = r#"run("t.echo", #{}); try { restart(#{round: 2}); } catch { run("t.echo", #{}); }"#;
    assert_eq!(every_way(script, &json!({})).end, TurnEnd::Restart(json!({"round": 2})));
}
