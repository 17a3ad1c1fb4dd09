//! What scripts emit: `emit(trigger, payload)` and `emit(trigger, payload, options)`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhai::{Dynamic, Engine, Map};
use serde_json::Value;

use crate::model::refs::TriggerTypeRef;
use crate::model::time::{Timestamp, parse_duration};
use crate::scripts;

use super::script::{NativeResult, mistake};
use super::time_text;

/// More than this from one request is a script gone wild.
const MOST_EMITS: usize = 1_000;

/// A trigger that a script wants to happen.
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    /// What kind of event.
    pub trigger: TriggerTypeRef,
    /// What is known about it.
    pub payload: Value,
    /// By which a repetition is recognised.
    pub dedupe_key: Option<String>,
    /// When it happened by the source's own clock (option `at`).
    pub occurred_at: Option<Timestamp>,
    /// How long to hold it back before it counts.
    pub delay: Option<Duration>,
    /// The key under which it is held (option `held_as`, else `dedupe_key`); always there with a `delay`.
    pub held_as: Option<String>,
    /// Withdraws what is held under this key, unless that happened later by the source's clock: then this came late.
    pub cancels: Option<String>,
}

/// Where the triggers of one call are collected.
#[derive(Clone, Default)]
pub(super) struct Emits(Arc<Mutex<Vec<Emit>>>);

impl Emits {
    /// Gives scripts of this engine the two forms of `emit`.
    pub(super) fn offer_to(&self, engine: &mut Engine) {
        let plain = self.clone();
        engine.register_fn("emit", move |trigger: &str, payload: Dynamic| plain.push(trigger, &payload, &Map::new()));
        let with_options = self.clone();
        engine.register_fn("emit", move |trigger: &str, payload: Dynamic, options: Map| {
            with_options.push(trigger, &payload, &options)
        });
    }

    pub(super) fn take(&self) -> Vec<Emit> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what `poll` returned: maps of `trigger`, `payload` and the options.
    pub(super) fn push_map(&self, emit: &Map) -> NativeResult<()> {
        let trigger = emit.get("trigger").and_then(|value| value.clone().into_immutable_string().ok());
        let trigger =
            trigger.ok_or_else(|| mistake("an emitted map has no `trigger`; write `trigger: \"pack.name\"`"))?;
        let payload = emit.get("payload").cloned().unwrap_or_else(|| Map::new().into());
        let mut options = emit.clone();
        options.retain(|name, _| name != "trigger" && name != "payload");
        self.push(&trigger, &payload, &options)
    }

    fn push(&self, trigger: &str, payload: &Dynamic, options: &Map) -> NativeResult<()> {
        let emit = read(trigger, payload, options)?;
        let mut emits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if emits.len() >= MOST_EMITS {
            return Err(mistake(format!("more than {MOST_EMITS} triggers are emitted at once")));
        }
        emits.push(emit);
        Ok(())
    }
}

fn read(trigger: &str, payload: &Dynamic, options: &Map) -> NativeResult<Emit> {
    const OPTIONS: [&str; 5] = ["dedupe_key", "at", "delay", "held_as", "cancels"];
    if let Some(stranger) = options.keys().find(|name| !OPTIONS.contains(&name.as_str())) {
        return Err(mistake(format!("emit has no option `{stranger}`; it has {}", OPTIONS.join(", "))));
    }
    let dedupe_key = text(options, "dedupe_key")?;
    let delay = delay(options)?;
    let held_as = text(options, "held_as")?.or_else(|| dedupe_key.clone()).filter(|_| delay.is_some());
    if delay.is_some() && held_as.is_none() {
        return Err(mistake("a delayed trigger needs a key; give emit the option `held_as` or `dedupe_key`"));
    }
    Ok(Emit {
        trigger: trigger.parse().map_err(|error| mistake(format!("emit: {error}")))?,
        payload: scripts::to_json(payload)
            .map_err(|error| mistake(format!("emit: the payload is not plain data: {error}")))?,
        dedupe_key,
        occurred_at: occurred_at(options)?,
        delay,
        held_as,
        cancels: text(options, "cancels")?,
    })
}

fn given<'a>(options: &'a Map, name: &str) -> Option<&'a Dynamic> {
    options.get(name).filter(|value| !value.is_unit())
}

fn text(options: &Map, name: &str) -> NativeResult<Option<String>> {
    let Some(value) = given(options, name) else {
        return Ok(None);
    };
    let text = value.clone().into_immutable_string();
    let text = text.map_err(|kind| mistake(format!("emit: option `{name}` is a {kind}; write a text")))?;
    Ok(Some(text.to_string()))
}

/// `"300s"`, or a number of seconds; none at all if it is zero.
fn delay(options: &Map) -> NativeResult<Option<Duration>> {
    let Some(value) = given(options, "delay") else {
        return Ok(None);
    };
    let seconds = value.as_int().ok().map(|seconds| u64::try_from(seconds).map(Duration::from_secs).ok());
    let delay = seconds.unwrap_or_else(|| parse_duration(&scripts::text_of(value)).ok());
    let delay = delay.ok_or_else(|| {
        mistake(format!("emit: option `delay` is `{}`; write as in \"300s\"", scripts::text_of(value)))
    })?;
    Ok(Some(delay).filter(|delay| !delay.is_zero()))
}

fn occurred_at(options: &Map) -> NativeResult<Option<Timestamp>> {
    let Some(value) = given(options, "at") else {
        return Ok(None);
    };
    let wrong =
        || mistake(format!("emit: option `at` is `{}`, which is not a time; use `to_time`", scripts::text_of(value)));
    time_text::parse(value).map(Some).ok_or_else(wrong)
}
