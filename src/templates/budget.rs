//! How much one rendering may make, counted in bytes of the values that it makes and looks at.
//!
//! The engine bounds instructions only, and one instruction can make a text of any size. So every value that an
//! operator, filter, function, loop or output handles is weighed and charged to the rendering's budget. Nothing depends
//! on the machine: the same template fails for the same data everywhere. What is alive at one time is less than what was
//! charged, times the overhead of the engine's values (about eight); renderings run on a handful of threads.

use std::cell::Cell;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// One value, with all that it contains, as often as it contains it. Four times the largest body of a webhook.
pub(super) const MOST_VALUE_BYTES: usize = 4 << 20;

/// All values of one rendering together.
const MOST_RENDERING_BYTES: usize = 64 << 20;

/// Levels of lists and maps. JSON from outside has at most 127.
const MOST_LEVELS: usize = 128;

/// What a value costs beside its text: a number of a long list in JSON has hardly less.
const VALUE_BYTES: usize = 4;

thread_local! {
    /// What the rendering under way on this thread may still make.
    static REMAINING: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A rendering: its values are charged to one budget until this is dropped. One inside another shares its budget.
pub(super) struct Rendering {
    is_outermost: bool,
}

impl Rendering {
    pub(super) fn begin() -> Self {
        let is_outermost = REMAINING.get().is_none();
        if is_outermost {
            REMAINING.set(Some(MOST_RENDERING_BYTES));
        }
        Self { is_outermost }
    }
}

impl Drop for Rendering {
    fn drop(&mut self) {
        if self.is_outermost {
            REMAINING.set(None);
        }
    }
}

/// Takes `bytes` from the budget of the rendering under way.
pub(super) fn charge(bytes: usize) -> Result<(), Error> {
    let Some(remaining) = REMAINING.get() else { return Ok(()) };
    let left = remaining.checked_sub(bytes);
    REMAINING.set(Some(left.unwrap_or(0)));
    left.map(drop).ok_or_else(|| {
        refused(format!(
            "stopped after making {MOST_RENDERING_BYTES} bytes of values; leave work on this much data to an action"
        ))
    })
}

/// The size and shape of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    /// Texts, and [`VALUE_BYTES`] for each value.
    pub(super) bytes: usize,
    /// Levels of lists and maps.
    pub(super) levels: usize,
}

/// Weighs a value that the template was given or made. Larger than [`MOST_VALUE_BYTES`] is an error.
pub(super) fn weigh(value: &Value) -> Result<Weight, Error> {
    let mut weight = Weight { bytes: 0, levels: 0 };
    add(value, 1, &mut weight)?;
    Ok(weight)
}

/// Weighs values that an operation takes or gives, and charges them.
pub(super) fn charge_for(values: &[Value]) -> Result<(), Error> {
    values.iter().try_for_each(|value| charge(weigh(value)?.bytes))
}

/// Charges for a value of `bytes` before it is made.
pub(super) fn charge_value(bytes: usize) -> Result<(), Error> {
    if bytes > MOST_VALUE_BYTES {
        return Err(too_large());
    }
    charge(bytes)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the engine's kinds of value grow; all others are small")]
fn add(value: &Value, level: usize, weight: &mut Weight) -> Result<(), Error> {
    let text_bytes = value.as_str().map_or(0, str::len);
    weight.bytes = weight.bytes.saturating_add(VALUE_BYTES + text_bytes);
    if weight.bytes > MOST_VALUE_BYTES {
        return Err(too_large());
    }
    match value.kind() {
        ValueKind::Bytes => weight.bytes += value.as_bytes().map_or(0, <[u8]>::len),
        ValueKind::Seq | ValueKind::Iterable => {
            enter(level, weight)?;
            for item in value.try_iter()?.checked() {
                add(&item?, level + 1, weight)?;
            }
        }
        ValueKind::Map => {
            enter(level, weight)?;
            for key in value.try_iter()?.checked() {
                let key = key?;
                add(&key, level + 1, weight)?;
                add(&value.get_item(&key)?, level + 1, weight)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn enter(level: usize, weight: &mut Weight) -> Result<(), Error> {
    weight.levels = weight.levels.max(level);
    if level > MOST_LEVELS {
        return Err(refused(format!("a value is nested deeper than {MOST_LEVELS} levels")));
    }
    Ok(())
}

fn too_large() -> Error {
    refused(format!("a value of more than {MOST_VALUE_BYTES} bytes; leave work on this much data to an action"))
}

pub(super) fn refused(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
