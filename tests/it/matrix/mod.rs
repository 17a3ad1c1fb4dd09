//! The proof of the lifecycle workflows as one generated matrix: whatever happens at any step of any operation, a group that has come to
//! rest is the same in the ledger, at its provider, behind its load balancer and in its zone; nothing was done twice, and nothing is
//! left over.
//!
//! Each operation is first done without trouble, and what it leaves on disk and outside is kept moment by moment (`history`): after
//! each commit, and after each effect between two commits. From that cells are generated (`cells`):
//!
//! - for each moment: the engine was killed there and goes on, or is told to cancel before it goes on; nobody looked for no time,
//!   for longer than a lease, for longer than any time limit. The same for the moments of undoing it;
//! - for each call outside: it fails once, three times, for long; it is done and its answer is lost, once or three times; there is no room;
//!   it hangs, done or not done, until somebody cancels or the governor finds it stuck.
//!
//! The full product (`PETREL_MATRIX=full`) is about 3100 cells. By default it is about 960: every moment with a kill and with a cancel, every call
//! with a cancel before and after its effect; downtimes and the other faults take turns over the moments and calls. How
//! many exactly depends on how many commits were shared; how few at least is asserted.
//!
//! `PETREL_MATRIX_CELL` names one cell, or the beginning of several. A failing one says its name and where its files are, `left`
//! being those that the kill left.
//!
//! In `killed`, one cell of each operation has a real daemon and a real `kill -9`.

mod books;
mod cells;
mod clock;
mod history;
mod killed;
mod operations;
mod outside;
mod server;
mod stage;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use cells::{Cell, Extent, cells_of};
use history::{History, Snapshot};
use operations::{GATED, Grounds, OPERATIONS, Operation, Story};
use server::Server;

/// Cells that are under way side by side: most of the time each waits for its disk.
const AT_ONCE: usize = 8;

/// All that cells need, made once.
struct Product {
    server: Server,
    grounds: Grounds,
    histories: Histories,
    /// The server lives in it.
    _runtime: Runtime,
}

impl Product {
    fn make(stories: &[Story]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (server, grounds, histories) = runtime.block_on(async {
            let server = Server::start().await;
            let grounds = Grounds::prepare(&server).await;
            let mut histories = BTreeMap::new();
            for operation in OPERATIONS {
                histories.extend(told_of(operation, stories, &server, grounds.of(operation)).await);
            }
            (server, grounds, histories)
        });
        Self { server, grounds, histories, _runtime: runtime }
    }

    #[expect(clippy::print_stderr, reason = "how large the matrix is, for whoever looks")]
    fn cells(&self, extent: Extent) -> Vec<Cell> {
        let mut cells = Vec::new();
        for ((operation, story), history) in &self.histories {
            let told = cells_of(*operation, *story, history, extent);
            let (moments, calls) = (history.moments().len(), cells::calls(history).len());
            if *story == Story::Plain {
                assert_eq!(calls, operation.calls(), "calls of {}: a step came or went", operation.name());
                assert!(moments > 2 * calls, "{}: each call is asked for, done, and heard of", operation.name());
                assert!(told.len() >= 2 * moments + 3 * calls, "{}: cells are missing", operation.name());
            }
            eprintln!("{} {}: {moments} moments, {calls} calls, {} cells", operation.name(), story.name(), told.len());
            cells.extend(told);
        }
        cells
    }

    /// Runs a cell, with threads of its own: to load content is work. What was wrong, under the cell's name.
    fn run(&self, cell: &Cell) -> Result<(), String> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let work = cell.run(&self.server, &self.grounds, &self.histories[&(cell.operation, cell.story)]);
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        runtime.shutdown_background();
        let outcome = outcome.unwrap_or_else(|_| Err(vec!["it panicked; what it said stands above".to_owned()]));
        outcome.map_err(|wrong| format!("PETREL_MATRIX_CELL={cell}:\n{}", wrong.join("\n")))
    }

    /// Runs them side by side. All that was wrong.
    fn run_all(&self, cells: Vec<Cell>) -> Vec<String> {
        let left = Mutex::new(cells.into_iter());
        let next = || left.lock().unwrap().next();
        let work = || std::iter::from_fn(next).filter_map(|cell| self.run(&cell).err()).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    }
}

type Histories = BTreeMap<(Operation, Story), History>;

/// The histories of an operation. What is done without trouble is also canceled after its last effect, and undone.
async fn told_of(operation: Operation, stories: &[Story], server: &Server, before: &Snapshot) -> Histories {
    let mut histories = Histories::new();
    for story in stories.iter().copied().filter(|story| story.can_be_told_of(operation)) {
        histories.insert((operation, story), History::of(operation, story, server, before).await);
    }
    if let Some(plain) = histories.get(&(operation, Story::Plain)) {
        let last = plain.entries.iter().rfind(|entry| entry.changed).expect("an operation changes something");
        let undone = History::undone(operation, server, before, &last.call).await;
        histories.insert((operation, Story::Undone), undone);
    }
    histories
}

#[expect(clippy::disallowed_methods, reason = "which cells to run is said from outside")]
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs all cells of these stories.
#[expect(clippy::print_stderr, reason = "what was proven, for whoever looks")]
fn prove(stories: &[Story]) {
    let began = Instant::now();
    let product = Product::make(stories);
    let full = from_environment("PETREL_MATRIX").as_deref() == Some("full");
    let mut cells = product.cells(if full { Extent::Full } else { Extent::Daily });
    if let Some(wanted) = from_environment("PETREL_MATRIX_CELL") {
        cells.retain(|cell| cell.to_string().starts_with(&wanted));
    }
    let count = cells.len();
    let failed = product.run_all(cells);
    eprintln!("{count} cells in {:?}", began.elapsed());
    assert!(failed.is_empty(), "{} of {count} cells failed:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn ledger_provider_load_balancer_and_zone_agree_whatever_happens_at_any_step_of_any_operation() {
    prove(&[Story::Plain]);
}

#[test]
fn a_group_that_is_observed_suspended_or_frozen_has_nothing_done_to_it_whatever_happens_at_any_step() {
    prove(&GATED);
}
