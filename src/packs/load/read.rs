//! Reads one file, or its last good version when the file is no good.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::packs::diagnostic::{Diagnostic, Report};
use crate::packs::digest::sha256;
use crate::packs::yaml::{self, MAX_BYTES, Node};

use super::object::Item;
use super::{LastGood, Source};

/// A file that was understood.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    pub(super) node: Node,
    pub(super) file: String,
    pub(super) text: Arc<str>,
    /// It is not the file's content but the last good version.
    pub(super) kept: bool,
}

impl<T> Parsed<T> {
    pub(super) fn source(&self) -> Source {
        Source { file: self.file.clone(), sha256: sha256(&self.text), text: Arc::clone(&self.text) }
    }
}

/// Reads files and collects what is found.
pub(super) struct Reader<'a> {
    pub(super) last_good: &'a BTreeMap<String, LastGood>,
    by_file: BTreeMap<&'a str, (&'a str, &'a LastGood)>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What an object was read from before its last good version took its place.
    pub(super) superseded: BTreeMap<String, Parsed<Item>>,
    remarks: Vec<Report>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(last_good: &'a BTreeMap<String, LastGood>) -> Self {
        let by_file = last_good.iter().map(|(uid, good)| (good.file.as_str(), (uid.as_str(), good))).collect();
        Self { last_good, by_file, diagnostics: Vec::new(), superseded: BTreeMap::new(), remarks: Vec::new() }
    }

    /// A report about a file or folder as a whole.
    pub(super) fn remark(&mut self, label: &str) -> &mut Report {
        self.remarks.push(Report::new(label, "".into()));
        let last = self.remarks.len() - 1;
        &mut self.remarks[last]
    }

    /// Reads a file; falls back to its last good version.
    pub(super) fn read<T>(
        &mut self,
        path: &Path,
        label: &str,
        read: impl Fn(&Node, &mut Report) -> Option<T>,
        uid: impl Fn(&T) -> String,
    ) -> Option<Parsed<T>> {
        let text: Arc<str> = match read_text(path) {
            Ok(text) => text.into(),
            Err(error) => {
                self.remark(label).error(None, format!("cannot read the file: {error}"));
                return self.read_kept(label, &read);
            }
        };
        let mut report = Report::new(label, Arc::clone(&text));
        let node = yaml::read(label, &text, &mut report);
        let value = node.as_ref().and_then(|node| read(node, &mut report));
        if let Some(value) = &value {
            report.name_object(&uid(value));
        } else if let Some((uid, _)) = self.by_file.get(label) {
            report.name_object(uid);
        }
        let good = !report.has_errors();
        self.diagnostics.extend(report.into_diagnostics());
        match (node, value) {
            (Some(node), Some(value)) if good => {
                Some(Parsed { value, node, file: label.to_owned(), text, kept: false })
            }
            _ => self.read_kept(label, &read),
        }
    }

    /// The last good version of a file.
    fn read_kept<T>(&mut self, label: &str, read: &impl Fn(&Node, &mut Report) -> Option<T>) -> Option<Parsed<T>> {
        let (uid, good) = *self.by_file.get(label)?;
        let parsed = parse_good(good, label, read)?;
        self.say_kept(uid, label, &parsed.text);
        Some(parsed)
    }

    /// Tells that an earlier version goes on working.
    pub(super) fn say_kept(&mut self, uid: &str, label: &str, text: &str) {
        let digest = sha256(text);
        let short: String = digest.chars().take(12).collect();
        let report = self.remark(label);
        report.note(None, format!("keeping the version of `{uid}` that was good before (sha256 {short})"));
        report.name_object(uid);
    }

    /// All that was found.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let remarks = self.remarks.into_iter().flat_map(Report::into_diagnostics);
        self.diagnostics.into_iter().chain(remarks).collect()
    }
}

/// Understands a text that was good before; what it has to warn about has been said before.
pub(super) fn parse_good<T>(
    good: &LastGood,
    label: &str,
    read: &impl Fn(&Node, &mut Report) -> Option<T>,
) -> Option<Parsed<T>> {
    let text: Arc<str> = good.text.as_str().into();
    let mut aside = Report::new(label, Arc::clone(&text));
    let node = yaml::read(label, &text, &mut aside)?;
    let value = read(&node, &mut aside)?;
    (!aside.has_errors()).then(|| Parsed { value, node, file: label.to_owned(), text, kept: true })
}

/// One byte more than the limit is enough to know that the limit is passed.
fn read_text(path: &Path) -> std::io::Result<String> {
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}
