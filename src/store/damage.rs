//! Rows that cannot be read are left out of lists, so that one of them does not hide all others. Each is told once in the
//! log, and to whoever asked for the list.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::driver::{Cell, Row};
use super::error::{StoreError, StoreResult};

tokio::task_local! {
    static LEFT_OUT: RefCell<Vec<String>>;
}

/// So many damaged rows are told in the log; more of them say nothing new.
const MOST_TOLD: usize = 1_000;

/// Does `work`, and tells as `table/id` which rows its lists have left out.
pub async fn noting_what_is_left_out<T>(work: impl Future<Output = T>) -> (T, Vec<String>) {
    let noting = async {
        let done = work.await;
        (done, LEFT_OUT.with(RefCell::take))
    };
    LEFT_OUT.scope(RefCell::default(), noting).await
}

/// Notes that the row `id` of `table` is damaged and left out.
pub fn leave_out(table: &str, id: &str, problem: &StoreError) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let name = format!("{table}/{id}");
    // Most of those who list do so for the daemon itself, and are told by the log alone.
    let _of_the_daemon = LEFT_OUT.try_with(|left_out| left_out.borrow_mut().push(name.clone()));
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < MOST_TOLD && told.insert(name) {
        tracing::error!(table, id, %problem, "a row of the store is damaged and left out of lists; repair or delete it");
    }
}

/// The rows of a list that can be read; `id_column` names the others.
pub(super) fn readable<T>(
    table: &str,
    id_column: usize,
    rows: &[Row],
    parse: impl Fn(&Row) -> StoreResult<T>,
) -> Vec<T> {
    let readable = rows.iter().filter_map(|row| match parse(row) {
        Ok(value) => Some(value),
        Err(problem) => {
            leave_out(table, &id_of(row, id_column), &problem);
            None
        }
    });
    readable.collect()
}

pub(super) fn id_of(row: &Row, column: usize) -> String {
    match row.0.get(column) {
        Some(Cell::Text(text)) => text.clone(),
        Some(Cell::Int(number)) => number.to_string(),
        Some(Cell::Null(_) | Cell::Blob(_) | Cell::SecretText(_) | Cell::SecretBlob(_)) | None => {
            "without an id".to_owned()
        }
    }
}
