//! The tables of `tests/rules`, and what does not fit into them.

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::templates::jsonpath::JsonPath;

struct Store;

impl Datastore for Store {
    fn get(&self, scope: Scope, key: &str) -> Result<Option<String>, String> {
        match (scope, key) {
            (Scope::System, "color") => Ok(Some("red".into())),
            (Scope::System, "threshold.cpu") => Ok(Some("90".into())),
            (Scope::System, "secret") => Ok(Some("<s3cret>".into())),
            (Scope::System, "broken") => Err("disk on fire".into()),
            (Scope::User, "name") => Ok(Some("ann".into())),
            _ => Ok(None),
        }
    }

    fn is_prefix(&self, scope: Scope, prefix: &str) -> Result<bool, String> {
        Ok((scope, prefix) == (Scope::System, "threshold"))
    }

    fn decrypt(&self, text: &str) -> Result<String, String> {
        Ok(text.trim_matches(['<', '>']).to_owned())
    }
}

fn store() -> Arc<dyn Datastore> {
    Arc::new(Store)
}

fn table<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = format!("{}/tests/rules/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct TemplateCase {
    template: String,
    #[serde(default)]
    context: Value,
    #[serde(default)]
    expected: Value,
    error: Option<String>,
}

#[test]
fn templates_render_as_the_table_says() {
    for case in table::<Vec<TemplateCase>>("templates.yaml") {
        let context = Context::new(&case.context, Some(&store()));
        let rendered = Template::compile(&case.template).and_then(|template| template.render(&context));
        match (rendered, case.error) {
            (Ok(value), None) => assert_eq!(value, case.expected, "{}", case.template),
            (Err(error), Some(part)) => assert!(error.to_string().contains(&part), "{}: {error}", case.template),
            (other, _) => panic!("{}: {other:?}", case.template),
        }
    }
}

#[derive(Deserialize)]
struct PathCase {
    path: String,
    value: Value,
    #[serde(default)]
    expected: Vec<Value>,
    error: Option<String>,
}

#[test]
fn paths_find_what_the_table_says() {
    for case in table::<Vec<PathCase>>("jsonpath.yaml") {
        match (JsonPath::parse(&case.path), case.error) {
            (Ok(path), None) => {
                let expected: Vec<&Value> = case.expected.iter().collect();
                assert_eq!(path.find_all(&case.value), expected, "{}", case.path);
                assert_eq!(path.find_first(&case.value), case.expected.first(), "{}", case.path);
                assert_eq!(JsonPath::parse(&path.to_string()).as_ref(), Ok(&path), "{path}");
            }
            (Err(error), Some(part)) => assert!(error.to_string().contains(&part), "{error}"),
            (other, _) => panic!("{}: {other:?}", case.path),
        }
    }
}

#[test]
fn a_text_without_braces_is_no_template() {
    assert!(is_template("{{ x }}") && is_template("{% if x %}{% endif %}"));
    assert!(!is_template("{ x }") && !is_template("100 %"));
}

#[test]
fn without_a_datastore_its_names_are_undefined_and_decryption_is_refused() {
    let context = Context::new(&json!({}), None);
    let render = |text| Template::compile(text).unwrap().render(&context).unwrap_err().to_string();
    assert!(render("{{ st2kv.system.color }}").contains("`st2kv.system.color` is undefined"));
    assert!(render("{{ 'x' | decrypt_kv }}").contains("no datastore"));
}

#[test]
fn a_value_renders_every_template_in_it_and_keeps_the_rest() {
    let value =
        json!({"cmd": "ls {{ trigger.dir }}", "env": {"N": "{{ trigger.n }}"}, "list": [1, "{{ a }}"], "x": null});
    let compiled = CompiledValue::compile(&value).unwrap();
    assert_eq!(compiled.references().into_iter().collect::<Vec<_>>(), ["a", "trigger"]);
    let context = Context::new(&json!({"trigger": {"dir": "/", "n": 3}, "a": [2]}), None);
    let rendered = compiled.render(&context).unwrap();
    assert_eq!(rendered, json!({"cmd": "ls /", "env": {"N": 3}, "list": [1, [2]], "x": null}));
}

#[test]
fn a_value_says_where_each_of_its_bad_templates_is() {
    let value = json!({"a": [{"b": "{{ x"}], "c": "{% y %}"});
    let places: Vec<_> = CompiledValue::compile(&value).unwrap_err().into_iter().map(|error| error.path).collect();
    assert_eq!(places, ["a[0].b", "c"]);
    let missing = CompiledValue::compile(&json!({"a": ["{{ x }}"]})).unwrap();
    let error = missing.render(&Context::new(&json!({}), None)).unwrap_err();
    assert!(error.to_string().starts_with("`a[0]`: template, line 1: `x` is undefined"), "{error}");
}

#[test]
fn references_are_the_names_a_template_takes_from_outside() {
    let names = |text| Template::compile(text).unwrap().references().into_iter().collect::<Vec<_>>();
    assert_eq!(names("{% set y = x.z %}{{ y }}{% for i in range(3) %}{{ i }}{% endfor %}"), ["x"]);
    assert_eq!(names("{{ b.c | default(a) }}"), ["a", "b"]);
    assert_eq!(names("{{ debug }}"), ["debug"], "a parameter that StackStorm's runners have");
}

fn failure(source: &str) -> String {
    let context = Context::new(&json!({"x": "web", "list": [1, 2, 3]}), None);
    match Template::compile(source) {
        Ok(template) => template.render(&context).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_template_that_would_overflow_the_parser_is_refused_with_its_limit() {
    let steps = "more than 200 operators, brackets and filters on one path";
    for link in ["-", "1+", "not ", "1 ~ ", "1 and ", "1 == ", "1 if 1 else ", "(", "[", "f(", "{1: "] {
        assert!(failure(&format!("{{{{ {}1 }}}}", link.repeat(140_000))).contains("longer than 65000 bytes"), "{link}");
        assert!(failure(&format!("{{{{ {}1 }}}}", link.repeat(400))).contains(steps), "{link}");
        assert!(failure(&format!("{{% set a = {}1 %}}", link.repeat(400))).contains(steps), "{link} in a tag");
    }
    for postfix in [".x", "[0]", "()", "|upper", "[1:]", ".upper()", " is defined"] {
        assert!(failure(&format!("{{{{ a{} }}}}", postfix.repeat(400))).contains(steps), "{postfix}");
    }
    for block in ["if 1", "for i in x", "with a = 1", "filter upper", "macro f()", "set a", "block b"] {
        assert!(failure(&format!("{{% {block} %}}").repeat(100)).contains("deeper than 60 levels"), "{block}");
    }
    assert!(failure(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(100))).contains("deeper than 60"));
}

#[test]
fn a_template_with_many_short_parts_is_accepted() {
    let long_list = format!("{{{{ [{}] | length }}}}", "1 + 1, x.y|upper, ".repeat(1_500));
    let many = "{% if x %}{{ x ~ '-' ~ x }}{% endif %}{% set a = {'k': [1, 2]} %}".repeat(900);
    for source in [long_list, many] {
        Template::compile(&source).unwrap();
    }
}

#[test]
fn a_rendering_that_makes_too_much_fails_with_the_limit() {
    let grows =
        "{% set ns = namespace(x='abcd', l=[1]) %}{% for i in range(60) %}{% set ns.x = EXPR %}{% endfor %}{{ ns.x }}";
    let doublings = [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 9",
        "[ns.x, ns.x]",
        "ns.x|replace('a', 'aaaa')",
        "ns.x.replace('a', 'aaa')",
        "[ns.x, ns.x]|join",
        "'%s%s'|format(ns.x, ns.x)",
        "'{}{}'.format(ns.x, ns.x)",
        "{'a': ns.x, 'b': ns.x}",
        "ns.x|regex_replace('a', 'aaaa')",
    ];
    let single = [
        "{{ '%99999999999d'|format(1) }}",
        "{{ '%*d'|format(999999999, 1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ ('ab' * 99999)|join('ab' * 99999) }}",
        "{{ 'a' * 99999999 }}",
        "{{ [1] * 99999999 }}",
        "{{ ([1] * 99999999)|sort|last }}",
        "{{ ('a\n' * 99999)|indent(99999) }}",
        "{{ [1]|batch(999999999, 0)|list }}",
        "{{ [1]|slice(999999999, 0)|list }}",
        "{{ range(99999)|join('x' * 99999) }}",
        "{{ ('x' * 99999).join(range(99999)) }}",
        "{{ range(99999)|map('replace', '1', 'x' * 99999)|list }}",
        "{{ range(99999)|select('in', range(99999))|list }}",
        "{{ ('a' * 99999)|regex_replace('(a)', '\\\\1' * 99999) }}",
        "{{ [[1] * 9999] * 9999 }}",
        "{{ [1] * 99999999 == [1] * 99999999 }}",
        "{% set s %}{% for i in range(90000) %}TEXT{% endfor %}{% endset %}{{ s|length }}",
        "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ f('aaaa', 21) }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60000) %}{% set ns.x = [ns.x] %}{% endfor %}ok",
        "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
        "{{ {'a': 1}|jsonpath_query('$..a..a..a..a..a') }}",
    ];
    let growing = doublings.iter().map(|expression| grows.replace("EXPR", expression));
    for source in growing.chain(single.map(|source| source.replace("TEXT", &"x".repeat(900)))) {
        let error = failure(&source);
        let names_a_limit = [
            "4194304 bytes",
            "67108864 bytes",
            "200000 instructions",
            "128 levels",
            "holds data only",
            "at most 4 `..`",
            "recursion limit",
        ];
        assert!(names_a_limit.iter().any(|limit| error.contains(limit)), "{source}: {error}");
    }
}

#[test]
fn what_real_templates_make_stays_within_the_limits() {
    let lines: Vec<String> = (0..2_000).map(|n| format!("host-{n}.example.org")).collect();
    let context = Context::new(&json!({"lines": lines}), None);
    let render = |source: &str| Template::compile(source).unwrap().render(&context).unwrap();
    assert_eq!(
        render("{% set ns = namespace(n=0) %}{% for l in lines %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"),
        json!("2000")
    );
    assert_eq!(render("{{ lines | join(',') | length }}"), json!(42_889));
    assert_eq!(
        render("{% for line in lines %}{{ line | upper }} {{ loop.index }}\n{% endfor %}").as_str().unwrap().len(),
        51_783
    );
    assert_eq!(render("{{ lines | map('replace', 'host', 'web') | first }}"), json!("web-0.example.org"));
}

mod same_as_plain {
    use proptest::prelude::*;

    use super::*;

    /// The engine without any meter.
    fn render_plainly(source: &str, context: &Context) -> Result<String, String> {
        let mut plain = Environment::new();
        plain.set_undefined_behavior(UndefinedBehavior::Strict);
        plain.set_fuel(Some(FUEL));
        plain.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        plain.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        plain.set_syntax(SYNTAX.clone());
        plain.render_str(source, context.root.clone()).map_err(|error| error.to_string())
    }

    fn expression() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "x", "n", "list", "map", "map.k", "list[0]", "1", "'a b'", "[n, x]", "{'k': x}", "missing",
        ]);
        leaf.prop_map(str::to_owned).prop_recursive(3, 16, 2, |inner| {
            let two = (
                inner.clone(),
                prop::sample::select(vec!["+", "-", "*", "~", "==", "<", "and", "or", "in", "//", "%"]),
                inner.clone(),
            );
            let filter = prop::sample::select(vec![
                "|upper",
                "|length",
                "|list",
                "|join('-')",
                "|replace('a', 'b')",
                "|default('d')",
                "|first",
                "|sort",
                "[1:]",
                "|string",
                "|tojson",
                " is defined",
                " is string",
                "|map('string')|list",
                "|batch(2)|list",
                "|indent(2)",
                ".upper()",
                ".split(' ')",
            ]);
            prop_oneof![
                two.prop_map(|(left, operator, right)| format!("({left} {operator} {right})")),
                (inner.clone(), filter).prop_map(|(value, filter)| format!("({value}){filter}")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
            ]
        })
    }

    fn template() -> impl Strategy<Value = String> {
        let statement = (expression(), 0..9_u8).prop_map(|(value, kind)| match kind {
            0 => format!("{{% for i in {value} %}}{{{{ i }}}},\n{{% else %}}none{{% endfor %}}"),
            1 => format!("{{% set x = {value} %}}"),
            2 => format!("{{% set ns = namespace(a=1) %}}{{% set ns.a = {value} %}}{{{{ ns.a }}}}"),
            3 => format!("{{% if {value} %}}yes{{% else %}}no{{% endif %}}"),
            4 => format!("{{% macro f(a, b=2) %}}[{{{{ a }}}} {{{{ b }}}}]{{% endmacro %}}{{{{ f({value}) }}}}"),
            5 => format!("{{% set y %}}text {{{{ {value} }}}}{{% endset %}}{{{{ y|upper }}}}"),
            6 => format!("{{% filter upper %}}a {{{{ {value} }}}}{{% endfilter %}}"),
            7 => format!("{{% with z = {value} %}}{{{{ z }}}} {{% endwith %}}\n"),
            _ => format!("text {{{{ {value} }}}}\n"),
        });
        prop::collection::vec(statement, 1..4).prop_map(|statements| format!("{} ", statements.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn a_metered_template_means_what_the_engine_says(source in template()) {
            let names = json!({"x": "abc", "n": 7, "list": [3, "b", 1], "map": {"k": "v"}});
            let context = Context::new(&names, None);
            let ours = Template::compile(&source).map_err(|error| error.to_string()).and_then(|template| {
                template.render(&context).map_err(|error| error.to_string())
            });
            match (render_plainly(&source, &context), ours) {
                (Ok(plain), Ok(ours)) => prop_assert_eq!(json!(plain), ours),
                (Err(_), Err(_)) => {}
                (plain, ours) => prop_assert!(false, "{source}: plain {plain:?}, metered {ours:?}"),
            }
        }
    }
}
