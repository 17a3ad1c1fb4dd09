//! The seam: what the evaluation of a script needs from whoever keeps its journal. Everything behind it may be
//! durable, asynchronous and distributed; nothing in front of it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workflows::outcome::StepOutcome;
use crate::workflows::position::Position;
use crate::workflows::request::Request;

/// Keeps the journal of one execution in memory while a script is evaluated over it.
///
/// All methods are called from the thread that called [`evaluate`](super::evaluate()), and may block it.
pub trait Host: Send + Sync {
    /// What the journal holds at a position.
    fn entry(&self, at: &Position) -> Option<Arc<Entry>>;

    /// Journals a request that is not there yet and sees to it that it is done. What can be answered at once (time,
    /// random, key-values, logs …) has its outcome in the journal when this returns.
    fn ask(&self, at: &Position, request: Request) -> Answer;

    /// Journals a request whose outcome the evaluation itself decided. It has to be durable no later than the next
    /// request that is asked, so it may wait for that one's transaction.
    fn record(&self, at: &Position, request: Request, outcome: StepOutcome) -> Answer;

    /// Returns when at least one of `open` has an outcome or [`interrupted`](Self::interrupted) changed, or with
    /// [`Waited::Suspend`] when it does not want to hold this thread any longer. Only called for the main frame.
    fn wait(&self, open: &[Position]) -> Waited;

    /// An interruption that is already journalled. Looked at before anything new is asked or waited for; what has an
    /// outcome is still replayed.
    fn interrupted(&self) -> Option<Interrupt>;

    /// A text that is equal for equal values and tells nothing about them; see [`keyed_digest`](super::keyed_digest).
    fn fingerprint(&self, params: &Value) -> String;

    /// How large the journal is now.
    fn journal_size(&self) -> JournalSize;

    /// Something the author should know, as a journal that is half full. May be repeated on replay.
    fn warn(&self, message: &str);
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the script asked.
    pub position: Position,
    /// What it asked.
    pub request: Request,
    /// What came back, as [`StepOutcome::to_text`] wrote it: never anything but this text reaches the script.
    pub outcome: Option<Arc<str>>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is in the journal, perhaps already with its outcome.
    Recorded,
    /// It could not be journalled now: suspend, the turn will be evaluated again.
    Suspend,
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Look again.
    Progress,
    /// Let go of the thread; evaluate again when there is an outcome.
    Suspend,
}

/// An outside input that stops a script where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interrupt {
    /// Somebody wants it gone.
    Cancel,
    /// Its time is up.
    Timeout,
    /// It is to go on later, from where it stands.
    Pause,
}

/// The size of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalSize {
    /// Number of entries.
    pub entries: u64,
    /// Requests and outcomes that are kept inline, together.
    pub bytes: u64,
}
