//! Random scripts, killed after every journal write: equal ends, equal journals, every effect once.

use proptest::prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::*;

/// A statement that leaves a value in `v`.
fn statement() -> BoxedStrategy<String> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(|n| format!(r#"v = run("t.echo", #{{n: {n}, v: v}}).n;"#)),
        2 => Just(r#"v = run("t.third", #{}).len();"#.to_owned()),
        1 => Just(r#"run("t.fail", #{}, #{undo: ["t.undo", #{}]});"#.to_owned()),
        1 => Just(r#"sleep("1s"); log("slept"); v += kv_incr("k") * 0;"#.to_owned()),
        1 => Just("v = [3, 1, 2].map(|x| run(\"t.echo\", #{x: x}).x).len();".to_owned()),
        1 => Just("v = helper(v);".to_owned()),
        1 => Just(r#"let h = spawn("t.echo", #{n: v}); log("spawned"); v = wait(h).n;"#.to_owned()),
    ];
    step.prop_recursive(4, 24, 3, |inner| {
        let body = prop::collection::vec(inner, 1..4).prop_map(|statements| statements.join("\n"));
        prop_oneof![
            body.clone().prop_map(|body| format!("try {{ {body} }} catch (e) {{ v = e.message.len(); run(\"t.caught\", #{{m: e.message}}); }}")),
            (1..4_u8, body.clone()).prop_map(|(n, body)| format!("v += retry(#{{attempts: {n}, delay: \"1s\"}}, || {{ {body} v }});")),
            (1..4_u8, body.clone()).prop_map(|(n, body)| format!("for i in 0..{n} {{ v += i; {body} }}")),
            body.clone().prop_map(|body| format!("if v % 2 == 0 {{ {body} }}")),
            (1..4_u8, 1..4_u8, body.clone()).prop_map(|(n, concurrency, body)| format!(
                "{{ let items = []; for i in 0..{n} {{ items.push(i); }}\n\
                 v = map_items(items, |x| {{ v += x; {body} v }}, #{{concurrency: {concurrency}}}).reduce(|a, b| a + b, 0); }}"
            )),
            (body.clone(), body).prop_map(|(a, b)| format!("v = parallel([|| {{ {a} v }}, || {{ {b} v }}])[0];")),
        ]
    })
    .boxed()
}

fn script() -> impl Strategy<Value = String> {
    prop::collection::vec(statement(), 1..5).prop_map(|statements| {
        let statements = statements.join("\n");
        format!("fn helper(v) {{ run(\"t.helper\", #{{v: v}}); run(\"t.echo\", #{{n: v}}).n % 1000 }}\nlet v = 1;\n{statements}\nv")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_script_killed_after_every_journal_write_ends_as_if_nothing_had_happened(script in script()) {
        every_way(&script, &json!({}));
    }
}
