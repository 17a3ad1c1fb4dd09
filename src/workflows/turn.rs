//! One evaluation at work: which position comes next, what the journal says there, and why the script has to stop.
//!
//! Stopping is the delicate part. The error that unwinds a script cannot be caught by its `try`, except that the script
//! engine wraps it into one that can inside closures of `map`, `filter`, `reduce` and `for_each`, and that `sort` drops
//! it. So a stop is a flag first: [`Turn::count_operation`] ends the next operation while it is up, every builtin looks
//! at it before doing anything, and whoever started an evaluation looks at it whatever came back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhai::{Dynamic, EvalAltResult, Position as Place, Shared};

use crate::scripts::Meter;
use crate::workflows::errors::{Raised, raise, step_error};
use crate::workflows::evaluate::Divergence;
use crate::workflows::host::{Answer, Entry, Host, Interrupt, Waited};
use crate::workflows::limits::{LimitExceeded, LimitKind, Limits};
use crate::workflows::outcome::{Decoded, StepError, StepOutcome};
use crate::workflows::position::Position;
use crate::workflows::request::{Request, StepKind};

/// Why a script has to stop where it is. No script can catch it.
#[derive(Debug)]
pub(super) enum Stop {
    /// These have no outcome yet.
    Suspended(Vec<Position>),
    /// The host cannot journal now. Ends the turn, where `Suspended` in a branch only ends the branch.
    NotJournalled,
    /// The script asks something else than it did.
    Diverged(Box<Divergence>),
    /// An outside input.
    Interrupted(Interrupt),
    /// `restart(params)`.
    Restart(serde_json::Value),
    /// It took too much.
    Limit(LimitExceeded),
}

/// May a frame hold its thread while it waits?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The main frame, and attempts in it.
    Parks,
    /// A branch: its siblings want to go on.
    Suspends,
}

/// What calls are numbered under.
#[derive(Debug)]
struct Frame {
    prefix: Position,
    used: u32,
    waits: Waits,
}

/// The state of one evaluation. Shared with the script engine, used by one thread.
pub(super) struct Turn {
    host: Arc<dyn Host>,
    limits: Limits,
    frames: Mutex<Vec<Frame>>,
    stop: Mutex<Option<Stop>>,
    stopped: AtomicBool,
    operations: AtomicU64,
    meter: Shared<Meter>,
}

impl Turn {
    pub(super) fn new(host: Arc<dyn Host>, limits: Limits) -> Self {
        let main = Frame { prefix: Position::root(), used: 0, waits: Waits::Parks };
        let meter = Meter::start(limits.budget());
        Self {
            host,
            limits,
            frames: Mutex::new(vec![main]),
            stop: Mutex::new(None),
            stopped: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            meter,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Called before every operation of the script; answers whether it has to end.
    pub(super) fn count_operation(&self) -> bool {
        if self.operations.fetch_add(1, Ordering::Relaxed) >= self.limits.operations && !self.is_stopped() {
            self.flag(Stop::Limit(self.limits.exceeded(LimitKind::Operations)));
        }
        self.check_meter();
        self.is_stopped()
    }

    /// Raises the flag if the evaluation took too much; also asked at its end, when no operation follows.
    pub(super) fn check_meter(&self) {
        if let Some(exceeded) = self.meter.check()
            && !self.is_stopped()
        {
            self.flag(Stop::Limit(self.limits.exceeded_budget(exceeded)));
        }
    }

    /// Raises the flag, and gives the error that unwinds the script. The first reason stands.
    #[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
    pub(super) fn stop(&self, reason: Stop) -> Raised {
        self.flag(reason);
        Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Place::NONE))
    }

    fn flag(&self, reason: Stop) {
        locked(&self.stop).get_or_insert(reason);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Lowers the flag.
    pub(super) fn take_stop(&self) -> Option<Stop> {
        self.stopped.store(false, Ordering::Relaxed);
        locked(&self.stop).take()
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The error that goes on unwinding, while the flag is up.
    pub(super) fn check_stop(&self) -> Result<(), Raised> {
        if self.is_stopped() {
            return Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Place::NONE)));
        }
        Ok(())
    }

    /// One step: the next position, asked if it is not in the journal, waited for if it has no outcome.
    pub(super) fn step(&self, request: Request) -> Result<Dynamic, Raised> {
        let at = self.start(request)?;
        self.outcome(&at)
    }

    /// The first half of a step: what it returns is in the journal.
    pub(super) fn start(&self, request: Request) -> Result<Position, Raised> {
        let at = self.advance()?;
        self.start_at(&at, request)?;
        Ok(at)
    }

    /// The same at a position that the caller numbers.
    pub(super) fn start_at(&self, at: &Position, mut request: Request) -> Result<(), Raised> {
        if let Some(entry) = self.host.entry(at) {
            return self.compare(&entry, request);
        }
        self.check_interrupt()?;
        self.check_journal()?;
        request.digest = self.host.fingerprint(&request.params);
        let answer = self.host.ask(at, request);
        self.recorded(answer)
    }

    /// The second half of a step: its outcome, waited for if need be.
    pub(super) fn outcome(&self, at: &Position) -> Result<Dynamic, Raised> {
        self.check_stop()?;
        loop {
            let entry = self.host.entry(at);
            if let Some(entry) = entry.as_deref()
                && let Some(text) = &entry.outcome
            {
                return decode(entry, text);
            }
            self.wait_for(vec![at.clone()])?;
        }
    }

    /// A step whose outcome this evaluation decides, the first time.
    pub(super) fn decided(
        &self,
        request: Request,
        decide: impl FnOnce() -> Result<StepOutcome, Raised>,
    ) -> Result<(Position, Dynamic), Raised> {
        let at = self.advance()?;
        if let Some(entry) = self.host.entry(&at) {
            self.compare(&entry, request)?;
        } else {
            self.check_interrupt()?;
            let outcome = decide()?;
            self.record(&at, request, outcome)?;
        }
        let decided = self.outcome(&at)?;
        Ok((at, decided))
    }

    /// Journals an outcome that this evaluation decided.
    pub(super) fn record(&self, at: &Position, mut request: Request, outcome: StepOutcome) -> Result<(), Raised> {
        self.check_journal()?;
        request.digest = self.host.fingerprint(&request.params);
        let answer = self.host.record(at, request, outcome);
        self.recorded(answer)
    }

    /// Returns when one of `open` may have an outcome: in a branch never, it is suspended.
    pub(super) fn wait_for(&self, open: Vec<Position>) -> Result<(), Raised> {
        self.check_interrupt()?;
        let waits = locked(&self.frames).last().map_or(Waits::Parks, |frame| frame.waits);
        if waits == Waits::Parks && self.host.wait(&open) == Waited::Progress {
            return Ok(());
        }
        Err(self.stop(Stop::Suspended(open)))
    }

    /// Has the step at this position an outcome?
    pub(super) fn has_outcome(&self, at: &Position) -> bool {
        self.host.entry(at).is_some_and(|entry| entry.outcome.is_some())
    }

    /// What the journal holds there, if it is a step of that kind.
    pub(super) fn entry_of_kind(&self, at: &Position, kind: StepKind) -> Option<Arc<Entry>> {
        self.host.entry(at).filter(|entry| entry.request.kind == kind)
    }

    /// Runs `body` as a frame of its own that may not wait: its branch is suspended instead, and that is caught here.
    /// Its operations are bounded, but not added to those of the main frame: a hot evaluation runs it several times.
    pub(super) fn branch(
        &self,
        at: &Position,
        body: impl FnOnce() -> Result<Dynamic, Raised>,
    ) -> Result<FrameEnd, Raised> {
        let operations = self.operations.load(Ordering::Relaxed);
        let (result, used) = self.framed(at, Waits::Suspends, body);
        match self.take_stop() {
            Some(Stop::Suspended(open)) => {
                self.operations.store(operations, Ordering::Relaxed);
                Ok(FrameEnd::Open(open))
            }
            Some(other) => Err(self.stop(other)),
            None => {
                self.operations.store(operations, Ordering::Relaxed);
                self.frame_end(at, used, result)
            }
        }
    }

    /// Runs `body` as a frame of its own that waits as its surroundings do.
    pub(super) fn attempt(
        &self,
        at: &Position,
        body: impl FnOnce() -> Result<Dynamic, Raised>,
    ) -> Result<FrameEnd, Raised> {
        let waits = locked(&self.frames).last().map_or(Waits::Parks, |frame| frame.waits);
        let (result, used) = self.framed(at, waits, body);
        self.check_stop()?;
        self.frame_end(at, used, result)
    }

    fn framed<T>(&self, at: &Position, waits: Waits, body: impl FnOnce() -> T) -> (T, u32) {
        locked(&self.frames).push(Frame { prefix: at.clone(), used: 0, waits });
        let result = body();
        let used = locked(&self.frames).pop().map_or(0, |frame| frame.used);
        (result, used)
    }

    fn frame_end(&self, at: &Position, used: u32, result: Result<Dynamic, Raised>) -> Result<FrameEnd, Raised> {
        let end = match result {
            Ok(value) => FrameEnd::Value(value),
            Err(error) => match self.limits.exceeded_by(&error) {
                Some(limit) => return Err(self.stop(Stop::Limit(limit))),
                None => FrameEnd::Error(Box::new(step_error(&error))),
            },
        };
        self.check_nothing_left(&at.child(used + 1))?;
        Ok(end)
    }

    /// The journal must not hold more of a frame than the script asked: positions are dense, so one look is enough.
    pub(super) fn check_nothing_left(&self, next: &Position) -> Result<(), Raised> {
        match self.host.entry(next) {
            None => Ok(()),
            Some(entry) => Err(self.diverge(&entry, None)),
        }
    }

    /// The position that the next call of the main frame would have.
    pub(super) fn next_of_main(&self) -> Position {
        Position::root().child(locked(&self.frames).first().map_or(0, |frame| frame.used) + 1)
    }

    fn advance(&self) -> Result<Position, Raised> {
        self.check_stop()?;
        let mut frames = locked(&self.frames);
        // The main frame is never popped.
        let Some(frame) = frames.last_mut() else {
            return Ok(Position::root());
        };
        frame.used += 1;
        Ok(frame.prefix.child(frame.used))
    }

    /// Parameters are compared by value first; the journal may hold them masked, then the fingerprint decides.
    pub(super) fn compare(&self, entry: &Entry, mut request: Request) -> Result<(), Raised> {
        let recorded = &entry.request;
        if recorded.kind == request.kind && recorded.target == request.target {
            if recorded.params == request.params {
                return Ok(());
            }
            request.digest = self.host.fingerprint(&request.params);
            if recorded.digest == request.digest {
                return Ok(());
            }
        }
        Err(self.diverge(entry, Some(request)))
    }

    #[expect(clippy::unnecessary_box_returns, reason = "what the script engine wants")]
    fn diverge(&self, entry: &Entry, asked: Option<Request>) -> Raised {
        let (position, recorded) = (entry.position.clone(), entry.request.clone());
        self.stop(Stop::Diverged(Box::new(Divergence { position, recorded, asked })))
    }

    fn recorded(&self, answer: Answer) -> Result<(), Raised> {
        match answer {
            Answer::Recorded => Ok(()),
            Answer::Suspend => Err(self.stop(Stop::NotJournalled)),
        }
    }

    fn check_interrupt(&self) -> Result<(), Raised> {
        self.host.interrupted().map_or(Ok(()), |interrupt| Err(self.stop(Stop::Interrupted(interrupt))))
    }

    fn check_journal(&self) -> Result<(), Raised> {
        let (size, limits) = (self.host.journal_size(), &self.limits);
        let over = if size.entries >= limits.journal_entries {
            LimitKind::JournalEntries
        } else if size.bytes >= limits.journal_bytes {
            LimitKind::JournalBytes
        } else {
            if size.entries == limits.journal_entries / 2 {
                let (used, all) = (size.entries, limits.journal_entries);
                self.host
                    .warn(&format!("the journal holds {used} of {all} entries; `restart(params)` starts a fresh one"));
            }
            return Ok(());
        };
        Err(self.stop(Stop::Limit(limits.exceeded(over))))
    }
}

/// How a branch or an attempt came back.
pub(super) enum FrameEnd {
    /// With a value.
    Value(Dynamic),
    /// With an error that a script could catch.
    Error(Box<StepError>),
    /// Not yet: these have no outcome.
    Open(Vec<Position>),
}

/// The only way from the journal into a script.
fn decode(entry: &Entry, text: &str) -> Result<Dynamic, Raised> {
    let error = match serde_json::from_str(text) {
        Ok(Decoded::Ok(value)) => return Ok(value),
        Ok(Decoded::Error(error)) => error,
        Err(error) => StepError::new(format!("the journal's outcome at {} is unreadable: {error}", entry.position)),
    };
    let decided = matches!(entry.request.kind, StepKind::Branch | StepKind::WaitAny);
    let action = error.action.or_else(|| entry.request.target.clone());
    let position = error.position.or_else(|| (!decided).then(|| entry.position.clone()));
    Err(raise(&StepError { action, position, ..error }))
}

/// The lock of a thread that panicked is as good as any: every value behind it is replaced whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
