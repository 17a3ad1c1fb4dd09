//! `pack.yaml`, `config.schema.yaml` and the values of a configuration.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::model::action::{ParameterSpec, SHORTEST_MASKED_BYTES};
use crate::model::pack::Pack;
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::suggest::did_you_mean;
use crate::packs::yaml::{Entry, Node};

/// The pack in folder `path`; its reference is `ref`, else made from its name.
pub fn read_pack(node: &Node, path: &Path, report: &mut Report) -> Option<Pack> {
    let mut fields = Fields::open(node, "pack", report)?;
    let name = fields.required_text("name", report)?;
    let reference = fields.text("ref", report).unwrap_or_else(|| name.to_lowercase().replace([' ', '-'], "_"));
    if !is_pack_name(&reference) {
        let span = fields.entry("ref").or_else(|| fields.entry("name")).and_then(Entry::place);
        report.error(span, format!("`{reference}` is not the name of a pack"));
        report.help("add `ref:` with lower-case letters, digits and `_` only");
        return None;
    }
    let pack = Pack {
        reference,
        name,
        description: fields.text("description", report).unwrap_or_default(),
        version: read_version(&mut fields, report),
        author: fields.text("author", report).unwrap_or_default(),
        email: fields.text("email", report).unwrap_or_default(),
        keywords: fields.texts("keywords", report),
        dependencies: fields.texts("dependencies", report),
        path: path.to_owned(),
        config_schema: BTreeMap::new(),
        config: BTreeMap::new(),
    };
    fields.bookkeeping(&["uid", "id", "path", "files"]);
    fields.not_acted_on(&["stackstorm_version", "python_versions", "contributors", "system"], report);
    fields.finish(report);
    Some(pack)
}

/// A pack without `pack.yaml`: the site's own.
pub fn bare_pack(reference: &str, path: &Path) -> Pack {
    Pack {
        reference: reference.to_owned(),
        name: reference.to_owned(),
        description: String::new(),
        version: "0.0.0".to_owned(),
        author: String::new(),
        email: String::new(),
        keywords: Vec::new(),
        dependencies: Vec::new(),
        path: path.to_owned(),
        config_schema: BTreeMap::new(),
        config: BTreeMap::new(),
    }
}

/// The attributes of `config.schema.yaml`.
pub fn read_config_schema(node: &Node, report: &mut Report) -> BTreeMap<String, ParameterSpec> {
    if node.is_null() {
        return BTreeMap::new();
    }
    let Some(entries) = node.entries() else {
        report.error(node.span, format!("a configuration schema must be a map of attributes, not {}", node.shape()));
        return BTreeMap::new();
    };
    super::read_parameters(entries, report)
}

/// Values of a configuration, with a warning for those that the schema does not know.
pub fn read_config(node: &Node, pack: &Pack, report: &mut Report) -> BTreeMap<String, Value> {
    if node.is_null() {
        return BTreeMap::new();
    }
    let Some(entries) = node.entries() else {
        report.error(node.span, format!("a configuration must be a map of values, not {}", node.shape()));
        return BTreeMap::new();
    };
    for entry in entries {
        if let Some(spec) = pack.config_schema.get(&entry.key) {
            if spec.secret_texts(&entry.value.to_json()).iter().any(|text| is_too_short(text)) {
                let what = format!("`{}` is secret, and too short to be masked where it shows", entry.key);
                report.warning(entry.key_span, what);
                report.help(format!("take a longer secret; {SHORTEST_MASKED_BYTES} bytes are the least"));
            }
            continue;
        }
        let what = format!("the configuration schema of pack `{}` has no `{}`", pack.reference, entry.key);
        report.warning(entry.key_span, what);
        if let Some(help) = did_you_mean(&entry.key, pack.config_schema.keys().map(String::as_str)) {
            report.help(help);
        }
    }
    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
}

fn is_too_short(secret: &str) -> bool {
    let length = secret.trim().len();
    length > 0 && length < SHORTEST_MASKED_BYTES
}

/// May a pack be called so?
pub fn is_pack_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A version may look like a number, and is text all the same.
fn read_version(fields: &mut Fields<'_>, report: &mut Report) -> String {
    let version = fields.required_text("version", report).unwrap_or_default();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let is_semantic = core.split('.').count() == 3 && core.split('.').all(|part| part.parse::<u64>().is_ok());
    if !is_semantic && !version.is_empty() {
        let span = fields.entry("version").and_then(Entry::place);
        report.warning(span, format!("`{version}` is not a semantic version"));
        report.help("write three numbers, as `1.0.0`");
    }
    version
}
