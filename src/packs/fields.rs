//! Reads the fields of a metadata map one by one, and knows at the end which ones nobody asked for.

use std::time::Duration;

use serde_json::Value;

use crate::model::time::parse_duration;
use crate::packs::diagnostic::{Report, Span};
use crate::packs::suggest::{closest, did_you_mean};
use crate::packs::yaml::{Entry, Node};

/// A map that is being read, field by field.
#[derive(Debug)]
pub struct Fields<'a> {
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    span: Option<Span>,
    noun: &'static str,
}

impl<'a> Fields<'a> {
    /// Begins to read `node`, which must be a map; `noun` says what it describes: "rule", "criterion".
    pub fn open(node: &'a Node, noun: &'static str, report: &mut Report) -> Option<Self> {
        let Some(entries) = node.entries() else {
            let what = if node.is_null() { "is empty".to_owned() } else { format!("is {}", node.shape()) };
            report.error(node.span, format!("the {noun} {what}; it must be a map of fields"));
            return None;
        };
        let span = entries.first().and_then(|entry| entry.key_span).or(node.span);
        Some(Self { entries, asked: Vec::new(), span, noun })
    }

    /// Where the map begins.
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// The value of a field; null counts as absent.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// Was the field written, be it with null?
    pub fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The field's value as JSON, null if absent.
    pub fn json(&mut self, key: &'static str) -> Value {
        self.node(key).map_or(Value::Null, Node::to_json)
    }

    /// A text; numbers and booleans are taken as they would be written.
    pub fn text(&mut self, key: &'static str, report: &mut Report) -> Option<String> {
        let node = self.node(key)?;
        let text = match node.scalar() {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                report.warning(node.span, format!("`{key}` should be a text, not {}", node.shape()));
                report.help(format!("write it in quotes: `{key}: '{other}'`"));
                Some(other.to_string())
            }
            None => None,
        };
        self.wanted(text, key, "a text", node, report)
    }

    /// A text that must be there.
    pub fn required_text(&mut self, key: &'static str, report: &mut Report) -> Option<String> {
        let given = self.entries.iter().any(|entry| entry.key == key && !entry.value.is_null());
        if !given {
            self.missing(key, report);
        }
        self.text(key, report)
    }

    /// Says that a required field is absent.
    pub fn missing(&mut self, key: &'static str, report: &mut Report) {
        report.error(self.span, format!("the {} has no `{key}`, which is required", self.noun));
        if let Some(near) = closest(key, self.entries.iter().map(|entry| entry.key.as_str())) {
            report.help(format!("is `{near}` meant to be `{key}`?"));
        }
    }

    /// True or false; the texts that people write for it are taken with a warning.
    pub fn flag(&mut self, key: &'static str, report: &mut Report) -> Option<bool> {
        let node = self.node(key)?;
        let flag = match node.scalar() {
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(text)) if ["true", "false"].contains(&text.to_lowercase().as_str()) => {
                report.warning(node.span, format!("`{key}` should be a boolean, not a text"));
                report.help("write it without quotes");
                Some(text.eq_ignore_ascii_case("true"))
            }
            _ => None,
        };
        self.wanted(flag, key, "true or false", node, report)
    }

    /// A whole number that is not negative.
    pub fn count(&mut self, key: &'static str, report: &mut Report) -> Option<u32> {
        let node = self.node(key)?;
        let number = match node.scalar() {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| u32::try_from(number).ok());
        self.wanted(number, key, "a whole number", node, report)
    }

    /// A duration: a text as `10m`, or a bare number in seconds.
    pub fn duration(&mut self, key: &'static str, report: &mut Report) -> Option<Duration> {
        let node = self.node(key)?;
        let duration = match node.scalar() {
            Some(Value::Number(number)) => {
                number.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            }
            Some(Value::String(text)) => parse_duration(text).ok(),
            _ => None,
        };
        self.wanted(duration, key, "a duration as `30s`, `10m` or `2h`", node, report)
    }

    /// A list of texts; a single text is a list of one.
    pub fn texts(&mut self, key: &'static str, report: &mut Report) -> Vec<String> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        if let Some(text) = node.text() {
            return vec![text.to_owned()];
        }
        let texts = node
            .items()
            .and_then(|items| items.iter().map(|item| item.scalar().map(scalar_text)).collect::<Option<Vec<_>>>());
        self.wanted(texts, key, "a list of texts", node, report).unwrap_or_default()
    }

    /// The entries of a map; absent is empty.
    pub fn map(&mut self, key: &'static str, report: &mut Report) -> &'a [Entry] {
        let Some(node) = self.node(key) else {
            return &[];
        };
        self.wanted(node.entries(), key, "a map", node, report).unwrap_or_default()
    }

    /// The items of a list; absent is empty.
    pub fn list(&mut self, key: &'static str, report: &mut Report) -> &'a [Node] {
        let Some(node) = self.node(key) else {
            return &[];
        };
        self.wanted(node.items(), key, "a list", node, report).unwrap_or_default()
    }

    /// Tags: a list of `{name, value}`.
    pub fn tags(&mut self, report: &mut Report) -> Vec<(String, String)> {
        let items = self.list("tags", report);
        items.iter().filter_map(|item| read_tag(item, report)).collect()
    }

    /// Fields that are accepted and of no consequence, because StackStorm's own tools write them.
    pub fn bookkeeping(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// Fields that are read and shown, but on which nothing acts.
    pub fn not_acted_on(&mut self, keys: &[&'static str], report: &mut Report) {
        for key in keys {
            if let Some(entry) = self.entry(key).filter(|entry| !entry.value.is_null()) {
                report.note(entry.key_span, format!("read, not acted on: `{key}` of the {}", self.noun));
            }
        }
    }

    /// Warns about every field that nobody asked for.
    pub fn finish(self, report: &mut Report) {
        self.tell_rest(report, |report, entry, what| {
            report.warning(entry.key_span, what);
        });
    }

    /// Refuses every field that nobody asked for: without what it was meant to say, the rest would do harm.
    pub fn refuse_rest(self, report: &mut Report) {
        self.tell_rest(report, |report, entry, what| {
            report.error(entry.key_span, what);
        });
    }

    fn tell_rest(self, report: &mut Report, tell: fn(&mut Report, &Entry, String)) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            tell(report, entry, format!("unknown field `{}` of the {}", entry.key, self.noun));
            if let Some(help) = did_you_mean(&entry.key, self.asked.iter().copied()) {
                report.help(help);
            }
        }
    }

    fn wanted<T>(&self, got: Option<T>, key: &str, form: &str, node: &Node, report: &mut Report) -> Option<T> {
        if got.is_none() {
            report.error(node.span, format!("`{key}` of the {} must be {form}, not {}", self.noun, node.shape()));
        }
        got
    }
}

/// A scalar the way it would be written.
fn scalar_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn read_tag(item: &Node, report: &mut Report) -> Option<(String, String)> {
    if let Some(name) = item.text() {
        return Some((name.to_owned(), String::new()));
    }
    let mut fields = Fields::open(item, "tag", report)?;
    let name = fields.required_text("name", report)?;
    let value = fields.json("value");
    fields.finish(report);
    Some((name, if value.is_null() { String::new() } else { scalar_text(&value) }))
}
