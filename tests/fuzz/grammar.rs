//! Templates and JSON that are well formed by construction: long chains, deep nesting, and whatever makes large values.

use serde_json::{Value, json};

use crate::random::Random;

const FILTERS: [&str; 34] = [
    "upper",
    "length",
    "list",
    "join(',')",
    "join(a)",
    "replace('a', a)",
    "replace('', 'xyz')",
    "center(9999999)",
    "indent(99999)",
    "tojson",
    "to_json_string",
    "to_yaml_string",
    "from_json_string",
    "from_yaml_string",
    "string",
    "sort",
    "unique",
    "reverse",
    "first",
    "last",
    "batch(3, 'x')",
    "slice(99999)",
    "format(1)",
    "format(a)",
    "regex_replace('a+', a)",
    "regex_match('(a+)+$')",
    "default(a)",
    "jsonpath_query('$..x')",
    "map('string')",
    "select('odd')",
    "items",
    "urlencode",
    "trim",
    "sum",
];
const METHODS: [&str; 8] = [
    "upper()",
    "replace('a', a)",
    "split('a')",
    "join(l)",
    "ljust(9999999)",
    "zfill(999999)",
    "expandtabs(9999)",
    "format(a)",
];
const OPERATORS: [&str; 16] =
    ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "and", "or", "in", "not in", "is defined and", "if 1 else"];
const ATOMS: [&str; 18] = [
    "a",
    "l",
    "m",
    "ns.x",
    "ns.l",
    "i",
    "1",
    "0",
    "9999999",
    "'abc'",
    "'%99999999d'",
    "'%s'",
    "[]",
    "[a, l]",
    "{'k': a}",
    "range(9999)",
    "trigger.body.x",
    "missing",
];

/// A whole template.
pub fn template(random: &mut Random) -> String {
    if random.once_in(3) {
        return format!("{{{{ {} }}}}", expression(random, 4));
    }
    let head = "{% set a = 'aaaaaaaaaaaaaaaa' %}{% set l = [1, 2, 'three'] %}{% set m = {'x': 1} %}{% set i = 2 %}\
                {% set ns = namespace(x='abcd', l=[1]) %}";
    format!("{head}{}", body(random, 4))
}

fn body(random: &mut Random, depth: usize) -> String {
    (0..=random.below(3)).map(|_| statement(random, depth)).collect()
}

fn statement(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return format!("{{{{ {} }}}}", expression(random, 1));
    }
    let inner = |random: &mut Random| body(random, depth - 1);
    match random.below(12) {
        0 => format!("{{% set a = {} %}}", expression(random, 3)),
        1 => format!("{{% set ns.x = {} %}}", expression(random, 3)),
        2 => format!("{{% set ns.l = {} %}}", expression(random, 3)),
        3 => format!("{{% for i in {} %}}{}{{% endfor %}}", iterable(random), inner(random)),
        4 => format!("{{% if {} %}}{}{{% else %}}{}{{% endif %}}", expression(random, 2), inner(random), inner(random)),
        5 => format!("{{% set a %}}{}{{% endset %}}", inner(random)),
        6 => format!("{{% filter {} %}}{}{{% endfilter %}}", random.pick(&FILTERS), inner(random)),
        7 => {
            let again = expression(random, 1);
            format!(
                "{{% macro f(a, n) %}}{}{{% if n %}}{{{{ f({again}, n - 1) }}}}{{% endif %}}{{% endmacro %}}{{{{ f(a, 40) }}}}",
                inner(random)
            )
        }
        8 => format!("{{% with a = {} %}}{}{{% endwith %}}", expression(random, 2), inner(random)),
        9 => "text ".repeat(random.repetitions(4096)),
        10 => chain(random),
        _ => format!("{{{{ {} }}}}", expression(random, 3)),
    }
}

fn iterable(random: &mut Random) -> &'static str {
    random.pick(&["range(40)", "range(99999)", "l", "ns.l", "a", "m", "[1] * 99999", "range(9)|list * 9"])
}

/// One operator or postfix, again and again: deep for a parser though nothing is nested.
fn chain(random: &mut Random) -> String {
    let times = random.repetitions(40_000);
    let link = random.pick(&["1 + ", "- ", "not ", "1 ~ ", "1 and ", "1 == ", "a if a else ", "(", "[", "{1: ", "f("]);
    let postfix = random.pick(&[".x", "[0]", "()", "|upper", "[1:]", ".upper()"]);
    if random.once_in(2) {
        format!("{{{{ {}1 }}}}", link.repeat(times))
    } else {
        format!("{{{{ a{} }}}}", postfix.repeat(times))
    }
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return random.pick(&ATOMS).to_owned();
    }
    let left = expression(random, depth - 1);
    match random.below(7) {
        0 | 1 => format!("{left} {} {}", random.pick(&OPERATORS), expression(random, depth - 1)),
        2 => format!("({left})|{}", random.pick(&FILTERS)),
        3 => format!("({left}).{}", random.pick(&METHODS)),
        4 => format!("[{left}, {}]", expression(random, depth - 1)),
        5 => format!("({left})[{}:]", random.below(9)),
        _ => left,
    }
}

/// A JSON value.
pub fn json_value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(random.once_in(2)),
        2 => json!(i64::try_from(random.below(1 << 60)).unwrap() - (1 << 59)),
        3 => json!(random.pick(&["", "web", "{{ a }}", "2026-12-01T00:00:00Z", "\u{0}\u{1b}", "CRITICAL", "firing"])),
        4 => json!(1e300),
        5 => (0..random.below(5)).map(|_| json_value(random, depth - 1)).collect(),
        _ => (0..random.below(5)).map(|number| (format!("k{number}"), json_value(random, depth - 1))).collect(),
    }
}
