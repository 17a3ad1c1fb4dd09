//! PostgreSQL behind the store's seam, for several daemons over one store. Each batch is a transaction on a connection of
//! its own, read committed: guards lock the rows they found, and what rows cannot keep apart is claimed as a turf
//! (an advisory lock). A batch that met another one (a deadlock) is data, so it is run again.

mod cells;
mod commit;
mod connect;
mod explain;
mod migrate;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::runtime::Handle;

use super::dialect;
use super::driver::{Batch, Cell, Driver, Effect, Row};
use super::error::{StoreError, StoreResult};
use crate::clock::{self, Clock};
use crate::model::time::Timestamp;
pub use connect::PostgresSettings;

/// A database that takes longer than this for one batch or read is away: it is stopped, or the network swallows.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// While the server has no connection left, until one of our own comes free.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// So often a batch is run again that met another one. More means that something is wrong with the order of locks.
const ATTEMPTS: usize = 20;

/// PostgreSQL behind the store's seam.
pub(super) struct PostgresDriver {
    pool: Pool,
    /// For reads that hold up the thread that asks. It may be the thread of tasks that have connections of the other pool
    /// and go on only when it has its answer: it must not wait for one of theirs.
    pool_of_blocking: Pool,
    /// For time limits only; what is stored takes its time from the caller.
    clock: Arc<dyn Clock>,
    /// Where threads that may block hand their work over.
    runtime: Handle,
    texts: Texts,
    told_too_few: AtomicBool,
}

impl PostgresDriver {
    /// Connects, and brings the schema up to date. Call it on the run-time that is to do the work.
    pub(super) async fn open(settings: &PostgresSettings, clock: Arc<dyn Clock>) -> StoreResult<Self> {
        let (pool, pool_of_blocking) = connect::pools(settings)?;
        let mut client = pool.get().await.map_err(|e| explain::no_connection(&e))?;
        migrate::bring_up_to_date(&mut client).await?;
        drop(client);
        Ok(Self {
            pool,
            pool_of_blocking,
            clock,
            runtime: Handle::current(),
            texts: Texts::default(),
            told_too_few: AtomicBool::new(false),
        })
    }

    /// Does `work` on a connection. One that did not answer in time is not used again: nobody knows what it is at.
    async fn on_connection<T>(
        &self,
        pool: &Pool,
        work: impl AsyncFnOnce(&Object) -> Result<T, commit::Failure>,
    ) -> Result<T, commit::Failure> {
        let lent = Lent(Some(self.connection(pool).await?));
        let worked = clock::timeout(&*self.clock, ANSWER_LIMIT, work(lent.connection())).await;
        match worked {
            Ok(Err(commit::Failure::Broken(problem))) => Err(commit::Failure::Store(problem)),
            Ok(result) => {
                lent.give_back();
                result
            }
            Err(clock::Elapsed) => {
                let seconds = ANSWER_LIMIT.as_secs();
                Err(StoreError::Unavailable(format!("PostgreSQL did not answer within {seconds} s")).into())
            }
        }
    }

    /// A connection of the pool. A server that has no more of them than we have already gives what it has: one of ours comes
    /// free. That there are too few is said once.
    async fn connection(&self, pool: &Pool) -> StoreResult<Object> {
        let until = self.clock.monotonic().saturating_add(connect::CONNECT_LIMIT);
        loop {
            match pool.get().await {
                Ok(connection) => return Ok(connection),
                Err(problem)
                    if explain::is_out_of_connections(&problem)
                        && pool.status().size > 0
                        && self.clock.monotonic() < until =>
                {
                    self.report_too_few(pool);
                    self.clock.sleep_for(BETWEEN_LOOKS).await;
                }
                Err(problem) => return Err(explain::no_connection(&problem)),
            }
        }
    }

    fn report_too_few(&self, pool: &Pool) {
        if !self.told_too_few.swap(true, Ordering::Relaxed) {
            let (open, wanted) = (pool.status().size, pool.status().max_size);
            tracing::warn!(
                open,
                wanted,
                "PostgreSQL has no more connections for this daemon, which works with those it has: raise max_connections \
                 there or lower store.connections here"
            );
        }
    }

    async fn read(&self, pool: &Pool, sql: &'static str, cells: &[Cell]) -> StoreResult<Vec<Row>> {
        let text = self.texts.of_query(sql);
        let result = self.on_connection(pool, async |client| commit::query(client, &text, cells).await).await;
        result.map_err(commit::Failure::into_store_error)
    }

    async fn write(&self, batch: &Batch) -> StoreResult<Vec<Effect>> {
        let texts: Vec<Arc<str>> =
            batch.statements.iter().map(|statement| self.texts.of_statement(statement)).collect();
        for _ in 0..ATTEMPTS {
            match self.on_connection(&self.pool, async |client| commit::commit(client, batch, &texts).await).await {
                Err(commit::Failure::Met) => {}
                result => return result.map_err(commit::Failure::into_store_error),
            }
        }
        Err(commit::Failure::Met.into_store_error())
    }
}

/// A connection of the pool on which something is under way. Whoever waits for it may let go at any moment, as the
/// sender of a webhook who hangs up: then it may be in the middle of a transaction, in which the next one would go on
/// without a word and never be committed. It goes back only when it is at rest; otherwise it is closed.
struct Lent(Option<Object>);

impl Lent {
    fn connection(&self) -> &Object {
        self.0.as_ref().expect("it is there until it is given back")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

#[async_trait]
impl Driver for PostgresDriver {
    async fn query(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.read(&self.pool, sql, &cells).await
    }

    /// A number is taken under a shared claim of the turf. Holding it alone for a moment means that nobody has a number
    /// and is not committed.
    async fn query_settled(&self, turf: &'static str, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        let mut batch = Batch::default();
        batch.alone(turf);
        batch.push(sql, cells);
        let effects = self.write(&batch).await?;
        Ok(effects.into_iter().next().unwrap_or_default().rows)
    }

    fn query_blocking(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.runtime.block_on(self.read(&self.pool_of_blocking, sql, &cells))
    }

    async fn commit(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        self.write(&batch).await
    }

    fn commit_blocking(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        self.runtime.block_on(self.write(&batch))
    }

    async fn time(&self) -> StoreResult<Option<Timestamp>> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let rows = self.read(&self.pool, sql, &[]).await?;
        Ok(Some(Timestamp::from_micros(super::events::first_int(&rows)?)))
    }

    /// The other half is for those who extend leases, finish work and answer at the doors.
    fn at_once(&self) -> usize {
        (self.pool.status().max_size / 2).max(1)
    }

    async fn used_bytes(&self) -> StoreResult<u64> {
        let rows = self.read(&self.pool, "SELECT pg_database_size(current_database())", &[]).await?;
        Ok(u64::try_from(super::events::first_int(&rows)?).unwrap_or(0))
    }

    async fn backup(&self, _target: PathBuf) -> StoreResult<()> {
        let way_out =
            "this installation keeps its data in PostgreSQL: back it up with pg_dump, or with its own archiving";
        Err(StoreError::Unavailable(way_out.to_owned()))
    }
}

/// Statements as PostgreSQL takes them, each translated once. Their texts live as long as the process.
#[derive(Debug, Default)]
struct Texts {
    known: Mutex<HashMap<(&'static str, bool), Arc<str>>>,
}

impl Texts {
    fn of_query(&self, sql: &'static str) -> Arc<str> {
        self.get((sql, false), || dialect::query_for_postgres(sql))
    }

    fn of_statement(&self, statement: &super::driver::Statement) -> Arc<str> {
        let required = statement.guard == super::driver::Guard::Some;
        self.get((statement.sql, required), || dialect::statement_for_postgres(statement))
    }

    fn get(&self, key: (&'static str, bool), translate: impl FnOnce() -> String) -> Arc<str> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(known.entry(key).or_insert_with(|| translate().into()))
    }
}
