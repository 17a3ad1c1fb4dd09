//! The secret values of an execution: sealed in its context, so that whatever shows it later can mask them (G9).

use serde_json::{Map, Value, json};

use crate::datastore::Datastore;
use crate::secrets::Redactor;

/// Where they travel in the context.
const SEALED_SECRETS: &str = "sealed_secrets";

/// They are there, and this installation's key does not open them.
#[derive(Debug, thiserror::Error)]
#[error("the execution's secrets cannot be opened: {0}; is `datastore.key` the one they were sealed with?")]
pub struct Unopened(String);

/// Adds secrets to a context: what the tree above knows as secret stays secret below.
pub fn seal_into(
    mut context: Map<String, Value>,
    secrets: &[String],
    datastore: &Datastore,
) -> Result<Map<String, Value>, Unopened> {
    if secrets.is_empty() {
        return Ok(context);
    }
    let mut all = open(context.get(SEALED_SECRETS), datastore)?;
    all.extend(secrets.iter().cloned());
    all.sort();
    all.dedup();
    let sealed = datastore.keyring().seal(&json!(all).to_string());
    context.insert(SEALED_SECRETS.to_owned(), Value::String(sealed));
    Ok(context)
}

/// Masks the secret values of an execution; everything, if it cannot be known which they are.
pub fn redactor_of(context: &Value, datastore: &Datastore) -> Redactor {
    open(context.get(SEALED_SECRETS), datastore).map_or_else(
        |problem| {
            tracing::error!(%problem, "all texts of an execution are masked");
            Redactor::everything()
        },
        Redactor::new,
    )
}

/// The context of an execution as people may see it.
pub fn shown_context(context: &Value) -> Value {
    let mut shown = context.clone();
    if let Value::Object(members) = &mut shown {
        members.remove(SEALED_SECRETS);
    }
    shown
}

fn open(sealed: Option<&Value>, datastore: &Datastore) -> Result<Vec<String>, Unopened> {
    let Some(sealed) = sealed else { return Ok(Vec::new()) };
    let sealed = sealed.as_str().ok_or_else(|| Unopened("they are not a text".to_owned()))?;
    let opened = datastore.keyring().open(sealed).map_err(|problem| Unopened(problem.to_string()))?;
    serde_json::from_str(&opened).map_err(|problem| Unopened(problem.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;
    use crate::secrets::{Keyring, MASK};
    use crate::store::Store;

    fn datastore(key: u8) -> Datastore {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        Datastore::new(store.key_values(), Arc::new(Keyring::from_key(&[key; 32])), clock)
    }

    #[test]
    fn secrets_of_the_tree_above_are_masked_below() {
        let datastore = datastore(1);
        let above = seal_into(Map::new(), &["hunter22".to_owned()], &datastore).unwrap();
        let below = seal_into(above, &["swordfish".to_owned()], &datastore).unwrap();
        let redactor = redactor_of(&Value::Object(below), &datastore);
        assert_eq!(redactor.redact("hunter22 and swordfish"), format!("{MASK} and {MASK}"));
    }

    #[test]
    fn secrets_that_cannot_be_opened_mask_everything_rather_than_nothing() {
        let sealed = seal_into(Map::new(), &["hunter22".to_owned()], &datastore(1)).unwrap();
        let other = datastore(2);
        let redactor = redactor_of(&Value::Object(sealed.clone()), &other);
        assert_eq!(redactor.redact("is it hunter22?"), MASK);
        assert_eq!(redactor.redact_value(&json!({ "a": ["hunter22", 7, null] })), json!({ MASK: [MASK, MASK, null] }));
        assert!(seal_into(sealed, &["swordfish".to_owned()], &other).is_err(), "what is sealed is not dropped");
    }

    #[test]
    fn an_execution_without_secrets_is_shown_as_it_is() {
        assert_eq!(redactor_of(&json!({ "user": "ops" }), &datastore(1)).redact("plain"), "plain");
    }
}
