//! `retry(options, || …)`, `fail(message[, details])`, `restart(params)`, and what is forbidden.

use std::time::Duration;

use rhai::{Dynamic, FnPtr, FuncRegistration, Map, Module, NativeCallContext};
use serde_json::{Value, json};

use super::{FORBIDDEN, Result, check_keys, duration, json_of, json_of_map, millis, turn};
use crate::scripts::text_of;
use crate::workflows::errors::{misuse, raise};
use crate::workflows::outcome::{StepError, StepOutcome};
use crate::workflows::position::Position;
use crate::workflows::request::{Request, StepKind};
use crate::workflows::turn::{FrameEnd, Stop, Turn};

pub(super) fn register(module: &mut Module) {
    FuncRegistration::new("retry")
        .set_into_module(module, |context: NativeCallContext<'_>, options: Map, body: FnPtr| {
            retry(&context, &options, &body)
        });
    FuncRegistration::new("fail").set_into_module(module, |message: &str| fail(message, Value::Null));
    FuncRegistration::new("fail")
        .set_into_module(module, |message: &str, details: Dynamic| fail(message, json_of(&details)?));
    FuncRegistration::new("restart").set_into_module(module, |context: NativeCallContext<'_>, params: Map| {
        let turn = turn(&context)?;
        turn.check_stop()?;
        Err::<Dynamic, _>(turn.stop(Stop::Restart(json_of_map(&params)?)))
    });
    for (name, instead) in FORBIDDEN {
        let refuse = move || Err::<Dynamic, _>(misuse(format!("`{name}` is not there in workflows: {instead}")));
        FuncRegistration::new(name).set_into_module(module, refuse);
        FuncRegistration::new(name).set_into_module(module, move |_: Dynamic| refuse());
    }
}

fn fail(message: &str, details: Value) -> Result {
    Err(raise(&StepError { details, ..StepError::new(message) }))
}

/// How often and when.
struct Attempts {
    count: u32,
    delay: Duration,
    backoff: f64,
    max_delay: Duration,
}

impl Attempts {
    const LONGEST_DELAY: Duration = Duration::from_hours(24);

    fn from_options(options: &Map) -> Result<Self> {
        check_keys("retry", options, &["attempts", "delay", "backoff", "max_delay"])?;
        let attempts = options.get("attempts").ok_or_else(|| misuse("`retry` needs the option `attempts`"))?;
        let count = attempts.as_int().ok().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        let count = count
            .ok_or_else(|| misuse(format!("`attempts` has to be a number from 1, not `{}`", text_of(attempts))))?;
        let delay = options.get("delay").map_or(Ok(Duration::ZERO), duration)?;
        let max_delay = options.get("max_delay").map_or(Ok(Self::LONGEST_DELAY), duration)?;
        Ok(Self { count, delay, backoff: Self::backoff(options)?, max_delay })
    }

    fn backoff(options: &Map) -> Result<f64> {
        let Some(value) = options.get("backoff") else {
            return Ok(1.0);
        };
        let whole = value.as_int().ok().and_then(|whole| i32::try_from(whole).ok()).map(f64::from);
        let factor = whole.or_else(|| value.as_float().ok()).filter(|factor| (1.0..=100.0).contains(factor));
        factor.ok_or_else(|| misuse(format!("`backoff` has to be a number from 1 to 100, not `{}`", text_of(value))))
    }

    fn request(&self) -> Request {
        let Self { count, delay, backoff, max_delay } = self;
        let (delay, max_delay) = (millis(*delay), millis(*max_delay));
        let params = json!({ "attempts": count, "delay": delay, "backoff": backoff, "max_delay": max_delay });
        Request::new(StepKind::Retry, params)
    }

    /// The pause before an attempt, if there is one. Attempts count from 1.
    fn pause_before(&self, attempt: u32) -> Option<Request> {
        if attempt == 1 || self.delay.is_zero() {
            return None;
        }
        let factor = self.backoff.powi(i32::try_from(attempt - 2).unwrap_or(i32::MAX));
        let seconds = self.delay.as_secs_f64() * factor;
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or(self.max_delay).min(self.max_delay);
        Some(Request::new(StepKind::RetryDelay, json!({ "millis": millis(pause) })))
    }
}

/// The value of the first attempt that has one; else the error of the last.
///
/// Attempt `n` has the frame `<position>.n`; the pause before it stands at the position `<position>.n` itself.
fn retry(context: &NativeCallContext<'_>, options: &Map, body: &FnPtr) -> Result {
    let turn = turn(context)?;
    let attempts = Attempts::from_options(options)?;
    let (at, _) = turn.decided(attempts.request(), || Ok(StepOutcome::Ok(Value::Null)))?;
    let mut last = StepError::new("there was no attempt");
    for number in 1..=attempts.count {
        let attempt = at.child(number);
        pause(&turn, &attempt, attempts.pause_before(number))?;
        match turn.attempt(&attempt, || body.call_raw(context, None, []))? {
            FrameEnd::Value(value) => {
                turn.check_nothing_left(&at.child(number + 1))?;
                turn.check_nothing_left(&at.child(number + 1).child(1))?;
                return Ok(value);
            }
            FrameEnd::Error(error) => last = *error,
            // An attempt waits as its surroundings do, so the stop is on its way out already.
            FrameEnd::Open(open) => return Err(turn.stop(Stop::Suspended(open))),
        }
    }
    Err(raise(&last))
}

fn pause(turn: &Turn, at: &Position, request: Option<Request>) -> Result<()> {
    let Some(request) = request else {
        return Ok(());
    };
    turn.start_at(at, request)?;
    turn.outcome(at).map(drop)
}
