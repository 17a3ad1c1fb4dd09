//! File and environment as one tree in which every value knows where it was written.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{ConfigError, ConfigErrors, Environment, Origin};

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) node: Node,
    pub(super) origin: Origin,
}

/// What is written.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Table(BTreeMap<String, Entry>),
    List(Vec<Entry>),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
}

impl Node {
    /// What it is, in words.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::List(_) => "a list",
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Bool(_) => "true or false",
        }
    }
}

impl Entry {
    /// Without origins, for types that read themselves.
    pub(super) fn to_value(&self) -> Value {
        match &self.node {
            Node::Table(fields) => fields.iter().map(|(key, entry)| (key.clone(), entry.to_value())).collect(),
            Node::List(items) => items.iter().map(Self::to_value).collect(),
            Node::Text(text) => text.as_str().into(),
            Node::Integer(number) => (*number).into(),
            Node::Float(number) => (*number).into(),
            Node::Bool(flag) => (*flag).into(),
        }
    }
}

/// The whole file.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Entry, ConfigErrors> {
    let file = File { path, text };
    match DeTable::parse(text) {
        Ok(table) => Ok(Entry { node: file.table(table.get_ref()), origin: file.origin_at(0) }),
        Err(error) => {
            let origin = file.origin_at(error.span().map_or(0, |span| span.start));
            let problem = error.message().to_owned();
            Err(ConfigErrors(vec![ConfigError { origin, key: String::new(), problem }]))
        }
    }
}

#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin_at(self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Origin::File { path: self.path.to_owned(), line, column }
    }

    fn table(self, table: &DeTable<'_>) -> Node {
        let fields = table.iter().map(|(key, value)| {
            let entry = Entry { node: self.node(value), origin: self.origin_at(key.span().start) };
            (key.get_ref().to_string(), entry)
        });
        Node::Table(fields.collect())
    }

    fn node(self, value: &Spanned<DeValue<'_>>) -> Node {
        match value.get_ref() {
            DeValue::String(text) => Node::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Node::Integer(number),
                Err(_) => Node::Text(number.as_str().to_owned()),
            },
            DeValue::Float(number) => {
                number.as_str().parse().map_or_else(|_| Node::Text(number.to_string()), Node::Float)
            }
            DeValue::Boolean(flag) => Node::Bool(*flag),
            DeValue::Datetime(time) => Node::Text(time.to_string()),
            DeValue::Array(items) => Node::List(items.iter().map(|item| self.item(item)).collect()),
            DeValue::Table(table) => self.table(table),
        }
    }

    fn item(self, item: &Spanned<DeValue<'_>>) -> Entry {
        Entry { node: self.node(item), origin: self.origin_at(item.span().start) }
    }
}

/// Lays `PETREL__SECTION__KEY` over the tree. What does not fit comes back.
pub(super) fn override_by(tree: &mut Entry, environment: &Environment) -> Vec<ConfigError> {
    let mut misplaced = Vec::new();
    for (name, value) in environment {
        let Some(path) = name.strip_prefix("PETREL__") else {
            continue;
        };
        let entry = Entry { node: Node::Text(value.clone()), origin: Origin::Variable(name.clone()) };
        let keys: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        misplaced.extend(place(tree, &keys, entry));
    }
    misplaced
}

fn place(tree: &mut Entry, keys: &[String], entry: Entry) -> Option<ConfigError> {
    let Some((key, deeper)) = keys.split_first() else {
        *tree = entry;
        return None;
    };
    let Node::Table(fields) = &mut tree.node else {
        // A name (`auth = "open"`) gives way to a table that is set key by key.
        tree.node = Node::Table(BTreeMap::new());
        return place(tree, keys, entry);
    };
    if key.is_empty() {
        let problem = "a part of the name is empty; write PETREL__SECTION__KEY".to_owned();
        return Some(ConfigError { origin: entry.origin, key: String::new(), problem });
    }
    let empty = || Entry { node: Node::Table(BTreeMap::new()), origin: entry.origin.clone() };
    let field = fields.entry(key.clone()).or_insert_with(empty);
    place(field, deeper, entry)
}
