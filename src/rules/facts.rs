//! What one evaluation may look at: the payload, the datastore, the time. Converted at most once each.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use serde_json::Value;

use crate::model::time::Timestamp;
use crate::templates::{Context, Datastore, Scope};

/// The surroundings of an evaluation, shared by all rules that look at the same event.
pub(super) struct Facts<'a> {
    /// Under which name templates see `root`: `trigger`, or `item` inside a `search`.
    name: &'static str,
    /// The payload, or the item.
    pub(super) root: &'a Value,
    kv: Option<&'a Arc<dyn Datastore>>,
    pub(super) now: Timestamp,
    context: OnceCell<Context>,
    script_value: OnceCell<rhai::Dynamic>,
}

impl<'a> Facts<'a> {
    /// An event.
    pub(super) fn new(payload: &'a Value, kv: Option<&'a Arc<dyn Datastore>>, now: Timestamp) -> Self {
        Self { name: "trigger", root: payload, kv, now, context: OnceCell::new(), script_value: OnceCell::new() }
    }

    /// One item of a list in the event.
    pub(super) fn of_item<'i>(&self, item: &'i Value) -> Facts<'i>
    where
        'a: 'i,
    {
        Facts { name: "item", ..Facts::new(item, self.kv, self.now) }
    }

    /// The names that templates see.
    pub(super) fn context(&self) -> &Context {
        self.context.get_or_init(|| Context::of_one(self.name, self.root, self.kv))
    }

    /// The payload as scripts see it.
    pub(super) fn script_value(&self) -> Result<rhai::Dynamic, String> {
        if let Some(value) = self.script_value.get() {
            return Ok(value.clone());
        }
        let value = rhai::serde::to_dynamic(self.root).map_err(|error| error.to_string())?;
        Ok(self.script_value.get_or_init(|| value).clone())
    }

    /// A value of the datastore's system scope.
    pub(super) fn stored(&self, key: &str) -> Result<Option<Cow<'a, Value>>, String> {
        let Some(kv) = self.kv else { return Ok(None) };
        Ok(kv.get(Scope::System, key)?.map(|text| Cow::Owned(Value::String(text))))
    }
}
