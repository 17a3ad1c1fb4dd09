//! StackStorm's filters, by the names and with the results that packs expect.

#![expect(clippy::needless_pass_by_value, reason = "the template engine hands named arguments over by value")]

use std::cmp::Ordering;
use std::fmt::Write;

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::templates::budget::{charge, charge_value, weigh};
use crate::templates::datastore::decrypt_kv;
use crate::templates::json_text::{write_json, write_json_indented, write_yaml};
use crate::templates::jsonpath::JsonPath;
use crate::templates::metered_functions::{charge_match, charge_method, size_indented};
use crate::templates::python_regex::{self, Matching};
use crate::templates::shell_text::quote;
use crate::templates::to_json;
use crate::templates::versions::{self, Version};

/// What `use_none` puts into text for null; a rendering that is exactly this becomes null.
pub(super) const NONE_MARK: &str = "%*****__%NONE%__*****%";

pub(super) fn register(environment: &mut Environment<'static>) {
    register_data(environment);
    register_regex(environment);
    register_versions(environment);
    environment.add_filter("decrypt_kv", decrypt_kv);
    environment.add_filter("use_none", use_none);
    environment.add_filter("to_human_time_from_seconds", to_human_time_from_seconds);
    environment.add_filter("quote", quote);
    environment.add_filter("basename", basename);
    environment.add_filter("dirname", dirname);
}

fn register_data(environment: &mut Environment<'static>) {
    for name in ["from_json_string", "json_parse"] {
        environment.add_filter(name, from_json_string);
    }
    for name in ["from_yaml_string", "yaml_parse"] {
        environment.add_filter(name, from_yaml_string);
    }
    for name in ["to_json_string", "json_dump"] {
        environment.add_filter(name, to_json_string);
    }
    for name in ["to_yaml_string", "yaml_dump"] {
        environment.add_filter(name, to_yaml_string);
    }
    environment.add_filter("to_complex", |value: &Value| write_json(value));
    environment.add_filter("json_escape", json_escape);
    environment.add_filter("jsonpath_query", jsonpath_query);
}

fn register_regex(environment: &mut Environment<'static>) {
    environment.add_filter("regex_match", regex_match);
    environment.add_filter("regex_search", regex_search);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("regex_substring", regex_substring);
}

fn register_versions(environment: &mut Environment<'static>) {
    environment.add_filter("version_compare", |left: &str, right: &str| compare(left, right).map(|order| order as i8));
    environment.add_filter("version_more_than", |left: &str, right: &str| compare(left, right).map(Ordering::is_gt));
    environment.add_filter("version_less_than", |left: &str, right: &str| compare(left, right).map(Ordering::is_lt));
    environment.add_filter("version_equal", |left: &str, right: &str| compare(left, right).map(Ordering::is_eq));
    environment.add_filter("version_match", |version: &str, condition: &str| {
        versions::matches(version, condition).map_err(failed)
    });
    environment.add_filter("version_bump_major", |text: &str| version(text).map(|v| format!("{}.0.0", v.major + 1)));
    environment
        .add_filter("version_bump_minor", |text: &str| version(text).map(|v| format!("{}.{}.0", v.major, v.minor + 1)));
    environment.add_filter("version_bump_patch", |text: &str| {
        version(text).map(|v| format!("{}.{}.{}", v.major, v.minor, v.patch + 1))
    });
    environment
        .add_filter("version_strip_patch", |text: &str| version(text).map(|v| format!("{}.{}", v.major, v.minor)));
}

/// Python's methods on texts, lists and dicts, with the spellings of Python 2 that old packs still have.
pub(super) fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let method = match method {
        "iteritems" => "items",
        "iterkeys" => "keys",
        "itervalues" => "values",
        other => other,
    };
    charge_method(value, method, args)?;
    pycompat::unknown_method_callback(state, value, method, args)
}

/// What a match costs beside its text: the engine looks for each from where the last one ended.
const MATCH_BYTES: usize = 256;

/// Wider indents are as good as this one.
const MOST_INDENT: usize = 16;

fn failed(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// What Python's `str(value)` gives; texts as they are.
fn text_of(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    charge(weigh(value)?.bytes)?;
    Ok(value.to_string())
}

/// An argument that may be given by place or by name.
fn argument<T>(placed: Option<T>, named: &Kwargs, name: &str) -> Result<Option<T>, Error>
where
    T: for<'a> minijinja::value::ArgType<'a, Output = T>,
{
    match placed {
        Some(value) => Ok(Some(value)),
        None => named.get(name),
    }
}

fn from_json_string(text: &Value) -> Result<Value, Error> {
    let parsed: serde_json::Value =
        serde_json::from_str(&text_of(text)?).map_err(|error| failed(format!("not JSON: {error}")))?;
    Ok(Value::from(Serde(parsed)))
}

fn from_yaml_string(text: &Value) -> Result<Value, Error> {
    let parsed: serde_json::Value =
        serde_yaml::from_str(&text_of(text)?).map_err(|error| failed(format!("not YAML: {error}")))?;
    Ok(Value::from(Serde(parsed)))
}

/// `sort_keys` and `separators` are accepted; what they change is not seen by a JSON parser.
fn to_json_string(value: &Value, indent: Option<usize>, named: Kwargs) -> Result<String, Error> {
    let indent = argument(indent, &named, "indent")?;
    let _: (Option<bool>, Option<Value>) = (named.get("sort_keys")?, named.get("separators")?);
    named.assert_all_used()?;
    text_of(value)?;
    let indent = indent.map(|indent| indent.min(MOST_INDENT));
    charge_value(size_indented(value, indent.unwrap_or_default())?)?;
    match indent {
        Some(indent) => write_json_indented(value, indent),
        None => write_json(value),
    }
}

fn to_yaml_string(value: &Value, indent: Option<usize>, named: Kwargs) -> Result<String, Error> {
    let _: (Option<usize>, Option<bool>) = (argument(indent, &named, "indent")?, named.get("allow_unicode")?);
    named.assert_all_used()?;
    text_of(value)?;
    write_yaml(value)
}

fn json_escape(value: &Value) -> Result<String, Error> {
    text_of(value)?;
    Ok(write_json(value)?.trim_matches('"').to_owned())
}

fn jsonpath_query(value: &Value, query: &str) -> Result<Value, Error> {
    let path = JsonPath::parse(query).map_err(|error| failed(error.to_string()))?;
    let json = to_json(value)?;
    let found = path.find_all(&json);
    Ok(if found.is_empty() { Value::from(()) } else { Value::from(Serde(found)) })
}

fn use_none(value: &Value) -> Value {
    if value.is_none() { Value::from(NONE_MARK) } else { value.clone() }
}

fn regex_match(value: &Value, pattern: &str, ignorecase: Option<bool>, named: Kwargs) -> Result<bool, Error> {
    let matching = match argument(ignorecase, &named, "ignorecase")? {
        Some(true) => Matching::StartIgnoringCase,
        Some(false) | None => Matching::Start,
    };
    matches(value, pattern, matching)
}

fn regex_search(value: &Value, pattern: &str, ignorecase: Option<bool>, named: Kwargs) -> Result<bool, Error> {
    matches(value, pattern, searching(argument(ignorecase, &named, "ignorecase")?))
}

fn searching(ignorecase: Option<bool>) -> Matching {
    if ignorecase.unwrap_or(false) { Matching::SearchIgnoringCase } else { Matching::Search }
}

fn matches(value: &Value, pattern: &str, matching: Matching) -> Result<bool, Error> {
    let text = text_of(value)?;
    charge_match(&text)?;
    let regex = python_regex::compile(pattern, matching).map_err(failed)?;
    python_regex::is_match(&regex, &text).map_err(failed)
}

fn regex_replace(
    value: &Value,
    pattern: &str,
    replacement: &str,
    ignorecase: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let text = text_of(value)?;
    charge_match(&text)?;
    let regex =
        python_regex::compile(pattern, searching(argument(ignorecase, &named, "ignorecase")?)).map_err(failed)?;
    let mut replaced = String::with_capacity(text.len());
    let mut rest = 0;
    for captures in regex.captures_iter(text.as_str()) {
        let captures = captures.map_err(|error| failed(error.to_string()))?;
        let Some(whole) = captures.get(0) else {
            continue;
        };
        charge_replacement(whole.as_str(), replacement)?;
        replaced.push_str(text.get(rest..whole.start()).unwrap_or_default());
        push_replacement(&mut replaced, replacement, |group| captures.get(group).map(|found| found.as_str()));
        rest = whole.end();
    }
    replaced.push_str(text.get(rest..).unwrap_or_default());
    Ok(replaced)
}

/// Each reference to a group may put the whole match in.
fn charge_replacement(matched: &str, replacement: &str) -> Result<(), Error> {
    let references = replacement.matches('\\').count();
    charge_value(MATCH_BYTES + replacement.len() + references.saturating_mul(matched.len()))
}

/// Python's replacement text: `\1` and `\g<1>` stand for groups.
fn push_replacement<'t>(out: &mut String, replacement: &str, group: impl Fn(usize) -> Option<&'t str>) {
    let mut rest = replacement;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let named = after.strip_prefix("g<").and_then(|inside| inside.split_once('>'));
        let (number, tail) = named.unwrap_or_else(|| split_digit(after));
        match number.parse() {
            Ok(number) => out.push_str(group(number).unwrap_or_default()),
            Err(_) => out.push('\\'),
        }
        rest = tail;
    }
    out.push_str(rest);
}

fn split_digit(text: &str) -> (&str, &str) {
    text.split_at(usize::from(text.starts_with(|c: char| c.is_ascii_digit())))
}

/// `re.findall(pattern, value)[result_index]`: the first group if there is one, else the whole match.
fn regex_substring(
    value: &Value,
    pattern: &str,
    result_index: Option<i64>,
    ignorecase: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let index = argument(result_index, &named, "result_index")?.unwrap_or(0);
    let text = text_of(value)?;
    charge_match(&text)?;
    let regex =
        python_regex::compile(pattern, searching(argument(ignorecase, &named, "ignorecase")?)).map_err(failed)?;
    let mut found = Vec::new();
    for captures in regex.captures_iter(text.as_str()) {
        let captures = captures.map_err(|error| failed(error.to_string()))?;
        charge(MATCH_BYTES)?;
        let shown = captures.get(1).or_else(|| captures.get(0));
        found.push(shown.map(|found| found.as_str()).unwrap_or_default());
    }
    let place = if index < 0 { i64::try_from(found.len()).unwrap_or(i64::MAX) + index } else { index };
    let chosen = usize::try_from(place).ok().and_then(|place| found.get(place));
    chosen
        .map(|&text| text.to_owned())
        .ok_or_else(|| failed(format!("`{pattern}` has {} matches, so none has index {index}", found.len())))
}

fn version(text: &str) -> Result<Version, Error> {
    Version::parse(text).map_err(failed)
}

fn compare(left: &str, right: &str) -> Result<Ordering, Error> {
    Ok(version(left)?.compare(&version(right)?))
}

/// `56s`, `1h3m5s`, `2d0h0m0s`; below one second StackStorm shows the number itself with `μs`.
fn to_human_time_from_seconds(seconds: f64) -> Result<String, Error> {
    if seconds == 0.0 {
        return Ok("0s".to_owned());
    }
    if seconds < 1.0 {
        return Ok(format!("{seconds}μs"));
    }
    let rounded = std::time::Duration::try_from_secs_f64(seconds.round());
    let whole = rounded.map_err(|error| failed(format!("{seconds} seconds: {error}")))?.as_secs();
    let parts = [
        (whole / 31_536_000, "y"),
        (whole / 86_400 % 365, "d"),
        (whole / 3_600 % 24, "h"),
        (whole / 60 % 60, "m"),
        (whole % 60, "s"),
    ];
    let mut text = String::new();
    for (count, unit) in parts.iter().skip_while(|(count, _)| *count == 0) {
        write!(text, "{count}{unit}")?;
    }
    Ok(text)
}

fn basename(path: &str) -> String {
    path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned()
}

fn dirname(path: &str) -> String {
    match path.rsplit_once('/') {
        None => String::new(),
        Some((folder, _)) if folder.chars().all(|c| c == '/') => format!("{folder}/"),
        Some((folder, _)) => folder.trim_end_matches('/').to_owned(),
    }
}
