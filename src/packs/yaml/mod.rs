//! YAML and JSON as a tree whose every node knows where it was written.
//!
//! Values are those that `PyYAML` gives; the places come from saphyr's events. What the one reads and the other refuses
//! is read without places. Size, depth and alias expansion are bounded.

mod node;
mod scalar;
mod build;

pub use node::{Entry, Node, NodeKind};

use saphyr_parser::ScanError;
use serde_json::Value;

use crate::packs::diagnostic::{Report, Span};

/// Larger metadata files are refused.
pub const MAX_BYTES: usize = 1 << 20;
/// Deeper nesting is refused.
pub const MAX_DEPTH: usize = 64;
/// More values, counting every use of an alias, are refused.
pub const MAX_NODES: usize = 50_000;

/// Reads a metadata file by its extension; `None` if it cannot be read, with the reason in the report.
pub fn read(file: &str, text: &str, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_BYTES {
        report.error(None, format!("the file is larger than {} KiB", MAX_BYTES / 1024));
        return None;
    }
    let is_json = std::path::Path::new(file).extension().is_some_and(|extension| extension == "json");
    if is_json { read_json(text, report) } else { read_yaml(text, report) }
}

/// Why saphyr's events gave no tree.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// It is not YAML for saphyr; libyaml may think otherwise.
    Syntax(ScanError),
    /// It is YAML, but nothing we take.
    Refused {
        /// Where.
        span: Span,
        /// Why.
        what: String,
    },
}

fn read_yaml(text: &str, report: &mut Report) -> Option<Node> {
    match build::build(text, report) {
        Ok(node) => Some(node),
        Err(BuildError::Refused { span, what }) => {
            report.error(Some(span), what);
            None
        }
        Err(BuildError::Syntax(error)) => read_without_places(text, &error, report),
    }
}

/// The second opinion: libyaml, which StackStorm's users know, reads some files that YAML 1.2 forbids.
fn read_without_places(text: &str, error: &ScanError, report: &mut Report) -> Option<Node> {
    let place = Span::point(error.marker().line(), error.marker().col() + 1);
    let second: Result<Value, _> = serde_yaml::from_str(text);
    if let Ok(value) = second {
        report.warning(Some(place), format!("this is not valid YAML 1.2: {}", error.info()));
        report.help("it is read as StackStorm reads it; indent continued lines deeper than their key");
        return Some(Node::from_json(&value));
    }
    report.error(Some(place), format!("broken YAML: {}", error.info()));
    if let Some(tab) = indenting_tab(text, error.marker().line()) {
        report.help(format!("line {tab} is indented with a tab; YAML wants spaces"));
    }
    None
}

/// The line at or just before `line` that begins with a tab.
fn indenting_tab(text: &str, line: usize) -> Option<usize> {
    let first = line.saturating_sub(2);
    let near = text.lines().enumerate().skip(first).take(3);
    near.filter(|(_, text)| text.trim_start_matches(' ').starts_with('\t')).map(|(index, _)| index + 1).next()
}

/// JSON is judged by `serde_json`; the places are saphyr's where both agree on the value.
fn read_json(text: &str, report: &mut Report) -> Option<Node> {
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            report.error(Some(Span::point(error.line(), error.column().max(1))), format!("broken JSON: {error}"));
            return None;
        }
    };
    let mut aside = Report::new("", "".into());
    let placed = build::build(text, &mut aside).ok().filter(|node| node.to_json() == value);
    Some(placed.unwrap_or_else(|| Node::from_json(&value)))
}

#[cfg(test)]
mod tests;
