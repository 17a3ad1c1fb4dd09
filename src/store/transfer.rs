//! Moves a whole store to another, empty one, table by table as they are, and counts on both sides.

use std::sync::Arc;

use super::driver::{Batch, Cell, Driver, Kind, Row, cells};
use super::error::{StoreError, StoreResult};
use super::events::first_int;

/// Rows per transaction at the target: large enough to be quick, small enough to lie in memory.
const CHUNK: usize = 500;

/// A table that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its name.
    pub table: String,
    /// Its rows at the source.
    pub rows: i64,
    /// Its rows at the target.
    pub arrived: i64,
}

/// A table of the embedded store, as its own catalogue describes it.
struct Table {
    name: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    kind: Kind,
    /// Its place in the primary key, counted from 1; 0 if it is not part of it.
    key: i64,
    /// Whether the store numbers its rows by it.
    is_sequence: bool,
}

/// Moves everything from an embedded store into an empty one on PostgreSQL. Nothing else may write to either meanwhile.
pub(super) async fn transfer(from: &Arc<dyn Driver>, to: &Arc<dyn Driver>) -> StoreResult<Vec<Moved>> {
    let tables = tables(&**from).await?;
    for table in &tables {
        let found = count(&**to, table).await?;
        if found > 0 {
            let why =
                format!("the target is not empty: it has {found} rows in `{}`; name an empty database", table.name);
            return Err(StoreError::Unavailable(why));
        }
    }
    let mut moved = Vec::new();
    for table in &tables {
        copy(&**from, &**to, table).await?;
        let (rows, arrived) = (count(&**from, table).await?, count(&**to, table).await?);
        moved.push(Moved { table: table.name.clone(), rows, arrived });
    }
    Ok(moved)
}

async fn tables(from: &dyn Driver) -> StoreResult<Vec<Table>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let mut tables = Vec::new();
    for row in from.query(sql, Vec::new()).await? {
        let name = row.text(0)?.to_owned();
        let sql = "SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid";
        let columns = from.query(sql, cells![name.as_str()]).await?;
        tables.push(Table { columns: columns.iter().map(column).collect::<StoreResult<_>>()?, name });
    }
    Ok(tables)
}

fn column(row: &Row) -> StoreResult<Column> {
    let declared = row.text(1)?;
    let kind = match declared {
        "TEXT" => Kind::Text,
        "BLOB" => Kind::Blob,
        _ => Kind::Int,
    };
    Ok(Column { name: row.text(0)?.to_owned(), kind, key: row.int(2)?, is_sequence: declared == "INTEGER" })
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Where the columns of the primary key stand in a row, in the key's order.
    fn key(&self) -> Vec<usize> {
        let mut key: Vec<usize> = (0..self.columns.len()).filter(|at| self.columns[*at].key > 0).collect();
        key.sort_by_key(|at| self.columns[*at].key);
        key
    }

    /// Rows in the order of their key, the first of them or those after one.
    fn read(&self, after: Option<&Row>) -> (String, Vec<Cell>) {
        let key = self.key();
        let names = key.iter().map(|at| self.columns[*at].name.as_str()).collect::<Vec<_>>().join(", ");
        let last: Vec<Cell> = after.map(|row| key.iter().map(|at| row.0[*at].clone()).collect()).unwrap_or_default();
        let condition = match last.len() {
            0 => String::new(),
            count => format!("WHERE ({names}) > ({})", places(count)),
        };
        let sql = format!("SELECT {} FROM {} {condition} ORDER BY {names} LIMIT {CHUNK}", self.names(), self.name);
        (sql, last)
    }

    fn write(&self) -> String {
        format!("INSERT INTO {} ({}) VALUES ({})", self.name, self.names(), places(self.columns.len()))
    }

    /// A row of the source as parameters for the target, which wants to know of what kind a NULL is.
    fn parameters(&self, row: Row) -> Vec<Cell> {
        let typed = row.0.into_iter().zip(&self.columns).map(|(cell, column)| match cell {
            Cell::Null(_) => Cell::Null(column.kind),
            value => value,
        });
        typed.collect()
    }
}

fn places(count: usize) -> String {
    (1..=count).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

async fn copy(from: &dyn Driver, to: &dyn Driver, table: &Table) -> StoreResult<()> {
    let write = for_the_process(table.write());
    let (first, _) = table.read(None);
    let mut rows = from.query(for_the_process(first), Vec::new()).await?;
    let mut next: Option<&'static str> = None;
    while let Some(last) = rows.last() {
        let (sql, after) = table.read(Some(last));
        let sql = *next.get_or_insert_with(|| for_the_process(sql));
        let mut batch = Batch::default();
        for row in rows {
            batch.push(write, table.parameters(row));
        }
        to.commit(batch).await?;
        rows = from.query(sql, after).await?;
    }
    go_on_counting(to, table).await
}

/// New rows are numbered after those that came.
async fn go_on_counting(to: &dyn Driver, table: &Table) -> StoreResult<()> {
    let Some(column) = table.columns.iter().find(|column| column.is_sequence) else { return Ok(()) };
    let (table, column) = (&table.name, &column.name);
    let sql = format!(
        "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), (SELECT COALESCE(max({column}), 0) + 1 FROM {table}), \
         false)"
    );
    to.query(for_the_process(sql), Vec::new()).await.map(drop)
}

async fn count(driver: &dyn Driver, table: &Table) -> StoreResult<i64> {
    let sql = for_the_process(format!("SELECT count(*) FROM {}", table.name));
    first_int(&driver.query(sql, Vec::new()).await?)
}

/// Drivers keep statements by their text for as long as they live. These few are made here, once per move.
fn for_the_process(sql: String) -> &'static str {
    Box::leak(sql.into_boxed_str())
}
