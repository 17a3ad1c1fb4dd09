//! What a script does to the datastore: the value it gets and the write that goes with the journal entry. A value is
//! JSON where it reads as JSON, and text otherwise, as StackStorm's users store structures.

use std::time::Duration;

use serde_json::{Value, json};

use super::outcome::StepOutcome;
use super::request::{Request, StepKind};
use crate::datastore::sealed::secret_parts;
use crate::datastore::{Datastore, SYSTEM_SCOPE, Sealing};
use crate::model::key_access::{KeyAccess, names_key};
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::key_values::{Expected, KeyRow, KeyWrite};

/// One step on the datastore, worked out over what is there now.
pub(super) struct KeyStep {
    pub(super) outcome: StepOutcome,
    /// To be committed with the entry, under the expectation that nothing has changed.
    pub(super) write: Option<KeyWrite>,
    /// What it decrypted or encrypted, to be masked.
    pub(super) secrets: Vec<String>,
}

/// Who asks, and with what rights.
pub(super) struct Asking<'a> {
    /// On whose behalf the workflow runs.
    pub(super) user: &'a str,
    /// Which encrypted keys may be decrypted.
    pub(super) access: KeyAccess,
    /// The workflow's scripts, to see which keys they name.
    pub(super) scripts: &'a str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The script asked for something that cannot be: it is told, and that is its answer for good.
    Refused(String),
    /// The store is away: nobody knows the answer yet.
    StoreAway(StoreError),
}

impl From<String> for NoAnswer {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<&str> for NoAnswer {
    fn from(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl From<StoreError> for NoAnswer {
    fn from(problem: StoreError) -> Self {
        match problem {
            StoreError::Unavailable(_) => Self::StoreAway(problem),
            StoreError::NotFound(_) | StoreError::Conflict | StoreError::Refused(_) | StoreError::Corrupt(_) => {
                Self::Refused(problem.to_string())
            }
        }
    }
}

impl KeyStep {
    pub(super) fn of(
        request: &Request,
        datastore: &Datastore,
        asking: &Asking<'_>,
        now: Timestamp,
    ) -> Result<Self, NoAnswer> {
        let asked = request.params.get("key").and_then(Value::as_str).ok_or("a key must be a text")?;
        let (scope, key) = scope_of(asked, asking.user);
        let row = datastore.get_blocking(&scope, &key)?;
        let is_secret = row.as_ref().is_some_and(|row| row.secret);
        if is_secret && !asking.may_decrypt(request.kind, asked, &key) {
            return Err(not_named(&key).into());
        }
        let text = row.as_ref().map(|row| datastore.open(row)).transpose()?;
        let value = text.as_deref().map(value_of);
        let mut secrets = Vec::new();
        if is_secret {
            let written = ["value", "expected"].into_iter().filter_map(|name| request.params.get(name)).map(text_of);
            secrets.extend(text.iter().cloned().chain(written).flat_map(|text| secret_parts(&text)));
        }
        let expected = row.as_ref().map_or(Expected::Absent, |row| Expected::Version(row.version));
        let param = |name: &str| request.params.get(name).cloned().unwrap_or_default();
        let set = |value: &Value, expected| KeyWrite {
            expected,
            ..datastore.write(&scope, &key, &text_of(value), sealing_of(row.as_ref()), ttl(request, now))
        };
        let step = match request.kind {
            StepKind::KvSet => Self::with(Value::Null, set(&param("value"), Expected::Anything)),
            StepKind::KvIncr => {
                let number = increment(value.as_ref(), &param("by"), &key)?;
                Self::with(json!(number), set(&json!(number), expected))
            }
            StepKind::KvCas if value.as_ref().unwrap_or(&Value::Null) == &param("expected") => {
                Self::with(json!(true), set(&param("value"), expected))
            }
            StepKind::KvDelete if row.is_some() => {
                let gone = KeyWrite { value: None, ..set(&Value::Null, expected) };
                Self::with(json!(true), gone)
            }
            StepKind::KvCas | StepKind::KvDelete => Self::only(json!(false)),
            _ => Self::only(value.unwrap_or_default()),
        };
        Ok(Self { secrets, ..step })
    }

    fn only(value: Value) -> Self {
        Self { outcome: StepOutcome::Ok(value), write: None, secrets: Vec::new() }
    }

    fn with(value: Value, write: KeyWrite) -> Self {
        Self { write: Some(write), ..Self::only(value) }
    }
}

/// `user:name` is a key of the user on whose behalf the workflow runs; everything else is everybody's.
fn scope_of(key: &str, user: &str) -> (String, String) {
    match key.strip_prefix("user:") {
        Some(name) => (crate::datastore::user_scope(user), name.to_owned()),
        None => (SYSTEM_SCOPE.to_owned(), key.to_owned()),
    }
}

fn sealing_of(row: Option<&KeyRow>) -> Sealing {
    if row.is_some_and(|row| row.secret) { Sealing::Sealed } else { Sealing::Clear }
}

impl Asking<'_> {
    /// Only what tells the script something of the value decrypts it.
    fn may_decrypt(&self, kind: StepKind, asked: &str, key: &str) -> bool {
        let tells_nothing = matches!(kind, StepKind::KvSet | StepKind::KvDelete);
        let is_named = || names_key(self.scripts, asked) || names_key(self.scripts, key);
        self.access == KeyAccess::Any || tells_nothing || is_named()
    }
}

fn not_named(key: &str) -> String {
    format!(
        "key `{key}` is encrypted and the workflow does not name it: whoever chose it may not see encrypted values in \
         clear. Write the key, or its beginning up to a `/`, as a text into the script, or let an admin ask"
    )
}

fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn increment(value: Option<&Value>, by: &Value, key: &str) -> Result<i64, String> {
    let current = match value {
        None => 0,
        Some(value) => value.as_i64().ok_or_else(|| format!("key `{key}` holds {value}, which is no whole number"))?,
    };
    let by = by.as_i64().unwrap_or(1);
    current.checked_add(by).ok_or_else(|| format!("key `{key}` would grow beyond 64 bits"))
}

fn ttl(request: &Request, now: Timestamp) -> Option<Timestamp> {
    let millis = request.params.get("ttl_millis").and_then(Value::as_u64)?;
    Some(now.plus(Duration::from_millis(millis)))
}
