//! How much one script may take. Only counts, never wall time: a slow machine fails nobody.

use std::fmt;

use rhai::EvalAltResult;
use serde::{Deserialize, Serialize};

use crate::scripts::{Budget, BudgetExceeded, BudgetKind};

/// The bounds of one evaluation and its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Operations of the main frame per evaluation, and of each branch by itself.
    pub operations: u64,
    /// Nested function calls. A level takes up to 30 kB of stack in a debug build.
    pub call_depth: usize,
    /// Bytes in one string, and in all strings of one array or map.
    pub string_size: usize,
    /// Elements in one array, nested ones included.
    pub array_size: usize,
    /// Entries in one map, nested ones included.
    pub map_size: usize,
    /// Variables that exist at one time.
    pub variables: usize,
    /// Bytes that an evaluation holds at one time, its part of the journal included.
    pub memory: u64,
    /// All bytes that an evaluation allocates, freed or not: this bounds the time spent in copying large values.
    pub allocated: u64,
    /// Values that exist at one time, a list or map counted as three: this bounds how deep they can be nested.
    pub values: u64,
    /// Entries in the journal.
    pub journal_entries: u64,
    /// Bytes that the journal keeps inline.
    pub journal_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 5_000_000,
            call_depth: 48,
            string_size: 1 << 20,
            array_size: 100_000,
            map_size: 20_000,
            variables: 1_000,
            memory: 256 << 20,
            allocated: 2 << 30,
            values: 150_000,
            journal_entries: 10_000,
            journal_bytes: 16 << 20,
        }
    }
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// [`Limits::operations`].
    Operations,
    /// [`Limits::call_depth`].
    CallDepth,
    /// [`Limits::string_size`].
    StringSize,
    /// [`Limits::array_size`].
    ArraySize,
    /// [`Limits::map_size`].
    MapSize,
    /// [`Limits::variables`].
    Variables,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::allocated`].
    Allocated,
    /// [`Limits::values`].
    Values,
    /// [`Limits::journal_entries`].
    JournalEntries,
    /// [`Limits::journal_bytes`].
    JournalBytes,
}

impl LimitKind {
    /// The key it is configured under.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::CallDepth => "call_depth",
            Self::StringSize => "string_size",
            Self::ArraySize => "array_size",
            Self::MapSize => "map_size",
            Self::Variables => "variables",
            Self::Memory => BudgetKind::Memory.as_str(),
            Self::Allocated => BudgetKind::Allocated.as_str(),
            Self::Values => BudgetKind::Values.as_str(),
            Self::JournalEntries => "journal_entries",
            Self::JournalBytes => "journal_bytes",
        }
    }

    /// What the author can do.
    const fn way_out(self) -> &'static str {
        match self {
            Self::Operations => "look for a loop without end, or move the work into an action",
            Self::CallDepth => "look for a function that calls itself without end",
            Self::StringSize | Self::ArraySize | Self::MapSize | Self::Variables => "keep large data in actions",
            Self::Memory => BudgetKind::Memory.way_out(),
            Self::Allocated => BudgetKind::Allocated.way_out(),
            Self::Values => BudgetKind::Values.way_out(),
            Self::JournalEntries | Self::JournalBytes => "start a fresh journal with `restart(params)` in time",
        }
    }
}

/// A script took more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Which limit.
    pub limit: LimitKind,
    /// Its value.
    pub at_most: u64,
    /// The line of the script, where it is known.
    pub line: Option<usize>,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the script went over the limit `{}` of {}", self.limit.as_str(), self.at_most)?;
        if let Some(line) = self.line {
            write!(f, " in line {line}")?;
        }
        write!(f, ": {}", self.limit.way_out())
    }
}

impl std::error::Error for LimitExceeded {}

impl Limits {
    /// Going over `limit` in a place that is not known yet.
    pub(super) fn exceeded(&self, limit: LimitKind) -> LimitExceeded {
        let count = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let at_most = match limit {
            LimitKind::Operations => self.operations,
            LimitKind::CallDepth => count(self.call_depth),
            LimitKind::StringSize => count(self.string_size),
            LimitKind::ArraySize => count(self.array_size),
            LimitKind::MapSize => count(self.map_size),
            LimitKind::Variables => count(self.variables),
            LimitKind::Memory => self.memory,
            LimitKind::Allocated => self.allocated,
            LimitKind::Values => self.values,
            LimitKind::JournalEntries => self.journal_entries,
            LimitKind::JournalBytes => self.journal_bytes,
        };
        LimitExceeded { limit, at_most, line: None }
    }

    /// What the evaluation's thread may take. What it allocates and another thread frees, as requests on their way to
    /// the store, stays on its account: that is as much as the journal may hold, and far less than `memory`.
    pub(super) fn budget(&self) -> Budget {
        Budget { memory: self.memory, allocated: self.allocated, values: self.values }
    }

    /// Going over the budget, in a place that is not known yet.
    pub(super) fn exceeded_budget(&self, exceeded: BudgetExceeded) -> LimitExceeded {
        self.exceeded(match exceeded.kind {
            BudgetKind::Memory => LimitKind::Memory,
            BudgetKind::Allocated => LimitKind::Allocated,
            BudgetKind::Values => LimitKind::Values,
            BudgetKind::StringSize => LimitKind::StringSize,
        })
    }

    /// The limit that an error of the script engine is about, if it is about one.
    pub(super) fn exceeded_by(&self, error: &EvalAltResult) -> Option<LimitExceeded> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the engine's other errors are no limits")]
        let limit = match error.unwrap_inner() {
            EvalAltResult::ErrorTooManyOperations(_) => LimitKind::Operations,
            EvalAltResult::ErrorStackOverflow(_) => LimitKind::CallDepth,
            EvalAltResult::ErrorTooManyVariables(_) => LimitKind::Variables,
            EvalAltResult::ErrorDataTooLarge(what, _) if what.contains("string") => LimitKind::StringSize,
            EvalAltResult::ErrorDataTooLarge(what, _) if what.contains("map") => LimitKind::MapSize,
            EvalAltResult::ErrorDataTooLarge(..) => LimitKind::ArraySize,
            _ => return None,
        };
        Some(LimitExceeded { line: line_of(error), ..self.exceeded(limit) })
    }
}

/// The line where an error arose, innermost first.
pub(super) fn line_of(error: &EvalAltResult) -> Option<usize> {
    error.unwrap_inner().position().line().or_else(|| error.position().line())
}
