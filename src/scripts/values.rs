//! Values of scripts as text and JSON, to a bounded depth.
//!
//! Rhai's own conversions recurse without a bound, and its `Debug` of a closure goes into what was captured, which may
//! be the closure itself. Nothing outside of this module may print a value with `{}` or `{:?}`.

use std::fmt::{self, Write};

use rhai::serde::from_dynamic;
use rhai::{Array, Dynamic, EvalAltResult, Map};
use serde_json::Value;

/// How deep a value may be that is compared, printed or converted. JSON from outside has at most 127 levels.
pub const MAX_DEPTH: usize = 128;

/// A value as JSON; `Err` says what in it cannot be.
pub fn to_json(value: &Dynamic) -> Result<Value, String> {
    ensure_plain(value)?;
    from_dynamic(value).map_err(|error| error_text(&error))
}

/// Refuses closures and what is nested too deep.
pub fn ensure_plain(value: &Dynamic) -> Result<(), String> {
    walk(value, 0, Closures::Refused)
}

/// Refuses what is nested too deep, given the parts of a list or map.
pub(super) fn ensure_parts<'a, P: IntoIterator<Item = &'a Dynamic>>(parts: P) -> Result<(), String> {
    parts.into_iter().try_for_each(|part| walk(part, 1, Closures::Accepted))
}

/// Of a value in an error, in bytes.
const LONGEST_TEXT: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closures {
    Accepted,
    Refused,
}

fn walk(value: &Dynamic, depth: usize, closures: Closures) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("a value is nested more than {MAX_DEPTH} levels deep"));
    }
    if value.is_fnptr() && closures == Closures::Refused {
        return Err("a closure is not plain data; call it and pass on its result".to_owned());
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().try_for_each(|item| walk(item, depth + 1, closures));
    }
    if let Ok(fields) = value.as_map_ref() {
        return fields.values().try_for_each(|field| walk(field, depth + 1, closures));
    }
    Ok(())
}

/// How much a value is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Itself and what is in it.
    pub(super) values: usize,
    /// Of all texts.
    pub(super) bytes: usize,
}

/// Of a value that is not nested too deep.
pub(super) fn size_of(value: &Dynamic) -> Size {
    let add = |sum: Size, part: &Dynamic| {
        let part = size_of(part);
        Size { values: sum.values + part.values, bytes: sum.bytes + part.bytes }
    };
    let itself = Size { values: 1, bytes: 0 };
    if let Ok(items) = value.as_array_ref() {
        return items.iter().fold(itself, add);
    }
    if let Ok(fields) = value.as_map_ref() {
        return fields.values().fold(itself, add);
    }
    if let Ok(blob) = value.as_blob_ref() {
        return Size { values: 1 + blob.len(), bytes: 0 };
    }
    Size { values: 1, bytes: value.as_immutable_string_ref().map_or(0, |text| text.len()) }
}

/// A value as scripts print it. What is nested too deep is left out, and what is too long for an error.
pub fn text_of(value: &Dynamic) -> String {
    let mut printer = Printer::new(LONGEST_TEXT);
    if value.is_array() || value.is_map() {
        printer.push_debug(value, 0);
    } else {
        printer.push(format_args!("{value}"));
    }
    printer.end().0
}

/// What an error says: without the calls it came through, and with what was thrown as [`text_of`].
pub fn error_text(error: &EvalAltResult) -> String {
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(thrown, _) => text_of(thrown),
        EvalAltResult::ErrorTerminated(..) => "the script was ended".to_owned(),
        inner => inner.to_string(),
    }
}

/// A text in the making that ends where it is too long.
pub(super) struct Printer {
    text: String,
    longest: usize,
}

impl Printer {
    pub(super) fn new(longest: usize) -> Self {
        Self { text: String::new(), longest }
    }

    /// The text, and whether it is all of it.
    pub(super) fn end(mut self) -> (String, bool) {
        let whole = self.text.len() <= self.longest;
        if !whole {
            let mark = '…';
            self.text.truncate(self.text.floor_char_boundary(self.longest.saturating_sub(mark.len_utf8())));
            self.text.push(mark);
        }
        (self.text, whole)
    }

    /// The text inside of a list or map.
    pub(super) fn push_debug(&mut self, value: &Dynamic, depth: usize) {
        if depth > MAX_DEPTH {
            self.text.push('…');
        } else if let Ok(items) = value.as_array_ref() {
            self.push_list(&items, depth);
        } else if let Ok(fields) = value.as_map_ref() {
            self.push_map(&fields, depth);
        } else if value.is_fnptr() || value.is_char() {
            self.push(format_args!("{value}"));
        } else {
            self.push(format_args!("{value:?}"));
        }
    }

    pub(super) fn push_list(&mut self, items: &Array, depth: usize) {
        self.text.push('[');
        for (number, item) in items.iter().enumerate() {
            if self.text.len() > self.longest {
                break;
            }
            self.text.push_str(if number == 0 { "" } else { ", " });
            self.push_debug(item, depth + 1);
        }
        self.text.push(']');
    }

    pub(super) fn push_map(&mut self, fields: &Map, depth: usize) {
        self.text.push_str("#{");
        for (number, (name, field)) in fields.iter().enumerate() {
            if self.text.len() > self.longest {
                break;
            }
            self.push(format_args!("{}{:?}: ", if number == 0 { "" } else { ", " }, name.as_str()));
            self.push_debug(field, depth + 1);
        }
        self.text.push('}');
    }

    fn push(&mut self, formatted: fmt::Arguments<'_>) {
        self.text.write_fmt(formatted).unwrap_or(()); // A text takes whatever is written.
    }
}
