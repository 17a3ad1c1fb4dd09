//! The embedded database: SQLite in WAL mode with `synchronous=FULL`. One writer thread commits everything that waits
//! in one transaction (group commit); a few reader threads answer queries beside it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, ffi};
use tokio::sync::{mpsc, oneshot};

use super::driver::{Batch, Cell, Driver, Effect, Guard, Kind, Row, Statement};
use super::error::{Class, StoreError, StoreResult, report_unknown};
use super::events::first_int;
use super::sqlite_files::{self, Files};
use super::{dialect, migrate};
use crate::model::time::Timestamp;
use crate::private;

/// So many batches share one commit at most: beyond it the fsync is already spread thin and latency only grows.
const GROUP_SIZE: usize = 512;
/// Batches that may wait for the writer; a caller beyond that waits to hand its batch over.
const WRITE_QUEUE: usize = 4096;
const READ_QUEUE: usize = 1024;
/// Readers in WAL mode never wait for the writer; three are enough to keep two cores busy.
const READERS: usize = 3;
const STATEMENT_CACHE: usize = 256;

type Reply<T> = oneshot::Sender<StoreResult<T>>;

enum WriteJob {
    Commit(Batch, Reply<Vec<Effect>>),
    Backup(PathBuf, Reply<()>),
}

struct ReadJob {
    sql: &'static str,
    cells: Vec<Cell>,
    reply: Reply<Vec<Row>>,
}

/// SQLite behind the store's seam. Dropping it lets the threads finish what they were given.
#[derive(Debug)]
pub(super) struct SqliteDriver {
    writer: mpsc::Sender<WriteJob>,
    readers: mpsc::Sender<ReadJob>,
    files: Arc<Files>,
}

impl SqliteDriver {
    /// Opens or creates the database at `path`, brings its schema up to date, and refuses one from a newer Petrel.
    /// `max_bytes` limits its size: a write beyond it is answered with [`StoreError::Unavailable`].
    pub(super) fn open(path: &Path, max_bytes: Option<u64>) -> StoreResult<Self> {
        keep_private(path)?;
        let mut connection = Connection::open(path).map_err(|e| explain(&e))?;
        prepare(&connection)?;
        bring_up_to_date(&mut connection)?;
        limit_size(&connection, max_bytes)?;
        let files = Arc::new(Files::opened(path)?);
        sqlite_files::look_for_damage(&connection, path, &files)?;
        let (writer, jobs) = mpsc::channel(WRITE_QUEUE);
        let of_writer = Arc::clone(&files);
        start_thread("store-writer", move || write_loop(&mut connection, jobs, &of_writer))?;
        let (readers, queries) = mpsc::channel(READ_QUEUE);
        let queries = Arc::new(Mutex::new(queries));
        for number in 0..READERS {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader = Connection::open_with_flags(path, flags).map_err(|e| explain(&e))?;
            reader.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            let (queries, files) = (Arc::clone(&queries), Arc::clone(&files));
            start_thread(&format!("store-reader-{number}"), move || {
                read_loop(&reader, &queries, &files);
            })?;
        }
        Ok(Self { writer, readers, files })
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    async fn query(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        let (reply, answer) = oneshot::channel();
        self.readers.send(ReadJob { sql, cells, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// What readers see was committed in the order in which it was numbered.
    async fn query_settled(&self, _turf: &'static str, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.query(sql, cells).await
    }

    fn query_blocking(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        let (reply, answer) = oneshot::channel();
        self.readers.blocking_send(ReadJob { sql, cells, reply }).map_err(|_| stopped())?;
        answer.blocking_recv().map_err(|_| stopped())?
    }

    async fn commit(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(WriteJob::Commit(batch, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    fn commit_blocking(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        let (reply, answer) = oneshot::channel();
        self.writer.blocking_send(WriteJob::Commit(batch, reply)).map_err(|_| stopped())?;
        answer.blocking_recv().map_err(|_| stopped())?
    }

    async fn time(&self) -> StoreResult<Option<Timestamp>> {
        Ok(None)
    }

    fn check(&self) -> StoreResult<()> {
        self.files.check()
    }

    /// They share a commit.
    fn at_once(&self) -> usize {
        GROUP_SIZE
    }

    async fn used_bytes(&self) -> StoreResult<u64> {
        let sql = "SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let used = first_int(&self.query(sql, Vec::new()).await?)?;
        Ok(u64::try_from(used).unwrap_or(0))
    }

    async fn backup(&self, target: PathBuf) -> StoreResult<()> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(WriteJob::Backup(target, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("it is shutting down".to_owned())
}

pub(super) fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> StoreResult<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|e| StoreError::Unavailable(format!("starting thread {name}: {e}")))
}

fn prepare(connection: &Connection) -> StoreResult<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // A checkpoint copies each page once, however often it was written: a longer log means less copying.
    let settings = "PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;
        PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000; PRAGMA journal_size_limit = 67108864;";
    connection.execute_batch(settings).map_err(|e| explain(&e))
}

fn bring_up_to_date(connection: &mut Connection) -> StoreResult<()> {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|e| explain(&e))?;
    for (version, step) in migrate::steps_after(version)? {
        let transaction = connection.transaction().map_err(|e| explain(&e))?;
        transaction.execute_batch(&dialect::schema_for_sqlite(step.sql)).map_err(|e| explain(&e))?;
        transaction.execute_batch(&format!("PRAGMA user_version = {version}")).map_err(|e| explain(&e))?;
        transaction.commit().map_err(|e| explain(&e))?;
        tracing::info!(step = step.name, "the database schema was brought up to date");
    }
    Ok(())
}

fn limit_size(connection: &Connection, max_bytes: Option<u64>) -> StoreResult<()> {
    let Some(max_bytes) = max_bytes else {
        return Ok(());
    };
    let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(|e| explain(&e))?;
    let pages = (max_bytes / u64::from(page_bytes.max(1))).max(1);
    let limit = connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0));
    limit.map(drop).map_err(|e| explain(&e))
}

fn write_loop(connection: &mut Connection, mut jobs: mpsc::Receiver<WriteJob>, files: &Files) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                WriteJob::Commit(batch, reply) => group.push((batch, reply)),
                WriteJob::Backup(target, reply) => answer(reply, copy_to(connection, &target)),
            }
            next = if group.len() < GROUP_SIZE { jobs.try_recv().ok() } else { None };
        }
        commit_group(connection, group, files);
    }
}

/// Commits all batches in one transaction. Each stands under a savepoint of its own, so that one whose guard fails
/// takes nobody with it.
fn commit_group(connection: &mut Connection, group: Vec<(Batch, Reply<Vec<Effect>>)>, files: &Files) {
    if group.is_empty() {
        return;
    }
    let mut answers = Vec::with_capacity(group.len());
    // What was written to a file that is not there any more is lost with this process: nobody is told that it is durable.
    let committed = files
        .check_damage()
        .and_then(|()| commit_batches(connection, &group, &mut answers))
        .and_then(|()| files.check());
    answers.iter().for_each(|answer| files.note(answer));
    files.note(&committed);
    match committed {
        Ok(()) => group.into_iter().zip(answers).for_each(|((_, reply), result)| answer(reply, result)),
        Err(problem) => group.into_iter().for_each(|(_, reply)| answer(reply, Err(problem.clone()))),
    }
}

fn commit_batches(
    connection: &mut Connection,
    batches: &[(Batch, Reply<Vec<Effect>>)],
    answers: &mut Vec<StoreResult<Vec<Effect>>>,
) -> StoreResult<()> {
    let transaction = connection.transaction().map_err(|e| explain(&e))?;
    for (batch, _) in batches {
        let result = run_whole(&transaction, batch);
        if let Err(StoreError::Unavailable(_)) = result {
            return result.map(drop);
        }
        answers.push(result);
    }
    transaction.commit().map_err(|e| explain(&e))
}

/// Runs a batch so that nothing of it remains if it fails. A statement undoes itself: one alone needs no savepoint.
fn run_whole(connection: &Connection, batch: &Batch) -> StoreResult<Vec<Effect>> {
    if let [only] = batch.statements.as_slice() {
        return run_statement(connection, only).map(|effect| vec![effect]);
    }
    mark(connection, "SAVEPOINT batch")?;
    let result = run_batch(connection, batch);
    match result {
        Ok(_) => {}
        // The whole transaction is given up.
        Err(StoreError::Unavailable(_)) => return result,
        Err(_) => mark(connection, "ROLLBACK TO batch")?,
    }
    mark(connection, "RELEASE batch")?;
    result
}

/// Savepoints are set for every batch: their statements are compiled once.
fn mark(connection: &Connection, sql: &'static str) -> StoreResult<()> {
    let marked = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    marked.map(drop).map_err(|e| explain_in(&e, sql))
}

fn run_batch(connection: &Connection, batch: &Batch) -> StoreResult<Vec<Effect>> {
    batch.statements.iter().map(|statement| run_statement(connection, statement)).collect()
}

fn run_statement(connection: &Connection, statement: &Statement) -> StoreResult<Effect> {
    let mut prepared = connection.prepare_cached(statement.sql).map_err(|e| explain_in(&e, statement.sql))?;
    let parameters = rusqlite::params_from_iter(&statement.cells);
    let effect = if prepared.column_count() == 0 {
        let changed = prepared.execute(parameters).map_err(|e| explain_in(&e, statement.sql))?;
        Effect { changed, rows: Vec::new() }
    } else {
        let rows = collect_rows(&mut prepared, &statement.cells).map_err(|e| explain_in(&e, statement.sql))?;
        Effect { changed: rows.len(), rows }
    };
    match statement.guard {
        Guard::Some if effect.changed == 0 => Err(StoreError::Conflict),
        Guard::Some | Guard::Any => Ok(effect),
    }
}

fn read_loop(connection: &Connection, queries: &Mutex<mpsc::Receiver<ReadJob>>, files: &Files) {
    loop {
        let job = match queries.lock() {
            Ok(mut queue) => queue.blocking_recv(),
            Err(_) => return,
        };
        let Some(ReadJob { sql, cells, reply }) = job else {
            return;
        };
        let rows = connection.prepare_cached(sql).and_then(|mut prepared| collect_rows(&mut prepared, &cells));
        let rows = rows.map_err(|e| explain_in(&e, sql));
        files.note(&rows);
        answer(reply, rows);
    }
}

fn collect_rows(prepared: &mut rusqlite::Statement<'_>, cells: &[Cell]) -> rusqlite::Result<Vec<Row>> {
    let columns = prepared.column_count();
    let mut rows = prepared.query(rusqlite::params_from_iter(cells))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let cells = (0..columns).map(|column| row.get_ref(column).map(cell)).collect::<Result<_, _>>()?;
        found.push(Row(cells));
    }
    Ok(found)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null(Kind::Text),
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(number) => Cell::Text(number.to_string()),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null(_) => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) | Self::SecretText(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) | Self::SecretBlob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// `SQLite` makes its files readable for everybody; those beside the database have the mode of the database.
fn keep_private(path: &Path) -> StoreResult<()> {
    let private = |problem: private::PrivacyError| StoreError::Unavailable(format!("{problem}{}", cause(&problem)));
    let beside = ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        private::repair_file(Path::new(&name))
    });
    for repaired in [private::ensure_file(path)].into_iter().chain(beside) {
        if let Some(repaired) = repaired.map_err(private)? {
            tracing::warn!("{repaired}");
        }
    }
    Ok(())
}

fn cause(problem: &dyn std::error::Error) -> String {
    problem.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}

fn copy_to(connection: &Connection, target: &Path) -> StoreResult<()> {
    const PAGES_PER_STEP: std::ffi::c_int = 1024;
    let made = private::create_file(target);
    made.map_err(|problem| StoreError::Unavailable(format!("making {}: {problem}", target.display())))?;
    let mut copy = Connection::open(target).map_err(|e| explain(&e))?;
    let backup = rusqlite::backup::Backup::new(connection, &mut copy).map_err(|e| explain(&e))?;
    backup.run_to_completion(PAGES_PER_STEP, std::time::Duration::ZERO, None).map_err(|e| explain(&e))
}

/// A caller that went away does not want its answer any more.
fn answer<T>(reply: Reply<T>, result: StoreResult<T>) {
    drop(reply.send(result));
}

fn explain_in(problem: &rusqlite::Error, sql: &str) -> StoreError {
    let in_statement = |text| format!("{text} in `{sql}`");
    match explain(problem) {
        StoreError::Corrupt(text) => StoreError::Corrupt(in_statement(text)),
        StoreError::Refused(text) => StoreError::Refused(in_statement(text)),
        other @ (StoreError::NotFound(_) | StoreError::Conflict | StoreError::Unavailable(_)) => other,
    }
}

/// Codes of SQLite, with the extended ones that mean something else than the code that they belong to.
/// <https://www.sqlite.org/rescode.html>
const CODES: &[(std::ffi::c_int, Class)] = &[
    (ffi::SQLITE_BUSY, Class::Wait),
    (ffi::SQLITE_LOCKED, Class::Wait),
    (ffi::SQLITE_FULL, Class::Wait),
    (ffi::SQLITE_IOERR, Class::Wait),
    (ffi::SQLITE_IOERR_CORRUPTFS, Class::Damaged),
    (ffi::SQLITE_READONLY, Class::Wait),
    (ffi::SQLITE_CANTOPEN, Class::Wait),
    (ffi::SQLITE_PERM, Class::Wait),
    (ffi::SQLITE_AUTH, Class::Wait),
    (ffi::SQLITE_NOMEM, Class::Wait),
    (ffi::SQLITE_INTERRUPT, Class::Wait),
    (ffi::SQLITE_ABORT, Class::Wait),
    (ffi::SQLITE_PROTOCOL, Class::Wait),
    (ffi::SQLITE_SCHEMA, Class::Wait),
    (ffi::SQLITE_NOLFS, Class::Wait),
    (ffi::SQLITE_CONSTRAINT, Class::Refused),
    (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, Class::Collision),
    (ffi::SQLITE_CONSTRAINT_UNIQUE, Class::Collision),
    (ffi::SQLITE_TOOBIG, Class::Refused),
    (ffi::SQLITE_MISMATCH, Class::Refused),
    (ffi::SQLITE_RANGE, Class::Refused),
    (ffi::SQLITE_CORRUPT, Class::Damaged),
    (ffi::SQLITE_NOTADB, Class::Damaged),
];

/// The low byte of an extended code is the code that it belongs to.
fn class_of(extended_code: std::ffi::c_int) -> Class {
    let known = |code| CODES.iter().find(|(known, _)| *known == code).map(|(_, class)| *class);
    known(extended_code).or_else(|| known(extended_code & 0xff)).unwrap_or(Class::Unknown)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is no error of SQLite and not about stored bytes is unknown")]
pub(super) fn explain(problem: &rusqlite::Error) -> StoreError {
    let Some(error) = problem.sqlite_error() else {
        return match problem {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => StoreError::Corrupt(problem.to_string()),
            _ => unknown(problem, "none"),
        };
    };
    match class_of(error.extended_code) {
        Class::Collision => StoreError::Conflict,
        Class::Wait | Class::TryAgain => StoreError::Unavailable(way_out(problem, error.extended_code)),
        Class::Refused => StoreError::Refused(problem.to_string()),
        Class::Damaged => StoreError::Corrupt(format!("{problem}; {}", sqlite_files::REPAIR)),
        Class::Unknown => unknown(problem, &error.extended_code.to_string()),
    }
}

fn unknown(problem: &rusqlite::Error, code: &str) -> StoreError {
    report_unknown("SQLite", code, &problem.to_string());
    StoreError::Unavailable(problem.to_string())
}

fn way_out(problem: &rusqlite::Error, extended_code: std::ffi::c_int) -> String {
    let advice = match extended_code & 0xff {
        ffi::SQLITE_FULL => "free some space or raise retention.max_database_bytes",
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => "another program holds a lock on the database; end it",
        ffi::SQLITE_READONLY | ffi::SQLITE_PERM => "make the data folder and the database writable for the daemon",
        ffi::SQLITE_CANTOPEN => "look whether the data folder is there and the daemon may open its files",
        ffi::SQLITE_IOERR => "look at the disk and the system's log",
        _ => return problem.to_string(),
    };
    format!("{problem}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_sqlite_has_a_class() {
        let cases = [
            (ffi::SQLITE_BUSY_SNAPSHOT, Class::Wait),
            (ffi::SQLITE_FULL, Class::Wait),
            (ffi::SQLITE_IOERR_FSYNC, Class::Wait),
            (ffi::SQLITE_IOERR_CORRUPTFS, Class::Damaged),
            (ffi::SQLITE_READONLY_DBMOVED, Class::Wait),
            (ffi::SQLITE_CANTOPEN_ISDIR, Class::Wait),
            (ffi::SQLITE_CORRUPT_INDEX, Class::Damaged),
            (ffi::SQLITE_NOTADB, Class::Damaged),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, Class::Collision),
            (ffi::SQLITE_CONSTRAINT_NOTNULL, Class::Refused),
            (ffi::SQLITE_TOOBIG, Class::Refused),
            (ffi::SQLITE_ERROR, Class::Unknown),
        ];
        for (code, class) in cases {
            assert_eq!(class_of(code), class, "{code}");
        }
    }
}
