//! Action aliases: checked for their shape and kept as written; chat compiles what they say.

use crate::model::pack::Alias;
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::{BOOKKEEPING, Origin, read_reference, read_target};
use crate::packs::yaml::Node;

/// An action alias.
pub fn read_alias(node: &Node, origin: &Origin, report: &mut Report) -> Option<Alias> {
    let mut fields = Fields::open(node, "action alias", report)?;
    let name = fields.required_text("name", report);
    let reference = read_reference(name, &mut fields, origin, report);
    let action = read_target("action_ref", &mut fields, report);
    let description = fields.text("description", report).unwrap_or_default();
    let enabled = fields.flag("enabled", report).unwrap_or(true);
    if fields.list("formats", report).is_empty() {
        fields.missing("formats", report);
    }
    for key in ["ack", "result", "extra", "immutable_parameters"] {
        fields.map(key, report);
    }
    fields.texts("users", report);
    fields.flag("confirm", report);
    fields.bookkeeping(BOOKKEEPING);
    fields.finish(report);
    Some(Alias {
        reference: reference?,
        description,
        enabled,
        action: action?,
        metadata: node.to_json(),
        metadata_file: origin.metadata_file.clone(),
    })
}
