//! The proof of the lifecycle workflows as one generated matrix.

mod books;
mod cells;
mod clock;
mod history;
mod operations;
mod outside;
mod server;
mod stage;

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use cells::{Cell, Extent, cells_of};
use history::History;
use operations::{Grounds, OPERATIONS};
use server::Server;

/// Cells that are under way side by side: most of the time each waits for its disk.
const AT_ONCE: usize = 8;

#[expect(clippy::disallowed_methods, reason = "which cells to run is said from outside")]
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_provider_load_balancer_and_zone_agree_whatever_happens_at_any_step_of_any_operation() {
    let extent = match from_environment("PETREL_MATRIX").as_deref() {
        Some("full") => Extent::Full,
        _ => Extent::Daily,
    };
    let wanted = from_environment("PETREL_MATRIX_CELL");
    let began = Instant::now();
    let server = Server::start().await;
    let grounds = Grounds::prepare(&server).await;
    let mut histories = BTreeMap::new();
    for operation in OPERATIONS {
        histories.insert(operation, History::of(operation, &server, grounds.of(operation)).await);
    }
    let mut cells = Vec::new();
    for (operation, history) in &histories {
        let of_operation = cells_of(*operation, history, extent);
        eprintln!(
            "{}: {} moments, {} calls, {} cells",
            operation.name(),
            history.moments().len(),
            cells::calls(history).len(),
            of_operation.len()
        );
        cells.extend(of_operation);
    }
    eprintln!("{} cells, after {:?}", cells.len(), began.elapsed());
    if let Some(wanted) = &wanted {
        cells.retain(|cell| cell.to_string().starts_with(wanted.as_str()));
        assert!(!cells.is_empty(), "no cell is called {wanted}");
    }
    let run = |cell: Cell| {
        let history = &histories[&cell.operation];
        let (server, grounds) = (&server, &grounds);
        async move {
            let outcome = cell.run(server, grounds, history).await;
            outcome.map_err(|wrong| format!("PETREL_MATRIX_CELL={cell}:\n{}", wrong.join("\n")))
        }
    };
    let outcomes: Vec<_> = stream::iter(cells).map(run).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    eprintln!("{:?}", began.elapsed());
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n\n"));
}
