//! One batch, one transaction, two round trips: everything up to the guards, then the commit.

use std::sync::Arc;

use deadpool_postgres::Object;
use futures_util::future::{join, join_all};
use tokio_postgres::Statement as Prepared;
use tokio_postgres::types::ToSql;

use super::{cells, explain};
use crate::store::driver::{Batch, Cell, Effect, Guard, Hold, Row, Statement, Turf};
use crate::store::error::StoreError;

/// So many statements are on their way at once. `join_all` asks futures in their order only up to this number, and the
/// order in which they are asked first is the order in which statements are sent.
const PIPELINED: usize = 30;

/// What can come of a batch beside its effects.
#[derive(Debug)]
pub(super) enum Failure {
    /// It met another one, and nothing of it was done: run it again.
    Met,
    /// The connection is of no use any more.
    Broken(StoreError),
    /// An answer.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(problem: StoreError) -> Self {
        Self::Store(problem)
    }
}

impl Failure {
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Met => StoreError::Unavailable("too many changes meet each other".to_owned()),
            Self::Broken(problem) | Self::Store(problem) => problem,
        }
    }
}

pub(super) async fn query(client: &Object, sql: &str, parameters: &[Cell]) -> Result<Vec<Row>, Failure> {
    let prepared = prepare(client, sql, parameters).await?;
    let found = client.query(&prepared, &as_parameters(parameters)).await;
    let found = found.map_err(|e| explain::failure(&e, sql))?;
    Ok(found.iter().map(cells::row).collect::<Result<_, _>>()?)
}

pub(super) async fn commit(client: &Object, batch: &Batch, texts: &[Arc<str>]) -> Result<Vec<Effect>, Failure> {
    if let ([only], [text], []) = (batch.statements.as_slice(), texts, batch.turfs.as_slice()) {
        let prepared = prepare(client, text, &only.cells).await?;
        return Ok(vec![run(client, only, text, &prepared).await?]);
    }
    let turfs = turf_statements(&batch.turfs);
    let all: Vec<&Statement> = turfs.iter().chain(&batch.statements).collect();
    let texts: Vec<&str> = turfs.iter().map(|turf| turf.sql).chain(texts.iter().map(|text| &**text)).collect();
    let mut prepared = Vec::with_capacity(all.len());
    for (statement, text) in all.iter().zip(&texts) {
        prepared.push(prepare(client, text, &statement.cells).await?);
    }
    let mut effects = match transact(client, &all, &texts, &prepared).await {
        Ok(effects) => effects,
        Err(failure) => return Err(undo(client, failure).await),
    };
    client.batch_execute("COMMIT").await.map_err(|e| explain::failure(&e, "COMMIT"))?;
    Ok(effects.split_off(turfs.len()))
}

/// Begins, and runs all statements; the transaction is open after that, whatever came of it.
async fn transact(
    client: &Object,
    statements: &[&Statement],
    texts: &[&str],
    prepared: &[Prepared],
) -> Result<Vec<Effect>, Failure> {
    let begin = async { client.batch_execute("BEGIN").await.map_err(|e| explain::failure(&e, "BEGIN")) };
    let mut begin = Some(begin);
    let mut effects = Vec::with_capacity(statements.len());
    let numbers: Vec<usize> = (0..statements.len()).collect();
    for chunk in numbers.chunks(PIPELINED - 1) {
        let work = chunk.iter().filter_map(|number| {
            let ((statement, text), prepared) =
                statements.get(*number).zip(texts.get(*number)).zip(prepared.get(*number))?;
            Some(run(client, statement, text, prepared))
        });
        let work = join_all(work);
        let results = match begin.take() {
            Some(begin) => {
                let (begun, results) = join(begin, work).await;
                begun?;
                results
            }
            None => work.await,
        };
        for result in results {
            effects.push(result?);
        }
    }
    Ok(effects)
}

/// Ends the transaction without a trace. If even that cannot be said, the connection goes, and the transaction with it.
async fn undo(client: &Object, failure: Failure) -> Failure {
    match (failure, client.batch_execute("ROLLBACK").await) {
        (failure, Ok(())) => failure,
        (failure, Err(_)) => Failure::Broken(failure.into_store_error()),
    }
}

async fn prepare(client: &Object, sql: &str, parameters: &[Cell]) -> Result<Prepared, Failure> {
    let prepared = client.prepare_typed_cached(sql, &cells::types(parameters)).await;
    prepared.map_err(|e| explain::failure(&e, sql))
}

async fn run(client: &Object, statement: &Statement, sql: &str, prepared: &Prepared) -> Result<Effect, Failure> {
    let parameters = as_parameters(&statement.cells);
    let effect = if prepared.columns().is_empty() {
        let changed = client.execute(prepared, &parameters).await.map_err(|e| explain::failure(&e, sql))?;
        Effect { changed: usize::try_from(changed).unwrap_or(usize::MAX), rows: Vec::new() }
    } else {
        let found = client.query(prepared, &parameters).await.map_err(|e| explain::failure(&e, sql))?;
        let rows = found.iter().map(cells::row).collect::<Result<Vec<Row>, _>>()?;
        Effect { changed: rows.len(), rows }
    };
    match statement.guard {
        Guard::Some if effect.changed == 0 => Err(StoreError::Conflict.into()),
        Guard::Some | Guard::Any => Ok(effect),
    }
}

fn as_parameters(cells: &[Cell]) -> Vec<&(dyn ToSql + Sync)> {
    cells.iter().map(|cell| cell as &(dyn ToSql + Sync)).collect()
}

/// Claims in the order of their names, so that two batches never wait for each other's.
fn turf_statements(turfs: &[Turf]) -> Vec<Statement> {
    let mut turfs: Vec<&Turf> = turfs.iter().collect();
    turfs.sort();
    let claim = |turf: &Turf| {
        let sql = match turf.hold {
            Hold::Alone => "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text",
            Hold::Shared => "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))::text",
        };
        Statement { sql, cells: vec![Cell::Text(turf.name.clone().into_owned())], guard: Guard::Any }
    };
    turfs.into_iter().map(claim).collect()
}
