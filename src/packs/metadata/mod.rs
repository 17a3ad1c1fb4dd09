//! StackStorm's metadata, noun by noun: from the tree of a file to the typed model.
//!
//! All of StackStorm's fields are read. What is unknown is a warning; what is known but of no effect is a note.

pub mod pack;
pub mod action;
pub mod rule;
pub mod criteria;
pub mod trigger;
pub mod sensor;
pub mod alias;
pub mod policy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::action::ParameterSpec;
use crate::model::refs::Ref;
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::parameter::unknown_attributes;
use crate::packs::suggest::closest;
use crate::packs::yaml::Entry;
use crate::schema::translate_parameter;

/// Where the metadata that is being read comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The pack it belongs to.
    pub pack: String,
    /// The folder in which its entry points are looked up.
    pub folder: PathBuf,
    /// The metadata file, relative to the pack.
    pub metadata_file: String,
}

impl Origin {
    /// File name without extension: the name of what gives itself none.
    fn stem(&self) -> String {
        let stem = Path::new(&self.metadata_file).file_stem();
        stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The keys that StackStorm's API adds to every object.
const BOOKKEEPING: &[&str] = &["id", "uid", "ref", "metadata_file"];

/// `pack` and `name`: the pack is where the file lies, whatever it says.
fn read_reference<K>(
    name: Option<String>,
    fields: &mut Fields<'_>,
    origin: &Origin,
    report: &mut Report,
) -> Option<Ref<K>> {
    let said = fields.text("pack", report);
    if let Some(said) = said.filter(|said| *said != origin.pack) {
        let span = fields.entry("pack").and_then(Entry::place);
        report.warning(span, format!("`pack: {said}` is not the pack in which the file lies, `{}`", origin.pack));
        report.help(format!("it is loaded as part of `{}`; correct or remove the line", origin.pack));
    }
    match Ref::new(&origin.pack, &name?) {
        Ok(reference) => Some(reference),
        Err(error) => {
            let span = fields.entry("name").and_then(Entry::place);
            report.error(span, error.to_string());
            None
        }
    }
}

/// A field that must hold a reference `pack.name`.
fn read_target<K>(key: &'static str, fields: &mut Fields<'_>, report: &mut Report) -> Option<Ref<K>> {
    let text = fields.required_text(key, report)?;
    match text.parse() {
        Ok(reference) => Some(reference),
        Err(error) => {
            let span = fields.entry(key).and_then(Entry::place);
            report.error(span, format!("`{key}`: {error}"));
            None
        }
    }
}

/// A map of parameters by name.
fn read_parameters(entries: &[Entry], report: &mut Report) -> BTreeMap<String, ParameterSpec> {
    entries.iter().filter_map(|entry| read_parameter(entry, report)).collect()
}

fn read_parameter(entry: &Entry, report: &mut Report) -> Option<(String, ParameterSpec)> {
    let raw = entry.value.to_json();
    for (unknown, help) in unknown_attributes(&raw) {
        let span = entry.value.locate(&[unknown.as_str()]);
        report.warning(span, format!("unknown attribute `{unknown}` of parameter `{}`", entry.key));
        if let Some(help) = help {
            report.help(help);
        }
    }
    match translate_parameter(&raw) {
        Ok(spec) => Some((entry.key.clone(), spec)),
        Err(error) => {
            report.error(entry.place(), format!("parameter `{}`: {error}", entry.key));
            None
        }
    }
}

/// Two parameters at one place would make the order of a script's arguments a matter of luck.
fn check_positions(entries: &[Entry], parameters: &BTreeMap<String, ParameterSpec>, report: &mut Report) {
    let mut taken: BTreeMap<u32, &str> = BTreeMap::new();
    for entry in entries {
        let Some(position) = parameters.get(&entry.key).and_then(|spec| spec.position) else {
            continue;
        };
        if let Some(other) = taken.insert(position, &entry.key) {
            let span = entry.value.locate(&["position"]);
            report.error(span, format!("parameters `{other}` and `{}` both have position {position}", entry.key));
        }
    }
}

/// One of a few words.
fn read_word<T: Copy>(
    key: &'static str,
    words: &[(&str, T)],
    fields: &mut Fields<'_>,
    report: &mut Report,
) -> Option<Result<T, ()>> {
    let text = fields.text(key, report)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Some(Ok(*meaning));
    }
    let span = fields.entry(key).and_then(Entry::place);
    report.error(span, format!("`{key}` cannot be `{text}`"));
    let names = || words.iter().map(|(word, _)| *word);
    match closest(&text, names()) {
        Some(near) => report.help(format!("did you mean `{near}`?")),
        None => report.help(format!("it is one of {}", names().collect::<Vec<_>>().join(", "))),
    };
    Some(Err(()))
}

#[cfg(test)]
mod tests;
