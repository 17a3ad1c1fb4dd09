//! Takes a table apart key by key. Every mistake is noted and reading goes on, so that all of them are shown at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::source::{Entry, Node};
use crate::config::{ConfigError, Origin};
use crate::model::time::parse_duration;

/// What was wrong so far.
pub(super) type Mistakes = RefCell<Vec<ConfigError>>;

/// A table that is being read. Whatever was not asked for when it is closed is an unknown key.
pub(super) struct Section<'m> {
    path: String,
    origin: Option<Origin>,
    fields: BTreeMap<String, Entry>,
    known: Vec<&'static str>,
    mistakes: &'m Mistakes,
}

impl<'m> Section<'m> {
    pub(super) fn open(path: String, entry: Option<Entry>, mistakes: &'m Mistakes) -> Self {
        let mut section = Self { path, origin: None, fields: BTreeMap::new(), known: Vec::new(), mistakes };
        if let Some(entry) = entry {
            section.origin = Some(entry.origin.clone());
            match entry.node {
                Node::Table(fields) => section.fields = fields,
                other => section.note(entry.origin, "", format!("write a table, not {}", other.kind())),
            }
        }
        section
    }

    /// The value of `key`, or `default` where nothing, or nothing legal, is written.
    pub(super) fn read<T>(&mut self, key: &'static str, default: T, parse: Parse<T>) -> T {
        self.read_optional(key, parse).unwrap_or(default)
    }

    /// The value of `key`, if one is written.
    pub(super) fn read_optional<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<T> {
        self.known.push(key);
        let entry = self.fields.remove(key)?;
        parse(&entry).map_err(|problem| self.note(entry.origin, key, problem)).ok()
    }

    /// The table below `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'m> {
        self.known.push(key);
        Section::open(self.join(key), self.fields.remove(key), self.mistakes)
    }

    /// Everything that is left, as tables with names that the operator chose.
    pub(super) fn into_named(mut self) -> Vec<(String, Section<'m>)> {
        let fields = std::mem::take(&mut self.fields);
        let open = |(name, entry): (String, Entry)| {
            let path = self.join(&name);
            (name, Section::open(path, Some(entry), self.mistakes))
        };
        fields.into_iter().map(open).collect()
    }

    /// Where the table begins, if it is written at all.
    pub(super) const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Notes what is wrong with `key`, or with the table if it is empty.
    pub(super) fn note(&self, origin: Origin, key: &str, problem: String) {
        let key = if key.is_empty() { self.path.clone() } else { self.join(key) };
        self.mistakes.borrow_mut().push(ConfigError { origin, key, problem });
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn close(mut self) {
        for (key, entry) in std::mem::take(&mut self.fields) {
            let problem = match closest(&key, &self.known) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => format!("unknown key; there are {}", self.known.join(", ")),
            };
            self.note(entry.origin, &key, problem);
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Reads one value or says what to write instead.
pub(super) type Parse<T> = fn(&Entry) -> Result<T, String>;

pub(super) fn text(entry: &Entry) -> Result<String, String> {
    match &entry.node {
        Node::Text(text) => Ok(text.clone()),
        other => Err(format!("write a text in quotes, not {}", other.kind())),
    }
}

/// A whole number; variables hold it as text.
pub(super) fn count<T: TryFrom<i64>>(entry: &Entry) -> Result<T, String> {
    let number = match (&entry.node, &entry.origin) {
        (Node::Integer(number), _) => Some(*number),
        (Node::Text(text), Origin::Variable(_)) => text.parse().ok(),
        _ => None,
    };
    let fitting = number.and_then(|number| T::try_from(number).ok());
    fitting.ok_or_else(|| "write a whole number that is not negative, as 64".to_owned())
}

pub(super) fn flag(entry: &Entry) -> Result<bool, String> {
    match (&entry.node, &entry.origin) {
        (Node::Bool(flag), _) => Ok(*flag),
        (Node::Text(text), Origin::Variable(_)) if text == "true" => Ok(true),
        (Node::Text(text), Origin::Variable(_)) if text == "false" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A duration longer than nothing.
pub(super) fn duration(entry: &Entry) -> Result<Duration, String> {
    match duration_or_zero(entry)? {
        Duration::ZERO => Err("write a duration longer than nothing, as \"30s\"".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration; `0` alone needs no unit.
pub(super) fn duration_or_zero(entry: &Entry) -> Result<Duration, String> {
    match &entry.node {
        Node::Integer(0) => Ok(Duration::ZERO),
        Node::Text(text) if text == "0" => Ok(Duration::ZERO),
        Node::Text(text) => parse_duration(text).map_err(|bad| bad.to_string()),
        other => Err(format!("write a duration in quotes with its unit, as \"30s\" or \"10m\", not {}", other.kind())),
    }
}

/// `ADDRESS:PORT`, where `localhost` is 127.0.0.1.
pub(super) fn address(entry: &Entry) -> Result<SocketAddr, String> {
    let written = text(entry)?;
    let numeric = written.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = numeric.as_ref().unwrap_or(&written).parse();
    address.map_err(|_| format!("`{written}` is not an address and a port; write \"127.0.0.1:9101\""))
}

/// A list of texts; variables hold it with commas.
pub(super) fn texts(entry: &Entry) -> Result<Vec<String>, String> {
    match (&entry.node, &entry.origin) {
        (Node::List(items), _) => items.iter().map(text).collect(),
        (Node::Text(text), Origin::Variable(_)) => {
            Ok(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
        }
        (other, _) => Err(format!("write a list, as [\"a\", \"b\"], not {}", other.kind())),
    }
}

/// The one of `names` that was most probably meant.
fn closest(written: &str, names: &[&'static str]) -> Option<&'static str> {
    let most = (written.chars().count() / 3).max(1);
    let distances = names.iter().map(|name| (edit_distance(written, name), *name));
    distances.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

/// How many characters must be added, left out or changed to make one text the other (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, to) in right.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = change.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
