//! Which encrypted values of the datastore may be decrypted in the course of a request, and which keys content names.

use serde_json::{Map, Value};

/// Which encrypted values templates and scripts may decrypt on behalf of a request. It is kept in the execution's
/// context, so that steps, retries and rollbacks are held to it as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyAccess {
    /// Any: whoever asked may decrypt keys anyway, or nobody from outside has a part in the request.
    #[default]
    Any,
    /// Only keys that content names itself: parameters or event data come from somebody who may not decrypt keys, and
    /// must not choose which one is decrypted.
    NamedByContent,
}

/// The member of a context that says so.
const KEY_ACCESS: &str = "key_access";
const NAMED_BY_CONTENT: &str = "named_by_content";
/// Ends the part of a key by which content may name a family of keys, as `db/` names `db/production`.
const SEPARATORS: [char; 6] = ['/', '.', ':', '_', '-', '@'];

impl KeyAccess {
    /// Of an execution with this context.
    pub fn of_context(context: &Map<String, Value>) -> Self {
        match context.get(KEY_ACCESS) {
            None => Self::Any,
            Some(_) => Self::NamedByContent,
        }
    }

    /// The narrower of two.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, Self::Any) => Self::Any,
            (Self::NamedByContent, _) | (_, Self::NamedByContent) => Self::NamedByContent,
        }
    }

    /// Keeps it in a context.
    pub fn keep_in(self, context: &mut Map<String, Value>) {
        if self == Self::NamedByContent {
            context.insert(KEY_ACCESS.to_owned(), NAMED_BY_CONTENT.into());
        }
    }

    /// Takes it out of a context that is shown.
    pub fn hide_in(context: &mut Map<String, Value>) {
        context.remove(KEY_ACCESS);
    }
}

/// Does the text of a template or script name this key: as an attribute (`st2kv.system.token`), as a whole text
/// (`"token"`), or its beginning up to a separator as a text (`"db/"` of `db/production`)? `source` may be the script
/// itself or the script inside JSON.
pub fn names_key(source: &str, key: &str) -> bool {
    !key.is_empty() && (names_attribute(source, key) || names_text(source, key) || names_family(source, key))
}

fn names_attribute(source: &str, key: &str) -> bool {
    ["system.", "user."].into_iter().any(|scope| {
        let path = format!("{scope}{key}");
        source.match_indices(&path).any(|(at, _)| {
            let next = source.get(at + path.len()..).and_then(|rest| rest.chars().next());
            next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    })
}

fn names_text(source: &str, key: &str) -> bool {
    quotes().any(|quote| source.contains(&format!("{quote}{key}{quote}")))
}

fn names_family(source: &str, key: &str) -> bool {
    key.match_indices(SEPARATORS).any(|(at, separator)| {
        let family = key.get(..at + separator.len()).unwrap_or_default();
        family.len() > separator.len()
            && quotes()
                .any(|quote| ["${", quote].into_iter().any(|end| source.contains(&format!("{quote}{family}{end}"))))
    })
}

/// As scripts and templates quote, and as JSON does.
fn quotes() -> impl Iterator<Item = &'static str> {
    ["\"", "'", "`", "\\\""].into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_names_keys_by_attribute_text_or_family() {
        for (source, key) in [
            ("{{ st2kv.system.top | decrypt_kv }}", "top"),
            ("{{ st2kv.system.a.b | decrypt_kv }}", "a.b"),
            ("{{ st2kv.system['top'] | decrypt_kv }}", "top"),
            ("{{ st2kv.system['db_' ~ env] | decrypt_kv }}", "db_production"),
            ("kv_get(\"db/\" + env)", "db/production"),
            ("kv_get(`db/${env}`)", "db/production"),
            (r#"{"main":"kv_get(\"top\")"}"#, "top"),
        ] {
            assert!(names_key(source, key), "{source} names {key}");
        }
    }

    #[test]
    fn keys_that_only_a_caller_names_are_not_named() {
        for (source, key) in [
            ("{{ st2kv.system[key] | decrypt_kv }}", "top"),
            ("{{ st2kv.system.topmost | decrypt_kv }}", "top"),
            ("{{ st2kv.system['db_' ~ env] | decrypt_kv }}", "top"),
            ("kv_get(params.key)", "db/production"),
            ("kv_get(params.a + '/' + params.b)", "/x"),
            ("kv_get('')", ""),
        ] {
            assert!(!names_key(source, key), "{source} does not name {key}");
        }
    }
}
