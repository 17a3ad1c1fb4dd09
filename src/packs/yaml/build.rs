//! From saphyr's events to the tree, without recursion and within bounds.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use crate::packs::diagnostic::{Report, Span};

use super::node::{Entry, Node, NodeKind};
use super::{BuildError, MAX_DEPTH, MAX_NODES, scalar};

/// A text counts as one value per so many bytes, so that repeating a long one is bounded as well.
const TEXT_PER_NODE: usize = 64;

/// The tree of the only document in `text`; doubled keys are warned about.
pub(super) fn build(text: &str, report: &mut Report) -> Result<Node, BuildError> {
    let mut builder = Builder { report, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(BuildError::Syntax)?;
        builder.take(event, place(span), text)?;
    }
    Ok(builder.root.unwrap_or(Node { span: None, kind: NodeKind::Scalar(Value::Null) }))
}

fn place(span: saphyr_parser::Span) -> Span {
    Span {
        line: span.start.line(),
        column: span.start.col() + 1,
        end_line: span.end.line(),
        end_column: span.end.col() + 1,
    }
}

struct Builder<'a> {
    report: &'a mut Report,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    root: Option<Node>,
}

/// A finished node and what repeating it costs.
struct Anchored {
    node: Node,
    nodes: usize,
    height: usize,
}

/// A collection whose end has not been seen.
struct Open {
    anchor: usize,
    span: Span,
    first_node: usize,
    height: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, merged: Vec<Entry>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, text: &str) -> Result<(), BuildError> {
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let value = final_break_as_written(&value, style, span, text);
                let kind = NodeKind::Scalar(scalar::resolve(value, style, tag.as_deref()));
                let nodes = 1 + value.len() / TEXT_PER_NODE;
                self.count(nodes, span)?;
                let raw = if style == ScalarStyle::Plain { Some(value) } else { None };
                self.finish(Anchored { node: Node { span: Some(span), kind }, nodes, height: 1 }, anchor, raw)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, span, OpenKind::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(anchor, span, OpenKind::Map { entries: Vec::new(), merged: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.repeat(anchor, span),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(refused(span, "a second document begins here; a file holds one object"))
            }
            Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {
                Ok(())
            }
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), BuildError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(refused(span, format!("this expands to more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, span: Span, kind: OpenKind) -> Result<(), BuildError> {
        self.count(1, span)?;
        self.open.push(Open { anchor, span, first_node: self.nodes, height: 1, kind });
        if self.open.len() > MAX_DEPTH {
            return Err(too_deep(span));
        }
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), BuildError> {
        let Some(open) = self.open.pop() else {
            return Err(refused(end, "a collection ends that never began"));
        };
        let kind = match open.kind {
            OpenKind::List(items) => NodeKind::List(items),
            OpenKind::Map { entries, merged, .. } => NodeKind::Map(merge(entries, merged)),
        };
        let span = Span { end_line: end.end_line, end_column: end.end_column, ..open.span };
        let node = Node { span: Some(span), kind };
        let nodes = self.nodes - open.first_node + 1;
        self.finish(Anchored { node, nodes, height: open.height + 1 }, open.anchor, None)
    }

    /// An alias is a copy: it is counted as if it had been written out.
    fn repeat(&mut self, anchor: usize, span: Span) -> Result<(), BuildError> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(refused(span, "this alias stands inside of what it repeats"));
        };
        let (nodes, height) = (anchored.nodes, anchored.height);
        if self.open.len() + height > MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.count(nodes, span)?;
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Ok(());
        };
        let node = anchored.node.clone();
        self.finish(Anchored { node, nodes, height }, 0, None)
    }

    /// Puts a finished node where it belongs: under its anchor, into the open collection, or at the top.
    fn finish(&mut self, done: Anchored, anchor: usize, raw: Option<&str>) -> Result<(), BuildError> {
        let Anchored { node, nodes, height } = done;
        if anchor != 0 {
            self.count(nodes, node.span.unwrap_or(Span::point(1, 1)))?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, height });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { key: key @ None, .. } => *key = Some(as_key(&node, raw)?),
            OpenKind::Map { entries, merged, key: key @ Some(_) } => {
                if let Some((name, span)) = key.take() {
                    add_entry(entries, merged, Entry { key: name, key_span: Some(span), value: node }, self.report)?;
                }
            }
        }
        Ok(())
    }
}

fn refused(span: Span, what: impl Into<String>) -> BuildError {
    BuildError::Refused { span, what: what.into() }
}

fn too_deep(span: Span) -> BuildError {
    refused(span, format!("this is nested deeper than {MAX_DEPTH} levels"))
}

/// Keys are text: `80: web` has the key `80`.
fn as_key(node: &Node, raw: Option<&str>) -> Result<(String, Span), BuildError> {
    let span = node.span.unwrap_or(Span::point(1, 1));
    match (raw, &node.kind) {
        (Some(raw), _) => Ok((raw.to_owned(), span)),
        (None, NodeKind::Scalar(Value::String(text))) => Ok((text.clone(), span)),
        (None, NodeKind::Scalar(value)) => Ok((value.to_string(), span)),
        (None, NodeKind::List(_) | NodeKind::Map(_)) => Err(refused(span, "a key must be a text, not a collection")),
    }
}

fn add_entry(
    entries: &mut Vec<Entry>,
    merged: &mut Vec<Entry>,
    entry: Entry,
    report: &mut Report,
) -> Result<(), BuildError> {
    if entry.key == "<<" {
        return collect_merged(entry, merged);
    }
    let first = entries.iter_mut().find(|earlier| earlier.key == entry.key);
    let Some(first) = first else {
        entries.push(entry);
        return Ok(());
    };
    report.warning(entry.key_span, format!("the key `{}` is given twice; the last one counts", entry.key));
    if let Some(span) = first.key_span {
        report.help(format!("remove one of them; the first is in line {}", span.line));
    }
    *first = entry;
    Ok(())
}

/// `<<: *base` or `<<: [*one, *two]`; of several, the earlier wins.
fn collect_merged(entry: Entry, merged: &mut Vec<Entry>) -> Result<(), BuildError> {
    let span = entry.key_span.unwrap_or(Span::point(1, 1));
    let sources = match entry.value.kind {
        NodeKind::List(items) => items,
        NodeKind::Map(_) | NodeKind::Scalar(_) => vec![entry.value],
    };
    for source in sources {
        let NodeKind::Map(entries) = source.kind else {
            return Err(refused(span, "`<<` merges maps, and this is not one"));
        };
        for entry in entries {
            if !merged.iter().any(|earlier| earlier.key == entry.key) {
                merged.push(entry);
            }
        }
    }
    Ok(())
}

fn merge(entries: Vec<Entry>, mut merged: Vec<Entry>) -> Vec<Entry> {
    if merged.is_empty() {
        return entries;
    }
    merged.retain(|entry| !entries.iter().any(|own| own.key == entry.key));
    merged.extend(entries);
    merged
}

/// A block scalar at the end of a file without a final line break has none either for `PyYAML`.
fn final_break_as_written<'a>(value: &'a str, style: ScalarStyle, span: Span, text: &str) -> &'a str {
    let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    if is_block && !text.ends_with('\n') && span.end_line >= text.split('\n').count() {
        return value.strip_suffix('\n').unwrap_or(value);
    }
    value
}
