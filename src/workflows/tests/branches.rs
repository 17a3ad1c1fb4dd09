//! `parallel` and `map_items`: order, errors, sharing, concurrency and cost.

use super::memory_host::{MemoryHost, bundle};
use super::*;

#[test]
fn results_come_in_the_order_of_the_branches_whatever_finished_first() {
    let script = r#"
        let base = 10;
        let both = parallel([|| { sleep(1); run("t.echo", #{n: base + 1}).n }, || base + 2]);
        let many = map_items([1, 2, 3], |x| run("t.echo", #{n: x * base}).n, #{concurrency: 2});
        [both, many, parallel([]), map_items([], |x| x)]"#;
    assert_eq!(finishes(script), json!([[11, 12], [10, 20, 30], [], []]));
}

#[test]
fn branches_number_their_own_steps() {
    let run = every_way(r#"parallel([|| { run("t.a"); run("t.b") }, || run("t.c")]); run("t.d");"#, &json!({}));
    assert_eq!(
        run.steps(),
        ["1 parallel", "1.1 branch", "1.1.1 run t.a", "1.1.2 run t.b", "1.2 branch", "1.2.1 run t.c", "2 run t.d"]
    );
}

#[test]
fn all_branches_are_run_and_then_the_first_error_in_their_order_is_raised() {
    let script = r#"
        let caught = try {
            parallel([|| run("t.echo", #{}), || { run("t.echo"); run("t.slow") }, || run("t.fail"), || run("t.last")]);
        } catch (e) { e };
        [caught.action, caught.status, caught.position]"#;
    let run = every_way(script, &json!({}));
    assert_eq!(run.end, TurnEnd::Finished(json!(["t.slow", "timeout", "1.2.2"])));
    assert!(run.steps().contains(&"1.4.1 run t.last".to_owned()));
}

#[test]
fn a_branch_changes_its_own_copy_of_what_it_captured() {
    let script = r#"
        let count = 0;
        let list = [0];
        let add = |x| { count += x; count };
        let seen = parallel([
            || { count += 1; list.push(1); run("t.echo"); count += 1; [count, list.len()] },
            || { count += 10; run("t.echo"); [count, list.len(), add.call(100)] },
        ]);
        [count, list, seen]"#;
    assert_eq!(finishes(script), json!([0, [0], [[2, 2], [10, 1, 100]]]));
}

#[test]
fn branches_may_open_branches_retry_and_wait_for_what_main_spawned() {
    let script = r#"
        let child = spawn("t.echo", #{n: 5});
        map_items([1, 2], |x| {
            let inner = map_items([10, 20], |y| run("t.echo", #{n: x * y}).n);
            let tries = 0;
            let retried = retry(#{attempts: 2, delay: 1}, || { tries += 1; if tries == 1 { run("t.fail") } else { x } });
            [inner, retried, wait(child).n]
        })"#;
    assert_eq!(finishes(script), json!([[[10, 20], 1, 5], [[20, 40], 2, 5]]));
}

#[test]
fn no_more_branches_are_open_than_the_concurrency_allows() {
    let host = MemoryHost::new(Life::Cold);
    let bundle = bundle(r#"map_items([1, 2, 3, 4, 5], |x| run("t.echo", #{n: x}), #{concurrency: 2})"#);
    let mut turns = 0;
    loop {
        let end = evaluate(&bundle, &json!({}), host.clone(), &Limits::default());
        let open = host.written().iter().filter(|entry| entry.outcome.is_none()).count();
        assert!(open <= 2, "{open} are open");
        turns += 1;
        if end != TurnEnd::Suspended {
            break;
        }
        assert!(host.deliver_one());
    }
    assert_eq!(turns, 6);
}

#[test]
fn a_finished_branch_is_not_evaluated_again() {
    let script = r#"map_items([1, 2, 3], |x| { run("t.echo", #{x: x}); spin(); x }, #{concurrency: 1});
        fn spin() { let i = 0; while i < 10_000 { i += 1; } }
        sleep(1);"#;
    let host = MemoryHost::new(Life::Hot);
    let bundle = bundle(script);
    assert!(matches!(host.drive(&bundle, &json!({}), &Limits::default()), TurnEnd::Finished(_)));
    let few = Limits { operations: 100, ..Limits::default() };
    assert_eq!(host.drive(&bundle, &json!({}), &few), TurnEnd::Finished(json!(null)));
}

#[test]
fn a_thousand_items_are_asked_once_each() {
    let script = r#"let items = []; for i in 0..1000 { items.push(i); }
        let results = map_items(items, |x| run("t.echo", #{n: x}).n, #{concurrency: 50});
        results.reduce(|sum, x| sum + x, 0)"#;
    let host = MemoryHost::new(Life::Hot);
    let end = host.drive(&bundle(script), &json!({}), &Limits::default());
    assert_eq!(end, TurnEnd::Finished(json!(499_500)));
    assert_eq!(host.asks(), 1 + 1000 + 1000);
}
