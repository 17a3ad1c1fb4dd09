//! What a database has to offer: run a read, commit a batch. A batch is data, a list of guarded statements, so that
//! one writer can commit many callers at once and two back ends can share every statement.

use std::borrow::Cow;

use async_trait::async_trait;

use super::error::StoreError;
use super::rows::Secrecy;

/// What a cell holds, or would hold if it were not NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// BIGINT.
    Int,
    /// TEXT.
    Text,
    /// BLOB.
    Blob,
}

/// A parameter of a statement or a column of a row. JSON is `Text`, times are microseconds in `Int`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// SQL NULL. PostgreSQL wants to know of what; the NULL of a row may be of any kind.
    Null(Kind),
    /// BIGINT.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
    /// TEXT that may hold a secret: encrypted on its way to the database ([`super::sealing`]).
    SecretText(String),
    /// BLOB that may hold a secret.
    SecretBlob(Vec<u8>),
}

impl Cell {
    /// Its kind, NULL or not.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Null(kind) => *kind,
            Self::Int(_) => Kind::Int,
            Self::Text(_) | Self::SecretText(_) => Kind::Text,
            Self::Blob(_) | Self::SecretBlob(_) => Kind::Blob,
        }
    }
}

/// What can be a parameter.
pub(super) trait IntoCell {
    /// The kind of all its values.
    const KIND: Kind;

    /// Its value.
    fn into_cell(self) -> Cell;
}

impl IntoCell for i64 {
    const KIND: Kind = Kind::Int;
    fn into_cell(self) -> Cell {
        Cell::Int(self)
    }
}
impl IntoCell for &str {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Cell::Text(self.to_owned())
    }
}
impl IntoCell for String {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Cell::Text(self)
    }
}
impl IntoCell for Vec<u8> {
    const KIND: Kind = Kind::Blob;
    fn into_cell(self) -> Cell {
        Cell::Blob(self)
    }
}
impl IntoCell for crate::model::time::Timestamp {
    const KIND: Kind = Kind::Int;
    fn into_cell(self) -> Cell {
        Cell::Int(self.as_micros())
    }
}
impl<K> IntoCell for crate::model::refs::Id<K> {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Cell::Text(self.to_string())
    }
}
impl<K> IntoCell for &crate::model::refs::Ref<K> {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Cell::Text(self.as_str().to_owned())
    }
}
impl IntoCell for &serde_json::Value {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Cell::Text(self.to_string())
    }
}
impl<T: IntoCell> IntoCell for Option<T> {
    const KIND: Kind = T::KIND;
    fn into_cell(self) -> Cell {
        self.map_or(Cell::Null(T::KIND), T::into_cell)
    }
}

/// A text as a cell, encrypted if the fact that it belongs to holds secrets.
#[derive(Debug)]
pub(super) struct Guarded<T>(pub(super) T, pub(super) Secrecy);

impl IntoCell for Guarded<String> {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        match self.1 {
            Secrecy::Clear => Cell::Text(self.0),
            Secrecy::Sealed => Cell::SecretText(self.0),
        }
    }
}
impl IntoCell for Guarded<&str> {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Guarded(self.0.to_owned(), self.1).into_cell()
    }
}
impl IntoCell for Guarded<&serde_json::Value> {
    const KIND: Kind = Kind::Text;
    fn into_cell(self) -> Cell {
        Guarded(self.0.to_string(), self.1).into_cell()
    }
}
impl IntoCell for Guarded<Vec<u8>> {
    const KIND: Kind = Kind::Blob;
    fn into_cell(self) -> Cell {
        match self.1 {
            Secrecy::Clear => Cell::Blob(self.0),
            Secrecy::Sealed => Cell::SecretBlob(self.0),
        }
    }
}

/// The parameters of a statement: `cells![id, now, "text"]`.
macro_rules! cells {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::driver::IntoCell::into_cell($value)),*] };
}
pub(crate) use cells;

/// What must be true of a statement's effect for its batch to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Any number of rows.
    Any,
    /// At least one row; otherwise the whole batch is undone and answered with [`StoreError::Conflict`].
    Some,
}

/// One statement with its parameters, in the shared dialect ([`super::dialect`]).
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// The text; each stands once in `store/`.
    pub(super) sql: &'static str,
    /// Its parameters.
    pub(super) cells: Vec<Cell>,
    /// What must hold.
    pub(super) guard: Guard,
}

/// What a batch claims while it runs, where rows alone cannot keep two writers apart: one that looks for what is not
/// there yet, or in more than one place. With a single writer it means nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turf {
    /// What is claimed, as `signal/deployed/web-1`.
    pub(super) name: Cow<'static, str>,
    /// With whom it is shared.
    pub(super) hold: Hold,
}

/// Alone, or with those who share it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// Nobody else has it meanwhile.
    Alone,
    /// Nobody has it alone meanwhile.
    Shared,
}

/// Statements that are committed together or not at all.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    /// In order of execution.
    pub(super) statements: Vec<Statement>,
    /// What it claims before the first of them, until it is committed.
    pub(super) turfs: Vec<Turf>,
}

impl Batch {
    /// No other batch that claims `name` runs meanwhile.
    pub(super) fn alone(&mut self, name: impl Into<Cow<'static, str>>) {
        self.claim(Turf { name: name.into(), hold: Hold::Alone });
    }

    /// No batch that claims `name` alone runs meanwhile.
    pub(super) fn share(&mut self, name: impl Into<Cow<'static, str>>) {
        self.claim(Turf { name: name.into(), hold: Hold::Shared });
    }

    fn claim(&mut self, turf: Turf) {
        if !self.turfs.contains(&turf) {
            self.turfs.push(turf);
        }
    }

    /// Adds a statement that may change any number of rows.
    pub(super) fn push(&mut self, sql: &'static str, cells: Vec<Cell>) {
        self.statements.push(Statement { sql, cells, guard: Guard::Any });
    }

    /// Adds a statement that must change or find at least one row. What a required SELECT found stays as it is until the
    /// batch is committed: a back end with several writers locks it.
    pub(super) fn require(&mut self, sql: &'static str, cells: Vec<Cell>) {
        self.statements.push(Statement { sql, cells, guard: Guard::Some });
    }
}

/// What one statement of a committed batch did.
#[derive(Debug, Clone, Default)]
pub(super) struct Effect {
    /// How many rows it changed (or gave back, with RETURNING).
    pub(super) changed: usize,
    /// What RETURNING gave.
    pub(super) rows: Vec<Row>,
}

/// One row of an answer.
#[derive(Debug, Clone)]
pub(super) struct Row(pub(super) Vec<Cell>);

impl Row {
    /// A text that must be there.
    pub(super) fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.0.get(column) {
            Some(Cell::Text(text)) => Ok(text),
            other => Err(unexpected(column, "text", other)),
        }
    }

    /// A text, or nothing.
    pub(super) fn text_or_null(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.0.get(column) {
            Some(Cell::Null(_)) => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    /// A number that must be there.
    pub(super) fn int(&self, column: usize) -> Result<i64, StoreError> {
        match self.0.get(column) {
            Some(Cell::Int(number)) => Ok(*number),
            other => Err(unexpected(column, "number", other)),
        }
    }

    /// A number, or nothing.
    pub(super) fn int_or_null(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.0.get(column) {
            Some(Cell::Null(_)) => Ok(None),
            _ => self.int(column).map(Some),
        }
    }

    /// Bytes that must be there.
    pub(super) fn blob(&self, column: usize) -> Result<&[u8], StoreError> {
        match self.0.get(column) {
            Some(Cell::Blob(bytes)) => Ok(bytes),
            other => Err(unexpected(column, "bytes", other)),
        }
    }

    /// A time that must be there.
    pub(super) fn time(&self, column: usize) -> Result<crate::model::time::Timestamp, StoreError> {
        self.int(column).map(crate::model::time::Timestamp::from_micros)
    }

    /// A time, or nothing.
    pub(super) fn time_or_null(&self, column: usize) -> Result<Option<crate::model::time::Timestamp>, StoreError> {
        Ok(self.int_or_null(column)?.map(crate::model::time::Timestamp::from_micros))
    }

    /// A text that says what `T` says.
    pub(super) fn parse<T: std::str::FromStr>(&self, column: usize) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(column)?;
        text.parse().map_err(|problem: T::Err| StoreError::Corrupt(format!("column {column}: {problem}")))
    }

    /// A text that says what `T` says, or nothing.
    pub(super) fn parse_or_null<T: std::str::FromStr>(&self, column: usize) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        match self.text_or_null(column)? {
            None => Ok(None),
            Some(_) => self.parse(column).map(Some),
        }
    }

    /// JSON that reads as `T`.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<T, StoreError> {
        let text = self.text(column)?;
        serde_json::from_str(text).map_err(|problem| StoreError::Corrupt(format!("column {column}: {problem}")))
    }
}

fn unexpected(column: usize, wanted: &str, found: Option<&Cell>) -> StoreError {
    StoreError::Corrupt(format!("column {column} should hold a {wanted} but holds {found:?}"))
}

/// A database behind the store. Private to it.
#[async_trait]
pub(super) trait Driver: Send + Sync {
    /// Runs one read.
    async fn query(&self, sql: &'static str, cells: Vec<Cell>) -> Result<Vec<Row>, StoreError>;

    /// Runs one read that misses nothing of those who shared `turf`: whoever did before it is committed, and whoever
    /// does later numbers its rows higher.
    async fn query_settled(
        &self,
        turf: &'static str,
        sql: &'static str,
        cells: Vec<Cell>,
    ) -> Result<Vec<Row>, StoreError>;

    /// Runs one read from a thread that may block.
    fn query_blocking(&self, sql: &'static str, cells: Vec<Cell>) -> Result<Vec<Row>, StoreError>;

    /// Commits one batch: when this returns `Ok`, it is on disk.
    async fn commit(&self, batch: Batch) -> Result<Vec<Effect>, StoreError>;

    /// Commits one batch from a thread that may block.
    fn commit_blocking(&self, batch: Batch) -> Result<Vec<Effect>, StoreError>;

    /// What the database's own clock shows; `None` if it has none but the machine's.
    async fn time(&self) -> Result<Option<crate::model::time::Timestamp>, StoreError>;

    /// Whether what is committed now would be found again; cheap.
    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// So many batches of one caller are worth having on their way at once: more would only stand in the way of others.
    fn at_once(&self) -> usize;

    /// Bytes of the database that are in use; space set free by deletions does not count.
    async fn used_bytes(&self) -> Result<u64, StoreError>;

    /// Writes a consistent copy of the whole database to `target` while work goes on.
    async fn backup(&self, target: std::path::PathBuf) -> Result<(), StoreError>;
}
