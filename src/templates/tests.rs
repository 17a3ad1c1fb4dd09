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
