//! The proof of the lifecycle workflows as one generated matrix.

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
use history::History;
use operations::{GATED, Grounds, OPERATIONS, Operation, Story};
use server::Server;

/// Cells that are under way side by side: most of the time each waits for its disk.
const AT_ONCE: usize = 8;

/// All that cells need, made once.
struct Product {
    server: Server,
    grounds: Grounds,
    histories: BTreeMap<(Operation, Story), History>,
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
                let before = grounds.of(operation);
                for story in stories.iter().copied().filter(|story| story.can_be_told_of(operation)) {
                    let history = History::of(operation, story, &server, before).await;
                    let last = history.entries.iter().rfind(|entry| entry.changed).filter(|_| story == Story::Plain);
                    if let Some(last) = last {
                        let undone = History::undone(operation, &server, before, &last.call).await;
                        histories.insert((operation, Story::Undone), undone);
                    }
                    histories.insert((operation, story), history);
                }
            }
            (server, grounds, histories)
        });
        Self { server, grounds, histories, _runtime: runtime }
    }

    fn cells(&self, extent: Extent) -> Vec<Cell> {
        let mut cells = Vec::new();
        for ((operation, story), history) in &self.histories {
            let told = cells_of(*operation, *story, history, extent);
            let (moments, calls) = (history.moments().len(), cells::calls(history).len());
            eprintln!(
                "{} {}: {moments} moments, {calls} calls, {} cells",
                operation.name(),
                story.name(),
                told.len()
            );
            cells.extend(told);
        }
        cells
    }

    /// Runs a cell, with threads of its own: to load content is work. What was wrong, under the cell's name.
    fn run(&self, cell: &Cell) -> Result<(), String> {
        let began = Instant::now();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let work = cell.run(&self.server, &self.grounds, &self.histories[&(cell.operation, cell.story)]);
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        runtime.shutdown_background();
        eprintln!("CELL {:>6} {cell}", began.elapsed().as_millis());
        let outcome = outcome.unwrap_or_else(|_| Err(vec!["it panicked; what it said stands above".to_owned()]));
        outcome.map_err(|wrong| format!("PETREL_MATRIX_CELL={cell}:\n{}", wrong.join("\n")))
    }

    /// Runs them side by side. All that was wrong.
    fn run_all(&self, cells: Vec<Cell>) -> Vec<String> {
        let (left, failed) = (Mutex::new(cells.into_iter()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = left.lock().unwrap().next();
                        let Some(cell) = next else { return };
                        if let Err(wrong) = self.run(&cell) {
                            failed.lock().unwrap().push(wrong);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "which cells to run is said from outside")]
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs all cells of these stories.
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
