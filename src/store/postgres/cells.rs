//! Cells as PostgreSQL's parameters and columns.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::store::driver::{Cell, Kind, Row};
use crate::store::error::{StoreError, StoreResult};

/// The types of a statement's parameters: without them PostgreSQL cannot tell what `?1 IS NULL` is about.
pub(super) fn types(cells: &[Cell]) -> Vec<Type> {
    let of = |cell: &Cell| match cell.kind() {
        Kind::Int => Type::INT8,
        Kind::Text => Type::TEXT,
        Kind::Blob => Type::BYTEA,
    };
    cells.iter().map(of).collect()
}

impl ToSql for Cell {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null(_) => Ok(IsNull::Yes),
            Self::Int(number) => number.to_sql(of, out),
            // PostgreSQL's text cannot hold NUL, which output of processes may have.
            Self::Text(text) | Self::SecretText(text) if text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(of, out)
            }
            Self::Text(text) | Self::SecretText(text) => text.to_sql(of, out),
            Self::Blob(bytes) | Self::SecretBlob(bytes) => bytes.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(of)
    }

    to_sql_checked!();
}

pub(super) fn row(found: &tokio_postgres::Row) -> StoreResult<Row> {
    let cells = (0..found.len()).map(|column| cell(found, column)).collect::<StoreResult<_>>()?;
    Ok(Row(cells))
}

fn cell(found: &tokio_postgres::Row, column: usize) -> StoreResult<Cell> {
    let unreadable = |e: tokio_postgres::Error| StoreError::Corrupt(format!("column {column}: {e}"));
    let of = found.columns().get(column).map(|column| column.type_().clone());
    let cell = match of {
        Some(Type::INT8) => found.try_get::<_, Option<i64>>(column).map_err(unreadable)?.map(Cell::Int),
        Some(Type::INT4) => {
            found.try_get::<_, Option<i32>>(column).map_err(unreadable)?.map(|number| Cell::Int(number.into()))
        }
        Some(Type::BYTEA) => found.try_get::<_, Option<Vec<u8>>>(column).map_err(unreadable)?.map(Cell::Blob),
        _ => found.try_get::<_, Option<String>>(column).map_err(unreadable)?.map(Cell::Text),
    };
    Ok(cell.unwrap_or(Cell::Null(Kind::Text)))
}
