use proptest::prelude::*;
use rhai::packages::{Package, StandardPackage};
use rhai::{Array, Scope};

use super::*;

const BUDGET: Budget = Budget { memory: 8 << 20, allocated: 128 << 20, values: 10_000 };

/// As the runner `rhai` sets an engine up, on a thread whose stack is in proportion to [`BUDGET`].
#[expect(clippy::panic_in_result_fn, reason = "the error is the script's, the panic the test's")]
fn evaluate(script: &str) -> Result<String, String> {
    let script = script.to_owned();
    let thread = std::thread::Builder::new().stack_size(3 << 20).spawn(move || {
        let mut engine = Engine::new_raw();
        StandardPackage::new().register_into_engine(&mut engine);
        restrict(&mut engine);
        engine.set_max_operations(2_000_000).set_max_call_levels(16).set_max_expr_depths(64, 64);
        engine.set_max_string_size(1 << 20).set_max_array_size(50_000).set_max_map_size(50_000);
        let meter = Meter::start(BUDGET);
        watch(&mut engine, &meter);
        let before = Mark::now();
        let result = engine.eval_with_scope::<Dynamic>(&mut Scope::new(), &script);
        let text = match (&result, meter.check()) {
            (_, Some(exceeded)) => Err(exceeded.to_string()),
            (Ok(value), None) => Ok(text_of(value)),
            (Err(error), None) => Err(error_text(error)),
        };
        drop(result);
        assert!(before.allocated() < BUDGET.allocated + (64 << 20), "{script} allocated {}", before.allocated());
        text
    });
    thread.unwrap().join().expect("the script ended without a panic")
}

#[track_caller]
fn fails_with(script: &str, reason: &str) {
    let error = evaluate(script).expect_err(script);
    assert!(error.contains(reason), "{script}: {error}");
}

#[test]
fn what_closures_capture_counts_as_memory() {
    let grow = r#"let l = []; for i in 0..200000 { let s = "a"; for j in 0..18 { s += s; } let f = || s; l.push(f); }"#;
    fails_with(grow, "the limit `memory` of 8388608 bytes");
}

#[test]
fn a_script_cannot_catch_that_it_took_too_much() {
    let caught = r"try { [1].for_each(|x| { let l = []; while true { let b = blob(49000); let f = || b; l.push(f); } }); } catch {} 1";
    assert!(evaluate(caught).is_err());
    let sorted = r"let x = [3, 2, 1]; x.sort(|a, b| { let l = []; while true { let c = blob(49000); let f = || c; l.push(f); } 0 }); 1";
    assert!(evaluate(sorted).is_err());
}

#[test]
fn copying_large_values_again_and_again_is_bounded() {
    let copies = "let l = []; l.pad(40000, 1); for i in 0..1000000 { let m = l; }";
    fails_with(copies, "the limit `allocated` of 134217728 bytes");
}

#[test]
fn values_cannot_be_nested_deeper_than_the_stack_allows() {
    for script in [
        "let h = [[]]; for i in 0..90000 { h.push([h.pop()]); }",
        "let l = []; for i in 0..90000 { l = [l]; }",
        "let l = #{}; for i in 0..90000 { l = #{a: l.remove(\"a\")}; l = #{a: l}; }",
        "let f = || 1; for i in 0..90000 { let g = f; f = || g; }",
        "let f = |a, b| a; for i in 0..90000 { f = f.curry(f); }",
        "let f = |a, b| a; let l = [f]; for i in 0..90000 { l = [f.curry(l.pop())]; }",
    ] {
        let ended = evaluate(script);
        assert!(ended.is_err(), "{script}: {ended:?}");
    }
}

#[test]
fn native_functions_compute_the_size_of_their_result_first() {
    for script in [
        r#"let s = "a"; for j in 0..19 { s += s; } let t = s; s.replace("a", t);"#,
        r#"let s = "a"; for j in 0..19 { s += s; } let t = s; s.replace("", t);"#,
        r#"let s = "a"; for j in 0..19 { s += s; } let t = s; s.replace('a', t);"#,
        r#"let s = "a,"; for j in 0..18 { s += s; } s.split(",")"#,
        r#"let s = "a,"; for j in 0..18 { s += s; } s.split_rev(',', 99999999)"#,
        r#"let s = "a "; for j in 0..18 { s += s; } s.split()"#,
        r#"let s = "a"; for j in 0..19 { s += s; } s.to_chars()"#,
        r#"let s = "aa"; let l = []; l.pad(9223372036854775807, s);"#,
        r#"let s = "a"; for j in 0..19 { s += s; } let l = []; l.pad(40000, s);"#,
        r#"let s = "a"; s.pad(9223372036854775807, "xx");"#,
        "let b = blob(9223372036854775807, 1);",
        "let b = blob(); b.pad(9223372036854775807, 1);",
    ] {
        fails_with(script, "too large");
    }
}

#[test]
fn deep_values_are_printed_in_part_and_neither_compared_nor_converted() {
    let deep = "let l = []; for i in 0..300 { l = [l]; } ";
    assert!(evaluate(&format!("{deep} l.to_string()")).unwrap().contains("[[…]]"));
    assert!(evaluate(&format!("{deep} `${{l}}` + l")).unwrap().contains("[[…]]"));
    fails_with(&format!("{deep} l == l"), "nested more than 128");
    fails_with(&format!("{deep} #{{a: l}}.to_json()"), "nested more than 128");
    let closures = "let f = || 1; let m = #{f: f}; m.to_json()";
    fails_with(closures, "a closure is not plain data");
}

#[test]
fn printing_ends_a_script_when_the_text_is_too_long() {
    let long = r#"let f = (); f = || f; let s = "\\"; for j in 0..19 { s += s; } "#;
    for print in
        ["`${[s, f]}`", "[f, s].to_string()", "s += [s, f]", "debug(s)", "\"\" + #{a: s, f: f}", "s.to_debug()"]
    {
        fails_with(&format!("{long} {print}; 1"), "the limit `string_size` of 1048576");
    }
}

#[test]
fn a_closure_that_captures_itself_is_printed_and_refused_as_json() {
    let circle = "let l = []; let f = || l.len(); l = [f]; ";
    assert!(evaluate(&format!("{circle} l.to_string()")).unwrap().starts_with("[Fn(anon"));
    assert!(evaluate(&format!("{circle} throw l")).unwrap_err().starts_with("[Fn(anon"));
    let mut circle: Array = vec![rhai::FnPtr::new("f").unwrap().into()];
    circle.push(1.into());
    assert_eq!(to_json(&circle.into()).unwrap_err(), "a closure is not plain data; call it and pass on its result");
}

#[test]
fn bounded_functions_answer_as_the_ones_they_replace() {
    for (script, answer) in [
        (r#"let s = "banana"; s.replace("an", "-"); s.replace('a', "ä"); s"#, "b--ä"),
        (r#""a,b,,c".split(",")"#, r#"["a", "b", "", "c"]"#),
        (r#"" a b ".split()"#, r#"["a", "b"]"#),
        (r#""a,b,c".split(',', 2)"#, r#"["a", "b,c"]"#),
        (r#""a,b,c".split_rev(",", 2)"#, r#"["c", "a,b"]"#),
        (r#""hé".to_chars()"#, "[h, é]"),
        (r#"let l = [1]; l.pad(3, "x"); l"#, r#"[1, "x", "x"]"#),
        (r#"let c = 'c'; `${[1, 2.5, c, "s", true, (), #{a: [1]}]}`"#, r#"[1, 2.5, c, "s", true, (), #{"a": [1]}]"#),
        (r#"#{b: 1, a: "x"}.to_json()"#, r#"{"a":"x","b":1}"#),
        (r#"[1, [2, #{a: "x"}]] == [1, [2, #{a: "x"}]]"#, "true"),
        (r#"[1, "1"] != [1, 1]"#, "true"),
        (r"#{a: 1} == #{a: 2}", "false"),
        (r"[[1], [2]].contains([2]) && [[1], [2]].index_of([2]) == 1", "true"),
    ] {
        assert_eq!(evaluate(script).as_deref(), Ok(answer), "{script}");
    }
}

#[test]
fn scripts_neither_wait_nor_read_the_clock_unless_they_are_offered_it() {
    fails_with("sleep(1)", "`sleep` is not there");
    fails_with("sleep(0.5)", "`sleep` is not there");
    fails_with("timestamp()", "`timestamp` is not there");
}

#[test]
fn chains_and_nesting_of_any_kind_end_as_errors_of_the_parser() {
    let repeated = |start: &str, middle: &str, end: &str| format!("{start}{}{end}", middle.repeat(15_000));
    let nested =
        |open: &str, inner: &str, close: &str| [open.repeat(9_000), inner.into(), close.repeat(9_000)].concat();
    for script in [
        repeated("let x = ", "1+", "1"),
        repeated("let x = ", "1**", "1"),
        repeated("", "!", "true"),
        repeated("", "- ", "1"),
        repeated("let a = #{}; a", ".b", ""),
        repeated("let a = #{}; a", "?.b", ""),
        repeated("let a = []; a", "[0]", ""),
        repeated("let a = []; a", "?[0]", ""),
        repeated("", "1 in ", "[]"),
        repeated("", "true && ", "true"),
        repeated("", "() ?? ", "()"),
        repeated("if false {}", " else if false {}", ""),
        repeated("let f = ", "|x| ", "1"),
        repeated("1", ".to_string()", ""),
        nested("(", "1", ")"),
        nested("[", "1", "]"),
        nested("#{a:", "1", "}"),
        nested("{", "1", "}"),
        nested("f(", "1", ")"),
        nested("`${", "1", "}`"),
        nested("while true {", "", "}"),
        nested("do {", "", "} while true;"),
        nested("try {", "", "} catch {}"),
        nested("switch 1 { 1 => ", "1", "}"),
        nested("if true {", "", "}"),
        nested("for i in [] {", "", "}"),
    ] {
        let start: String = script.chars().take(60).collect();
        let error = evaluate(&script).expect_err(&start);
        assert!(error.contains("complexity"), "{start}…: {error}");
    }
}

#[test]
fn a_text_of_deep_json_is_an_error() {
    fails_with(r#"let s = "[["; for i in 0..15 { s += s; } parse_json(s)"#, "");
    fails_with(r#"let s = "{\"a\":"; for i in 0..15 { s += s; } parse_json(s)"#, "");
}

#[test]
fn a_source_that_is_too_long_is_refused() {
    assert!(check_source(&" ".repeat(MAX_SOURCE_BYTES)).is_ok());
    assert!(check_source(&" ".repeat(MAX_SOURCE_BYTES + 1)).unwrap_err().contains("at most 262144"));
}

/// Statements that grow, nest, share, copy and convert the two values `a` and `b`.
fn any_statement() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a = [a];",
        "a = #{x: a, y: b};",
        "a = [a, b];",
        "b = a;",
        "let t = a; b = || t;",
        "let t = b; a = [|| t];",
        "a = `${a}${b}`;",
        "b = a.to_string();",
        "a += a;",
        "a.push(b);",
        "b = [b.pop()];",
        "a.pad(3000, b);",
        "a.replace(\"a\", b);",
        "a = b.split(\"\");",
        "b = a == b;",
        "a = #{j: a}.to_json();",
        "b = [b, 1].map(|x| [x, a]);",
        "a = [3, 1, 2].reduce(|s, x| [s, x, b]);",
        "try { a.sort(|x, y| 0); } catch {}",
        "for j in 0..200 { a = [a]; }",
        "for j in 0..200 { let t = b; b = || t; }",
        "for j in 0..12 { a += a; }",
        "for j in 0..12 { a = [a, a]; }",
        "a = \"aaaaaaaaaaaaaaaa\";",
        "a = blob(40000);",
        "b = [];",
        "a = |x, y| b;",
        "a = a.curry(a);",
        "a = b.call();",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// [`evaluate`] asserts the bound; that it returns at all says that no stack was exceeded.
    #[test]
    fn no_program_takes_more_than_its_budget(
        statements in prop::collection::vec((any_statement(), any::<bool>()), 1..12),
        rounds in 1_usize..400,
    ) {
        let guarded = statements.iter().map(|(statement, caught)| match caught {
            true => format!("try {{ {statement} }} catch {{ a = [1]; }}"),
            false => format!("try {{ {statement} }} catch {{}}"),
        });
        let body: String = guarded.collect::<Vec<_>>().join(" ");
        let ended = evaluate(&format!("let a = [\"a\"]; let b = #{{}}; for i in 0..{rounds} {{ {body} }} 1"));
        prop_assert!(ended.is_ok() || ended.is_err());
    }
}
