//! Bundles: imports, compile errors with their place, pinning, and what a lint sees.

use super::memory_host::MemoryHost;
use super::*;

fn load(files: &[(&str, &str)]) -> Result<Bundle, CompileError> {
    let read = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
    Bundle::load("main", &read)
}

const DNS: &str = r#"
    const ZONE = "example.org";
    fn upsert(name) { run("dns.upsert", #{ name: `${name}.${global::ZONE}` }) }
    fn both(a, b) { parallel([|| upsert(a), || upsert(b)]) }
    fn tried(a) { retry(#{attempts: 2}, || upsert(a)) }"#;
const MAIN: &str = r#"import "lib/dns" as dns;
    [dns::upsert("a").name, dns::both("b", "c").map(|r| r.name), dns::tried("d").name]"#;

#[test]
fn functions_of_an_import_are_part_of_the_workflow() {
    let bundle = load(&[("main", MAIN), ("lib/dns", DNS)]).unwrap();
    for life in [Life::Hot, Life::Cold] {
        let end = MemoryHost::new(life).drive(&bundle, &json!({}), &Limits::default());
        let expected = json!(["a.example.org", ["b.example.org", "c.example.org"], "d.example.org"]);
        assert_eq!(end, TurnEnd::Finished(expected), "{life:?}");
    }
}

#[test]
fn a_bundle_is_pinned_as_text_and_comes_back_the_same() {
    let bundle = load(&[("main", MAIN), ("lib/dns", DNS), ("lib/unused", "")]).unwrap();
    let pinned = serde_json::to_string(bundle.sources()).unwrap();
    let again = Bundle::from_sources(&serde_json::from_str(&pinned).unwrap()).unwrap();
    assert_eq!(again.sources(), bundle.sources());
    assert_eq!(again.digest(), bundle.digest());
    assert_eq!(bundle.sources().texts.len(), 2);
    let changed = load(&[("main", MAIN), ("lib/dns", &format!("{DNS} "))]).unwrap();
    assert_ne!(changed.digest(), bundle.digest());
}

#[test]
fn a_bundle_for_other_builtins_is_refused() {
    let mut sources = load(&[("main", "1")]).unwrap().sources().clone();
    sources.api = 99;
    assert!(Bundle::from_sources(&sources).unwrap_err().message.contains("version 99"));
}

/// Files, where it is wrong, and what is said.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn what_does_not_compile_is_named_with_its_place() {
    let cases: [Case<'_>; 11] = [
        (&[("main", "let x = ;")], "main.rhai:1:9", "Unexpected ';'"),
        (&[("main", "\n  eval(\"1\")")], "main.rhai:2:3", "eval"),
        (&[("main", "\n  timestamp()")], "main.rhai:2:3", "use `now()`"),
        (&[("main", "fn f() { exit(1) }")], "main.rhai:1:10", "use `return`"),
        (&[("main", "\nimport \"gone\" as g;")], "main.rhai:2:1", "no such script"),
        (&[("main", "import \"../x\" as g;")], "main.rhai:1:1", "inside the pack"),
        (&[("main", "import \"/x\" as g;")], "main.rhai:1:1", "inside the pack"),
        (&[("main", "let n = \"x\"; import n as g;")], "main.rhai:1:14", "literal path"),
        (&[("main", "import \"a\" as a;"), ("a", "import \"main\" as m;")], "a.rhai:1:1", "circle"),
        (&[("main", "import \"a\" as a;"), ("a", "fn f( { }")], "a.rhai:1:7", "parameter"),
        (&[("main", "import \"a\" as a;"), ("a", "run(\"t.echo\");")], "a.rhai:1:1", "run"),
    ];
    for (files, place, text) in cases {
        let error = load(files).unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains(text), "{files:?}: {error}");
    }
}

#[test]
fn a_module_that_computes_for_ever_is_refused() {
    let error = load(&[("main", "import \"a\" as a;"), ("a", "loop { }")]).unwrap_err();
    assert_eq!(error.file, "a");
}

#[test]
fn a_lint_sees_every_literal_reference_and_the_names_of_its_parameters() {
    let script = r#"
run("a.b", #{ x: 1, y: params.y });
let name = "computed"; run(name, #{});
let h = spawn("c.d", params, #{ undo: ["e.f", #{ z: h }] });
run("nodot");
fn f() { retry(#{attempts: 2}, || run("g.h", #{}, #{ undo: ["i.j", #{ k: 1 }] })) }
on_rollback("k.l", #{ m: 1 });"#;
    let calls = lint(&load(&[("main", script)]).unwrap());
    let shown = |call: &StaticCall| {
        let params = call.params.as_ref().map_or_else(|| "?".to_owned(), |names| names.join(","));
        let known = if call.action.is_some() { "" } else { "!" };
        format!(
            "{}:{} {:?} {}{known}({params})",
            call.line,
            call.column,
            call.via,
            call.reference.as_deref().unwrap_or("?")
        )
    };
    assert_eq!(
        calls.iter().map(shown).collect::<Vec<_>>(),
        [
            "2:1 Run a.b(x,y)",
            "3:24 Run ?!()",
            "4:9 Spawn c.d(?)",
            "4:9 Undo e.f(z)",
            "5:1 Run nodot!()",
            "6:35 Run g.h()",
            "6:35 Undo i.j(k)",
            "7:1 OnRollback k.l(m)",
        ]
    );
}
