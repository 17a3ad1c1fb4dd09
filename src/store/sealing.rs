//! Encrypts cells on their way to the database and decrypts them on the way back: a layer over any driver. Which cells
//! hold secrets is decided where a statement is made ([`Cell::SecretText`], [`Cell::SecretBlob`]); everybody above this
//! layer reads clear text and everybody below it stores what tells nothing.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::driver::{Batch, Cell, Driver, Effect, Row};
use super::error::StoreResult;
use crate::model::time::Timestamp;

/// The installation's key, as the store uses it.
pub trait Sealer: Send + Sync {
    /// Encrypts bytes. The same bytes look different each time.
    fn seal_bytes(&self, plain: &[u8]) -> Vec<u8>;

    /// Decrypts what [`Sealer::seal_bytes`] made; `None` for anything else.
    fn open_bytes(&self, sealed: &[u8]) -> Option<Vec<u8>>;

    /// The same for text columns.
    fn seal_text(&self, plain: &str) -> String;

    /// Decrypts what [`Sealer::seal_text`] made; `None` for anything else.
    fn open_text(&self, sealed: &str) -> Option<String>;
}

/// A driver whose secret cells are encrypted.
pub(super) struct SealingDriver {
    inner: Arc<dyn Driver>,
    sealer: Arc<dyn Sealer>,
}

impl SealingDriver {
    pub(super) fn new(inner: Arc<dyn Driver>, sealer: Arc<dyn Sealer>) -> Self {
        Self { inner, sealer }
    }

    fn seal_cells(&self, cells: &mut [Cell]) {
        for cell in cells {
            match cell {
                Cell::SecretText(text) => *cell = Cell::Text(self.sealer.seal_text(text)),
                Cell::SecretBlob(bytes) => *cell = Cell::Blob(self.sealer.seal_bytes(bytes)),
                Cell::Null(_) | Cell::Int(_) | Cell::Text(_) | Cell::Blob(_) => {}
            }
        }
    }

    fn seal_batch(&self, mut batch: Batch) -> Batch {
        batch.statements.iter_mut().for_each(|statement| self.seal_cells(&mut statement.cells));
        batch
    }

    /// A cell that does not open stays as it is: whoever decodes it says which row cannot be read.
    fn open_rows(&self, rows: &mut [Row]) {
        for cell in rows.iter_mut().flat_map(|row| &mut row.0) {
            match cell {
                Cell::Text(text) => {
                    if let Some(opened) = self.sealer.open_text(text) {
                        *text = opened;
                    }
                }
                Cell::Blob(bytes) => {
                    if let Some(opened) = self.sealer.open_bytes(bytes) {
                        *bytes = opened;
                    }
                }
                Cell::Null(_) | Cell::Int(_) | Cell::SecretText(_) | Cell::SecretBlob(_) => {}
            }
        }
    }

    fn opened(&self, mut rows: Vec<Row>) -> Vec<Row> {
        self.open_rows(&mut rows);
        rows
    }

    fn opened_effects(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.iter_mut().for_each(|effect| self.open_rows(&mut effect.rows));
        effects
    }
}

#[async_trait]
impl Driver for SealingDriver {
    async fn query(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.inner.query(sql, cells).await.map(|rows| self.opened(rows))
    }

    async fn query_settled(&self, turf: &'static str, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.inner.query_settled(turf, sql, cells).await.map(|rows| self.opened(rows))
    }

    fn query_blocking(&self, sql: &'static str, cells: Vec<Cell>) -> StoreResult<Vec<Row>> {
        self.inner.query_blocking(sql, cells).map(|rows| self.opened(rows))
    }

    async fn commit(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        self.inner.commit(self.seal_batch(batch)).await.map(|effects| self.opened_effects(effects))
    }

    fn commit_blocking(&self, batch: Batch) -> StoreResult<Vec<Effect>> {
        self.inner.commit_blocking(self.seal_batch(batch)).map(|effects| self.opened_effects(effects))
    }

    async fn time(&self) -> StoreResult<Option<Timestamp>> {
        self.inner.time().await
    }

    fn check(&self) -> StoreResult<()> {
        self.inner.check()
    }

    fn at_once(&self) -> usize {
        self.inner.at_once()
    }

    async fn used_bytes(&self) -> StoreResult<u64> {
        self.inner.used_bytes().await
    }

    async fn backup(&self, target: PathBuf) -> StoreResult<()> {
        self.inner.backup(target).await
    }
}
