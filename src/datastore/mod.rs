//! The datastore as the rest of Petrel reads it: values opened or left sealed, names in StackStorm's scopes.

pub mod sealed;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::model::key_access::{KeyAccess, names_key};
use crate::model::time::Timestamp;
pub use crate::secrets::Redactor;

use crate::secrets::Keyring;
use crate::store::key_values::{Expected, KeyRow, KeyWrite};
use crate::store::{KeyValues, StoreError};
use crate::templates;

/// Everybody's scope.
pub const SYSTEM_SCOPE: &str = "system";

/// The scope of one user.
pub fn user_scope(user: &str) -> String {
    format!("user:{user}")
}

/// Reads and writes values; knows the key that seals the secret ones.
#[derive(Clone)]
pub struct Datastore {
    values: KeyValues,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Datastore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Datastore")
    }
}

impl Datastore {
    /// Over the store's rows, sealed with the installation's key.
    pub fn new(values: KeyValues, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) -> Self {
        Self { values, keyring, clock }
    }

    /// The rows.
    pub const fn values(&self) -> &KeyValues {
        &self.values
    }

    /// The key.
    pub const fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// One value as stored.
    pub async fn get(&self, scope: &str, name: &str) -> Result<Option<KeyRow>, StoreError> {
        self.values.key_get(scope, name, self.clock.now()).await
    }

    /// The same from a thread that may block.
    pub fn get_blocking(&self, scope: &str, name: &str) -> Result<Option<KeyRow>, StoreError> {
        self.values.key_get_blocking(scope, name, self.clock.now())
    }

    /// What to write to set a value; seals it if it is to be secret.
    pub fn write(&self, scope: &str, name: &str, value: &str, sealing: Sealing, until: Option<Timestamp>) -> KeyWrite {
        let (value, secret) = match sealing {
            Sealing::Clear => (value.to_owned(), false),
            Sealing::Sealed => (self.keyring.seal(value), true),
        };
        KeyWrite {
            scope: scope.to_owned(),
            name: name.to_owned(),
            value: Some(value),
            secret,
            expires_at: until,
            expected: Expected::Anything,
        }
    }

    /// The value in clear.
    pub fn open(&self, row: &KeyRow) -> Result<String, String> {
        if !row.secret {
            return Ok(row.value.clone());
        }
        self.keyring.open(&row.value).map_err(|problem| format!("key `{}`: {problem}", row.name))
    }

    /// Text that only this installation makes of these bytes.
    pub fn keyed_hash(&self, bytes: &[u8]) -> String {
        self.keyring.keyed_hash(bytes)
    }

    /// A view for templates of content, on behalf of a user. It remembers which secrets it opened.
    pub fn for_templates(&self, user: &str) -> Arc<TemplateView> {
        let (user, seen) = (user.to_owned(), Arc::default());
        Arc::new(TemplateView { datastore: self.clone(), user, decrypts: Decrypts::Everything, seen })
    }
}

/// Masks these secrets: for engines that know no redactor.
pub fn redactor(secrets: impl IntoIterator<Item = impl AsRef<str>>) -> Redactor {
    Redactor::new(secrets)
}

/// Whether a value is stored in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// Readable by everybody who may read keys.
    Clear,
    /// Only with the installation's key.
    Sealed,
}

/// What `st2kv` is in a template.
#[derive(Debug)]
pub struct TemplateView {
    datastore: Datastore,
    user: String,
    decrypts: Decrypts,
    /// Shared by the views of one request.
    seen: Arc<Mutex<Seen>>,
}

/// Which encrypted values a template may decrypt.
#[derive(Debug)]
enum Decrypts {
    /// Any.
    Everything,
    /// Those of keys that this text names.
    NamedIn(Arc<str>),
    /// None: it was written by somebody who may not decrypt keys.
    Nothing,
}

/// What templates did with the datastore.
#[derive(Debug, Default)]
struct Seen {
    opened: Vec<String>,
    missed: Option<StoreError>,
    refused: bool,
    /// Encrypted values, as stored, of keys that content named.
    named: HashSet<String>,
}

impl TemplateView {
    /// The same for templates of content, whose text is `source`, in a request with this access.
    pub fn for_content(self: &Arc<Self>, access: KeyAccess, source: &Arc<str>) -> Arc<Self> {
        match access {
            KeyAccess::Any => Arc::clone(self),
            KeyAccess::NamedByContent => self.with(Decrypts::NamedIn(Arc::clone(source))),
        }
    }

    /// The same for templates that a caller wrote.
    pub fn for_caller(self: &Arc<Self>, access: KeyAccess) -> Arc<Self> {
        match access {
            KeyAccess::Any => Arc::clone(self),
            KeyAccess::NamedByContent => self.with(Decrypts::Nothing),
        }
    }

    fn with(&self, decrypts: Decrypts) -> Arc<Self> {
        let (datastore, user, seen) = (self.datastore.clone(), self.user.clone(), Arc::clone(&self.seen));
        Arc::new(Self { datastore, user, decrypts, seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secrets that templates opened, for redaction.
    pub fn opened(&self) -> Vec<String> {
        self.seen().opened.clone()
    }

    /// Was something not decrypted because the request lacks the permission?
    pub fn refused(&self) -> bool {
        self.seen().refused
    }

    /// Why a value could not be read, if the store was away for one. What was rendered then is not what it would be, and
    /// that it could not be rendered says nothing about the template: it has to be done again.
    pub fn missed(&self) -> Option<StoreError> {
        self.seen().missed.clone()
    }

    /// The error as a text for people; that the store was away is remembered.
    fn note(&self, problem: StoreError) -> String {
        let text = problem.to_string();
        if let StoreError::Unavailable(_) = &problem {
            self.seen().missed.get_or_insert(problem);
        }
        text
    }

    /// An encrypted value of a key that content named may be decrypted later on, by whichever of its templates.
    fn note_named(&self, key: &str, row: &KeyRow) {
        if let Decrypts::NamedIn(source) = &self.decrypts
            && row.secret
            && names_key(source, key)
        {
            self.seen().named.insert(row.value.clone());
        }
    }

    fn may_decrypt(&self, text: &str) -> Result<(), String> {
        let why = match &self.decrypts {
            Decrypts::Everything => return Ok(()),
            Decrypts::NamedIn(_) if self.seen().named.contains(text) => return Ok(()),
            Decrypts::NamedIn(_) => {
                "`decrypt_kv`: its template does not name this key, and whoever chose it may not see encrypted values \
                 in clear; write the key into the template, or let an admin ask"
            }
            Decrypts::Nothing => {
                "`decrypt_kv` in a request needs the permission to see encrypted values in clear, which only admins have; \
                 an action whose metadata decrypts the value can be run without it"
            }
        };
        self.seen().refused = true;
        Err(why.to_owned())
    }

    fn scope(&self, scope: templates::Scope) -> String {
        match scope {
            templates::Scope::System => SYSTEM_SCOPE.to_owned(),
            templates::Scope::User => user_scope(&self.user),
        }
    }
}

impl templates::Datastore for TemplateView {
    fn get(&self, scope: templates::Scope, key: &str) -> Result<Option<String>, String> {
        let scope = self.scope(scope);
        let row = wait_here(|| self.datastore.get_blocking(&scope, key)).map_err(|problem| self.note(problem))?;
        if let Some(row) = &row {
            self.note_named(key, row);
        }
        Ok(row.map(|row| row.value))
    }

    fn is_prefix(&self, scope: templates::Scope, prefix: &str) -> Result<bool, String> {
        let (scope, now) = (self.scope(scope), self.datastore.clock.now());
        let dotted = format!("{prefix}.");
        wait_here(|| self.datastore.values.key_has_prefix_blocking(&scope, &dotted, now))
            .map_err(|problem| self.note(problem))
    }

    fn decrypt(&self, text: &str) -> Result<String, String> {
        self.may_decrypt(text)?;
        let clear = self.datastore.keyring.open(text).map_err(|problem| problem.to_string())?;
        self.seen().opened.extend(sealed::secret_parts(&clear));
        Ok(clear)
    }
}

/// Templates are rendered synchronously, now and then on a thread of the runtime: that thread is lent for the time of
/// one indexed read.
fn wait_here<T>(read: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(read)
        }
        _ => read(),
    }
}
