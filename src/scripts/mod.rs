//! What every Rhai script is bounded by, whatever it is for: the size of its source, the memory it may hold, how deep its
//! values may be, and native functions whose result can be far larger than their arguments.
//!
//! Rhai's own limits look at one value at a time, and not at what closures capture. Two things close the gap. A [`Meter`]
//! asks the allocator before every operation what the evaluation holds. Between two operations only one native function
//! runs, so [`restrict`] replaces those that make much out of little by ones that compute the size first.

mod natives;
mod values;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::OnceLock;

use rhai::{Dynamic, Engine, EvalAltResult, Position, Shared};

use crate::memory::Mark;

pub use values::{MAX_DEPTH, ensure_plain, error_text, text_of, to_json};

/// The longest source text that is compiled.
pub const MAX_SOURCE_BYTES: usize = 256 << 10;

/// What threads that evaluate scripts need. What walks over a value takes up to 180 bytes for each unit of
/// [`Budget::values`], beside half a MiB for the calls that a script may nest. Only what is used becomes memory.
pub const STACK_BYTES: usize = 32 << 20;

/// What one evaluation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that it holds at one time.
    pub memory: u64,
    /// All bytes that it allocates, freed or not: copying large values costs time that operations do not count.
    pub allocated: u64,
    /// Values that it holds at one time, a list or map counted as three. This bounds how deep a value can be, and with it
    /// the stack that is needed to copy or free it.
    pub values: u64,
}

impl Budget {
    /// For scripts that compute something from a value they are given.
    pub const FUNCTION: Self = Self { memory: 64 << 20, allocated: 1 << 30, values: 150_000 };
    /// For a condition, which may be evaluated on a thread with the usual 2 MiB of stack, and thousands of times.
    pub const CONDITION: Self = Self { memory: 32 << 20, allocated: 256 << 20, values: 6_000 };
    /// For what is computed while content is loaded: constants.
    pub const LOADING: Self = Self { memory: 16 << 20, allocated: 256 << 20, values: 6_000 };
}

/// Which part of a [`Budget`] was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetKind {
    /// [`Budget::memory`].
    Memory,
    /// [`Budget::allocated`].
    Allocated,
    /// [`Budget::values`].
    Values,
    /// Bytes in one text, which the engine limits as well.
    StringSize,
}

impl BudgetKind {
    /// As it is called in messages and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Allocated => "allocated",
            Self::Values => "values",
            Self::StringSize => "string_size",
        }
    }

    /// What the author can do.
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::Memory => "keep large data in actions or files, and let go of what is no longer needed",
            Self::Allocated => "copy large values less often: change them in place, and pass on only the parts needed",
            Self::StringSize => "print parts of large values only",
            Self::Values => "hold fewer values at a time, and do not nest them in a loop",
        }
    }
}

/// A script took more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetExceeded {
    /// What of.
    pub kind: BudgetKind,
    /// The most it may take.
    pub at_most: u64,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.kind == BudgetKind::Values { "values" } else { "bytes" };
        let (kind, way_out) = (self.kind.as_str(), self.kind.way_out());
        write!(f, "the script went over the limit `{kind}` of {} {unit}: {way_out}", self.at_most)
    }
}

impl std::error::Error for BudgetExceeded {}

/// Watches one evaluation. Made by the thread that evaluates, and asked by it alone.
#[derive(Debug)]
pub struct Meter {
    mark: Mark,
    budget: Budget,
    exceeded: OnceLock<BudgetExceeded>,
}

impl Meter {
    /// Begins to count.
    pub fn start(budget: Budget) -> Shared<Self> {
        Shared::new(Self::new(budget))
    }

    fn new(budget: Budget) -> Self {
        LONG_TEXT.set(None);
        Self { mark: Mark::now(), budget, exceeded: OnceLock::new() }
    }

    /// Whether too much was taken, now or before: unwinding frees memory, and must not let a script go on that
    /// caught the error.
    pub fn check(&self) -> Option<BudgetExceeded> {
        if let Some(exceeded) = self.exceeded.get() {
            return Some(*exceeded);
        }
        let over = |kind, taken: u64, at_most: u64| (taken > at_most).then_some(BudgetExceeded { kind, at_most });
        let taken = self.mark.taken();
        let found = LONG_TEXT.get().map(|at_most| BudgetExceeded { kind: BudgetKind::StringSize, at_most });
        let found = found
            .or_else(|| over(BudgetKind::Memory, taken.alive, self.budget.memory))
            .or_else(|| over(BudgetKind::Values, taken.depth_units, self.budget.values))
            .or_else(|| over(BudgetKind::Allocated, taken.allocated, self.budget.allocated))?;
        Some(*self.exceeded.get_or_init(|| found))
    }
}

/// Ends the scripts of this engine when they take too much. For engines that need no other `on_progress`.
pub fn watch(engine: &mut Engine, meter: &Shared<Meter>) {
    let meter = Shared::clone(meter);
    engine.on_progress(move |_| meter.check().map(|_| Dynamic::UNIT));
}

thread_local! {
    /// The bound that a text went over which a native function could not fail for.
    static LONG_TEXT: Cell<Option<u64>> = const { Cell::new(None) };
    static WATCHED: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

/// As [`watch`], for an engine that is made once: its scripts are run within [`metered`].
pub fn watch_thread(engine: &mut Engine) {
    engine.on_progress(|_| {
        let exceeded = WATCHED.with_borrow(|meter| meter.as_ref().and_then(Meter::check));
        exceeded.map(|_| Dynamic::UNIT)
    });
}

/// Does something with an engine of [`watch_thread`], and says whether that took too much.
pub fn metered<T>(budget: Budget, work: impl FnOnce() -> T) -> (T, Option<BudgetExceeded>) {
    WATCHED.set(Some(Meter::new(budget)));
    let result = work();
    (result, WATCHED.take().and_then(|meter| meter.check()))
}

/// Puts bounded versions in the place of native functions that are not. Call it after the packages are registered.
pub fn restrict(engine: &mut Engine) {
    engine.register_global_module(natives::module());
}

/// Refuses a source that is too long to compile.
pub fn check_source(source: &str) -> Result<(), String> {
    if source.len() > MAX_SOURCE_BYTES {
        let length = source.len();
        return Err(format!("the script is {length} bytes long; at most {MAX_SOURCE_BYTES} are compiled: split it up"));
    }
    Ok(())
}

fn report_long_text(longest: usize) {
    LONG_TEXT.set(u64::try_from(longest).ok());
}

/// What a native function fails with.
#[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
fn failure(message: impl Into<String>) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(message.into()), Position::NONE))
}

#[cfg(test)]
mod tests;
