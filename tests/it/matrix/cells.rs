//! The cells: how each is named, what happens in it, and what must be true after it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::books;
use super::history::{History, Moment, serving};
use super::operations::{Grounds, Operation, Story};
use super::outside::{Entry, LOOKS};
use super::server::{Planned, Server, Trouble};
use super::stage::Stage;

/// For so long nobody looked after a crash: not at all, longer than a lease, longer than any time limit of a step. What
/// has a time limit ends by it after the last of these, and its node with it; all else must be as if nothing had been.
const DOWNTIMES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(25), LONG];
const LONG: Duration = Duration::from_secs(2 * 60 * 60);

/// One thing that happens to one operation at one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) operation: Operation,
    pub(super) story: Story,
    pub(super) event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The engine is killed.
    Crash { at: Moment, then: Then, downtime: Duration },
    /// Something is wrong outside.
    Trouble { verb: String, about: String, fault: Fault },
}

/// What the next engine is told before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Cancel,
}

/// What goes wrong with one call of the world, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// So many calls in a row.
    Failing(Trouble, usize),
    /// It hangs, and somebody cancels.
    Canceled(Trouble),
    /// It hangs, and nobody notices but the governor.
    Stuck(Trouble),
}

/// The rarer faults; each call gets all of them in the full matrix and takes turns otherwise.
const FAULTS: [Fault; 9] = [
    Fault::Failing(Trouble::Error, 1),
    Fault::Failing(Trouble::Error, 3),
    // longer than all that a workflow and its undoing try
    Fault::Failing(Trouble::Error, 9),
    Fault::Failing(Trouble::Lost, 1),
    Fault::Failing(Trouble::Lost, 3),
    Fault::Failing(Trouble::Capacity, 1),
    Fault::Failing(Trouble::Capacity, 3),
    Fault::Stuck(Trouble::Hang),
    Fault::Stuck(Trouble::HangAfter),
];
const CANCELS: [Fault; 2] = [Fault::Canceled(Trouble::Hang), Fault::Canceled(Trouble::HangAfter)];

/// How much of the product is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every moment with crash and cancel, every call with a cancel before and after its effect; faults take turns.
    Daily,
    /// All of it.
    Full,
}

/// All cells of an operation.
pub(super) fn cells_of(operation: Operation, story: Story, history: &History, extent: Extent) -> Vec<Cell> {
    let mut cells = Vec::new();
    let both = [Then::GoOn, Then::Cancel];
    // What is canceled already, or not begun, is not canceled once more.
    let thens = if story == Story::Plain { both.as_slice() } else { &both[..1] };
    for (turn, at) in history.moments().into_iter().enumerate() {
        for (shift, then) in thens.iter().copied().enumerate() {
            let of_turn = [DOWNTIMES[(turn + shift) % DOWNTIMES.len()]];
            let downtimes = if extent == Extent::Full { DOWNTIMES.as_slice() } else { &of_turn };
            let events = downtimes.iter().map(|downtime| Event::Crash { at, then, downtime: *downtime });
            cells.extend(events.map(|event| Cell { operation, story, event }));
        }
    }
    if story == Story::Undone {
        return cells;
    }
    for (turn, (verb, about)) in calls(history).into_iter().enumerate() {
        let of_turn = [FAULTS[turn % FAULTS.len()]];
        let faults = if extent == Extent::Full { FAULTS.as_slice() } else { &of_turn };
        for fault in CANCELS.iter().chain(faults) {
            let event = Event::Trouble { verb: verb.clone(), about: about.clone(), fault: *fault };
            cells.push(Cell { operation, story, event });
        }
    }
    cells
}

/// Every call once, in the order in which they came.
pub(super) fn calls(history: &History) -> Vec<(String, String)> {
    let mut calls = Vec::new();
    for entry in &history.entries {
        let call = (entry.call.verb.clone(), entry.call.about.clone());
        if !calls.contains(&call) {
            calls.push(call);
        }
    }
    calls
}

impl Cell {
    /// Lets it happen. `Err`: all that was wrong afterwards.
    pub(super) async fn run(&self, server: &Server, grounds: &Grounds, history: &History) -> Result<(), Vec<String>> {
        match &self.event {
            Event::Crash { at, then, downtime } => self.crash(server, history, *at, *then, *downtime).await,
            Event::Trouble { verb, about, fault } => self.trouble(server, grounds, (verb, about), *fault).await,
        }
    }

    async fn crash(
        &self,
        server: &Server,
        history: &History,
        at: Moment,
        then: Then,
        downtime: Duration,
    ) -> Result<(), Vec<String>> {
        let left = history.left_at(at, self.operation);
        let stage = Stage::open(server, &self.path(), &left, downtime).await;
        if then == Then::Cancel {
            stage.cancel_all().await;
        }
        stage.start().await;
        let mut wrong = self.rest(&stage).await;
        if then == Then::GoOn && downtime < LONG && self.story == Story::Plain {
            wrong.extend(books::repeated(&stage.world));
            let serves = serving(&stage).await;
            if serves != history.serving {
                wrong.push(format!("{serves:?} serve, and without a crash {:?}", history.serving));
            }
        }
        let failed = self.end(server, stage, wrong).await;
        failed.map_err(|(wrong, folder)| {
            left.lay_out(&folder.join("left"), &self.path());
            wrong
        })
    }

    async fn trouble(
        &self,
        server: &Server,
        grounds: &Grounds,
        (verb, about): (&str, &str),
        fault: Fault,
    ) -> Result<(), Vec<String>> {
        let stage = Stage::open(server, &self.path(), grounds.of(self.operation), Duration::from_secs(1)).await;
        stage.start().await;
        self.story.begin(&stage).await;
        let (trouble, times) = match fault {
            Fault::Failing(trouble, times) => (trouble, times),
            Fault::Canceled(trouble) | Fault::Stuck(trouble) => (trouble, 1),
        };
        stage.world.plan(Planned { verb: verb.to_owned(), about: about.to_owned(), trouble, times });
        let somebody = async {
            stage.world.hung().await;
            match fault {
                Fault::Failing(..) => {}
                Fault::Canceled(_) => drop(stage.cancel_all().await),
                Fault::Stuck(_) => stage.leap_until_given_up().await,
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.operation.perform(&stage, self.story) => {}
            () = somebody => {}
        }
        let mut wrong = self.rest(&stage).await;
        if stage.world.still_planned() == times {
            wrong.push(format!("nobody asked {verb} of {about}"));
        }
        self.end(server, stage, wrong).await.map_err(|(wrong, _)| wrong)
    }

    /// Lets everything come to rest, or time pass where nothing may happen. All that is wrong then.
    async fn rest(&self, stage: &Stage) -> Vec<String> {
        if self.story.is_gated() {
            stage.pass_time().await;
            return books::written(&stage.world);
        }
        let restless = stage.rest(self.operation.looks()).await.err();
        restless.into_iter().chain(books::audit(&stage.engine().store, &stage.world).await).collect()
    }

    /// If anything was wrong, its files are kept for whoever wants to know more.
    async fn end(&self, server: &Server, stage: Stage, mut wrong: Vec<String>) -> Result<(), (Vec<String>, PathBuf)> {
        let log = stage.world.log();
        let group = stage.group().await;
        let site = stage.stop().await;
        server.remove(&self.path());
        if wrong.is_empty() {
            return Ok(());
        }
        let asked = log.iter().filter(|entry| !LOOKS.contains(&entry.call.verb.as_str()));
        let asked = asked.map(|entry| {
            let Entry { call, changed, done, trouble, .. } = entry;
            format!("  {} {} changed={changed} done={done} {trouble:?}", call.verb, call.about)
        });
        wrong.push(format!("it was asked:\n{}", asked.collect::<Vec<_>>().join("\n")));
        let decided = group.and_then(|group| group.last_decision).map(|last| last.sentence);
        let folder = site.keep();
        wrong.push(format!("last decision: {decided:?}; its files are in {}", folder.display()));
        Err((wrong, folder))
    }

    /// Its name where a path needs it.
    fn path(&self) -> String {
        self.to_string().replace('/', ":").replace(' ', "_")
    }
}

/// As `PETREL_MATRIX_CELL` takes it.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.operation.name())?;
        if self.story != Story::Plain {
            write!(f, "{}/", self.story.name())?;
        }
        match &self.event {
            Event::Crash { at, then, downtime } => {
                let then = if *then == Then::Cancel { "/cancel" } else { "" };
                write!(f, "crash@{}.{}+{}s{then}", at.commits, at.calls, downtime.as_secs())
            }
            Event::Trouble { verb, about, fault } => match fault {
                Fault::Failing(trouble, times) => write!(f, "{verb}@{about}/{trouble:?}*{times}"),
                Fault::Canceled(trouble) => write!(f, "{verb}@{about}/{trouble:?}/cancel"),
                Fault::Stuck(trouble) => write!(f, "{verb}@{about}/{trouble:?}/stuck"),
            },
        }
    }
}
