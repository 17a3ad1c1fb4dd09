//! The secret values of an execution: encrypted in its context, so that whatever shows it later can mask them (G9).
//! Everything that is decrypted or declared secret on the way to an execution, or while it runs, is added here.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Datastore;
use crate::model::action::texts_in;
use crate::model::key_access::KeyAccess;
use crate::secrets::{Keyring, Redactor};
use crate::store::Sealer;
use crate::store::rows::SEALED_SECRETS;

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
    let mut all: BTreeSet<String> = open(context.get(SEALED_SECRETS), datastore)?.into_iter().collect();
    let known = all.len();
    all.extend(secrets.iter().cloned());
    if all.len() > known {
        let sealed = datastore.keyring().seal(&json!(all).to_string());
        context.insert(SEALED_SECRETS.to_owned(), Value::String(sealed));
    }
    Ok(context)
}

/// The secrets of an execution in clear, to be masked in others that get values from it.
pub fn secrets_of(context: &Value, datastore: &Datastore) -> Result<Vec<String>, Unopened> {
    open(context.get(SEALED_SECRETS), datastore)
}

/// The same as they are stored; `None`: it has none.
pub fn sealed_secrets_of(context: &Value) -> Option<&str> {
    context.get(SEALED_SECRETS).and_then(Value::as_str)
}

/// What [`sealed_secrets_of`] gave, in clear.
pub fn open_secrets(sealed: &str, datastore: &Datastore) -> Result<Vec<String>, Unopened> {
    open(Some(&Value::from(sealed)), datastore)
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
        KeyAccess::hide_in(members);
    }
    shown
}

/// What of a decrypted text is secret: all of it and, if it is a structure as JSON, each value in it.
pub fn secret_parts(text: &str) -> Vec<String> {
    let mut parts = vec![text.to_owned()];
    if let Ok(structure @ (Value::Array(_) | Value::Object(_))) = serde_json::from_str(text) {
        parts.extend(texts_in(&structure));
    }
    parts
}

fn open(sealed: Option<&Value>, datastore: &Datastore) -> Result<Vec<String>, Unopened> {
    let Some(sealed) = sealed else { return Ok(Vec::new()) };
    let sealed = sealed.as_str().ok_or_else(|| Unopened("they are not a text".to_owned()))?;
    let opened = datastore.keyring().open(sealed).map_err(|problem| Unopened(problem.to_string()))?;
    serde_json::from_str(&opened).map_err(|problem| Unopened(problem.to_string()))
}

impl Sealer for Keyring {
    fn seal_bytes(&self, plain: &[u8]) -> Vec<u8> {
        self.seal_cell_bytes(plain)
    }

    fn open_bytes(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open_cell_bytes(sealed)
    }

    fn seal_text(&self, plain: &str) -> String {
        self.seal_cell_text(plain)
    }

    fn open_text(&self, sealed: &str) -> Option<String> {
        self.open_cell_text(sealed)
    }
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
    fn people_are_warned_of_the_very_secrets_that_are_not_masked() {
        assert_eq!(crate::model::action::SHORTEST_MASKED_BYTES, crate::secrets::SHORTEST_SECRET_BYTES);
    }

    #[test]
    fn an_execution_without_secrets_is_shown_as_it_is() {
        assert_eq!(redactor_of(&json!({ "user": "ops" }), &datastore(1)).redact("plain"), "plain");
    }
}
