//! An answer of AWS as a tree of named elements: namespaces and attributes carry nothing that we need.

use roxmltree::{Document, Node};

/// A deeper one is not of AWS, and would be read by recursion.
const DEEPEST: usize = 64;

/// An element of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads an answer; `None` if it is not XML.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let document = Document::parse(text).ok()?;
        Self::of(document.root_element(), DEEPEST)
    }

    fn of(node: Node<'_, '_>, deepest: usize) -> Option<Self> {
        let deeper = deepest.checked_sub(1)?;
        let children = node.children().filter(Node::is_element).map(|child| Self::of(child, deeper));
        Some(Self {
            name: node.tag_name().name().to_owned(),
            text: node.text().unwrap_or_default().trim().to_owned(),
            children: children.collect::<Option<_>>()?,
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What stands in it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub(super) fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The elements at the end of a path of names.
    pub(super) fn all<'a>(&'a self, path: &[&'a str]) -> Vec<&'a Self> {
        path.iter().fold(vec![self], |found, name| {
            found.into_iter().flat_map(|element| element.children_named(name)).collect()
        })
    }

    /// The text at the end of a path of names, if there is some.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        let mut found = self;
        for name in path {
            found = found.child(name)?;
        }
        (!found.text.is_empty()).then_some(found.text.as_str())
    }

    /// The same for what cannot be missing; nothing if it is.
    pub(super) fn said(&self, path: &[&str]) -> String {
        self.text_at(path).unwrap_or_default().to_owned()
    }
}

/// A text as it stands between two tags.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_the_names_of_its_elements() {
        let text = "<R xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15\"><set><item><id>i-1</id></item><item><id>i-2</id>\
                    <reason/></item></set></R>";
        let answer = Element::parse(text).unwrap();
        let ids: Vec<_> = answer.all(&["set", "item", "id"]).into_iter().map(Element::text).collect();
        assert_eq!((answer.name(), ids), ("R", vec!["i-1", "i-2"]));
        assert_eq!(answer.text_at(&["set", "item", "id"]), Some("i-1"));
        assert_eq!(answer.text_at(&["set", "item", "reason"]), None);
    }

    #[test]
    fn what_is_not_of_aws_is_not_read() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        for text in ["", "Service Unavailable", "<!doctype html><title>500</title>", "<a>", deep.as_str(), bomb] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
    }
}
