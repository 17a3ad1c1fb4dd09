//! The durable sequence behind the event stream: written with the fact it announces, so a listener that comes back
//! with its last id misses nothing that is still kept.

use serde_json::Value;

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::StoreResult;
use super::events::first_int;
use crate::model::time::Timestamp;

super::aggregate! {
    /// What live listeners hear.
    Announcements
}

/// One announcement. Most carry only their subject; what there is to say is read when somebody listens.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnouncementRow {
    /// The id of the event stream.
    pub sequence: i64,
    /// As `st2.execution__update`.
    pub name: String,
    /// The id of what changed.
    pub subject: String,
    /// What to say, if it is not to be read from the subject.
    pub payload: Option<Value>,
    /// When.
    pub announced_at: Timestamp,
}

/// Claimed by whoever announces, so that a listener can wait for all who have taken a number.
const ANNOUNCEMENTS: &str = "announcements";

pub(super) fn push_announcement(batch: &mut Batch, name: &str, subject: &str, payload: Option<&Value>, now: Timestamp) {
    let sql = "INSERT INTO announcements (name, subject, payload, announced_at) VALUES (?1, ?2, ?3, ?4)";
    batch.share(ANNOUNCEMENTS);
    batch.push(sql, cells![name, subject, payload, now]);
}

impl Announcements {
    /// Announces something that no other fact carries.
    pub async fn announce(&self, name: &str, subject: &str, payload: &Value, now: Timestamp) -> StoreResult<()> {
        let mut batch = Batch::default();
        push_announcement(&mut batch, name, subject, Some(payload), now);
        self.driver.commit(batch).await.map(drop)
    }

    /// Announcements after `after`, in order.
    pub async fn announcements_read(&self, after: i64, limit: i64) -> StoreResult<Vec<AnnouncementRow>> {
        let sql = "SELECT sequence, name, subject, payload, announced_at FROM announcements
            WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
        let rows = self.driver.query_settled(ANNOUNCEMENTS, sql, cells![after, limit]).await?;
        Ok(readable("announcements", 0, &rows, announcement))
    }

    /// The last id given.
    pub async fn announcements_last(&self) -> StoreResult<i64> {
        let sql = "SELECT COALESCE(max(sequence), 0) FROM announcements";
        first_int(&self.driver.query(sql, Vec::new()).await?)
    }
}

fn announcement(row: &Row) -> StoreResult<AnnouncementRow> {
    Ok(AnnouncementRow {
        sequence: row.int(0)?,
        name: row.text(1)?.to_owned(),
        subject: row.text(2)?.to_owned(),
        payload: row.text_or_null(3)?.map(|_| row.json(3)).transpose()?,
        announced_at: row.time(4)?,
    })
}
