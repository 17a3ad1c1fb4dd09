//! What a group is that somebody makes with few words, in a chat room for instance: the rest stands in the pack's
//! configuration.

use serde_json::{Map, Value, json};

use crate::model::pack::Catalogue;

/// Who makes nodes if nobody says.
const PROVIDER: &str = "local";

/// What was said, and for the rest what `configs/autoscale.yaml` says. Parameters and limits are filled up one by one.
pub(super) fn filled(said: &Map<String, Value>, catalogue: &Catalogue) -> Map<String, Value> {
    let mut group = match catalogue.configuration("autoscale").remove("group_defaults") {
        Some(Value::Object(defaults)) => defaults,
        Some(_) | None => Map::new(),
    };
    group.entry("provider").or_insert_with(|| json!(PROVIDER));
    for (field, value) in said.iter().filter(|(_, value)| !value.is_null()) {
        match (group.get_mut(field), value) {
            (Some(Value::Object(known)), Value::Object(said)) => known.extend(said.clone()),
            _ => drop(group.insert(field.clone(), value.clone())),
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::pack::Pack;

    #[test]
    fn few_words_are_filled_up_and_what_is_said_counts() {
        let defaults = json!({ "dns": "dns", "provider": "aws", "config": { "min_nodes": 2, "max_nodes": 8 } });
        let config = BTreeMap::from([("group_defaults".to_owned(), defaults)]);
        let mut catalogue = Catalogue::default();
        let said = json!({ "name": "web", "dns": null, "config": { "max_nodes": 4 } });
        let plain = filled(said.as_object().unwrap(), &catalogue);
        assert_eq!(Value::Object(plain), json!({ "name": "web", "provider": "local", "config": { "max_nodes": 4 } }));
        catalogue.packs.insert("autoscale".to_owned(), Arc::new(Pack { config, ..Pack::default() }));
        let full = filled(said.as_object().unwrap(), &catalogue);
        let wanted =
            json!({ "name": "web", "provider": "aws", "dns": "dns", "config": { "min_nodes": 2, "max_nodes": 4 } });
        assert_eq!(Value::Object(full), wanted);
    }
}
