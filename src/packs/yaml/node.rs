//! The tree itself: values with places.

use serde_json::{Map, Value};

use crate::packs::diagnostic::Span;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its place; `None` if it did not come from a file that could be placed.
    pub span: Option<Span>,
    /// What it is.
    pub kind: NodeKind,
}

/// The three shapes of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Null, boolean, number or string.
    Scalar(Value),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order in which it was written; no key twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, as text.
    pub key: String,
    /// Where the key was written.
    pub key_span: Option<Span>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A tree without places.
    pub fn from_json(value: &Value) -> Self {
        let kind = match value {
            Value::Array(items) => NodeKind::List(items.iter().map(Self::from_json).collect()),
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| Entry {
                    key: key.clone(),
                    key_span: None,
                    value: Self::from_json(value),
                };
                NodeKind::Map(map.iter().map(entry).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => NodeKind::Scalar(value.clone()),
        };
        Self { span: None, kind }
    }

    /// The value without places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar(value) => value.clone(),
            NodeKind::List(items) => items.iter().map(Self::to_json).collect(),
            NodeKind::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> Option<&[Entry]> {
        if let NodeKind::Map(entries) = &self.kind { Some(entries) } else { None }
    }

    /// The items of a sequence.
    pub fn items(&self) -> Option<&[Node]> {
        if let NodeKind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// The scalar value.
    pub fn scalar(&self) -> Option<&Value> {
        if let NodeKind::Scalar(value) = &self.kind { Some(value) } else { None }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        self.scalar().and_then(Value::as_str)
    }

    /// Is it null?
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Value::is_null)
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What it is, for messages.
    pub fn shape(&self) -> &'static str {
        match &self.kind {
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a map",
            NodeKind::Scalar(Value::Null) => "nothing",
            NodeKind::Scalar(Value::Bool(_)) => "a boolean",
            NodeKind::Scalar(Value::Number(_)) => "a number",
            NodeKind::Scalar(_) => "a text",
        }
    }

    /// The place of what `path` leads to, as near as the path can be followed.
    ///
    /// A part that is not found directly is searched below, so that who knows only a criterion's key need not know
    /// the groups it stands in. Lists take their index as text.
    pub fn locate<S: AsRef<str>>(&self, path: &[S]) -> Option<Span> {
        let mut place = self.span;
        let mut node = self;
        for part in path {
            let Some((span, found)) = node.step(part.as_ref()) else {
                break;
            };
            place = span.or(place);
            node = found;
        }
        place
    }

    /// One part of a path: the place to point at, and the node it leads to.
    fn step(&self, part: &str) -> Option<(Option<Span>, &Self)> {
        match &self.kind {
            NodeKind::Scalar(_) => None,
            NodeKind::List(items) => {
                let direct = part.parse::<usize>().ok().and_then(|index| items.get(index));
                let direct = direct.map(|item| (item.span, item));
                direct.or_else(|| items.iter().find_map(|item| item.step(part)))
            }
            NodeKind::Map(entries) => {
                let direct = entries.iter().find(|entry| entry.key == part);
                let direct = direct.map(|entry| (entry.place(), &entry.value));
                direct.or_else(|| entries.iter().find_map(|entry| entry.value.step(part)))
            }
        }
    }
}

impl Entry {
    /// Where to point: a scalar itself, or the key of something larger.
    pub fn place(&self) -> Option<Span> {
        if self.value.scalar().is_some_and(|value| !value.is_null()) { self.value.span } else { self.key_span }
    }
}
