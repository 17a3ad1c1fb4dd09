//! The datastore as templates and criteria see it: `st2kv.system.name`, read when it is asked for.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr};
use minijinja::{ErrorKind, State, Value};

/// Whose values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody's.
    System,
    /// Those of the user on whose behalf something is rendered.
    User,
}

impl Scope {
    /// As written after `st2kv.`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }
}

/// Key-value pairs for templates. The errors are texts for people.
pub trait Datastore: Send + Sync {
    /// The value as stored; a secret one stays encrypted.
    fn get(&self, scope: Scope, key: &str) -> Result<Option<String>, String>;

    /// Whether some key starts with `prefix` and a dot: names may have dots in them.
    fn is_prefix(&self, scope: Scope, prefix: &str) -> Result<bool, String>;

    /// The clear text of a value that [`Datastore::get`] returned encrypted.
    fn decrypt(&self, text: &str) -> Result<String, String>;
}

/// What a datastore adds to the names of a context: `st2kv`, and `system` as very old packs write it.
pub(super) fn names(store: &Arc<dyn Datastore>) -> [(String, Value); 2] {
    let root = Value::from_object(Root { store: Arc::clone(store) });
    [("st2kv".to_owned(), root), ("system".to_owned(), Value::from_object(Node::new(store, Scope::System)))]
}

/// The filter `decrypt_kv`.
pub(super) fn decrypt_kv(state: &State<'_, '_>, text: &str) -> Result<String, minijinja::Error> {
    let root = state.lookup("st2kv").unwrap_or_default();
    let Some(root) = root.downcast_object_ref::<Root>() else {
        return Err(failed("`decrypt_kv` is not available here: there is no datastore".to_owned()));
    };
    root.store.decrypt(text).map_err(failed)
}

fn failed(reason: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, reason)
}

/// `st2kv`
struct Root {
    store: Arc<dyn Datastore>,
}

impl Object for Root {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        let scope = [Scope::System, Scope::User].into_iter().find(|scope| name.as_str() == Some(scope.as_str()))?;
        Some(Value::from_object(Node::new(&self.store, scope)))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("st2kv")
    }
}

/// `st2kv.system`, or `st2kv.system.a` where `a` is the beginning of a key with a dot.
struct Node {
    store: Arc<dyn Datastore>,
    scope: Scope,
    prefix: String,
}

impl Node {
    fn new(store: &Arc<dyn Datastore>, scope: Scope) -> Self {
        Self { store: Arc::clone(store), scope, prefix: String::new() }
    }

    fn look_up(&self, name: &str) -> Result<Option<Value>, String> {
        let key = if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) };
        if let Some(value) = self.store.get(self.scope, &key)? {
            return Ok(Some(Value::from(value)));
        }
        let is_prefix = self.store.is_prefix(self.scope, &key)?;
        let node = Self { store: Arc::clone(&self.store), scope: self.scope, prefix: key };
        Ok(is_prefix.then(|| Value::from_object(node)))
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        match self.look_up(name.as_str()?) {
            Ok(found) => found,
            Err(reason) => Some(Value::from(failed(reason))),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "st2kv.{}.{}", self.scope.as_str(), self.prefix)
    }
}
