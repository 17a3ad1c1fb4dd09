//! Users, tokens and API keys (hashes only), and the audit log of who did what.

use serde_json::Value;

use super::damage::readable;
use super::driver::{Batch, Row, cells};
use super::error::{StoreError, StoreResult};
use super::executions::committed;
use super::rows::Page;
use crate::model::refs::IdentityId;
use crate::model::time::Timestamp;

super::aggregate! {
    /// Who may.
    Identities
}

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The name to log in with.
    pub name: String,
    /// Argon2; `None` for users that only have API keys.
    pub password_hash: Option<String>,
    /// `admin`, `operator` or `observer`.
    pub role: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A token as stored; of the token itself only the hash is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id, which says when it was made.
    pub id: IdentityId,
    /// For whom it stands.
    pub user: String,
    /// It is worth nothing from then on.
    pub expires_at: Timestamp,
}

/// An API key as stored; the key itself was shown once and is kept nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: IdentityId,
    /// What the key hashes to.
    pub hash: String,
    /// For whom it stands.
    pub user: String,
    /// Free data.
    pub metadata: Value,
    /// A disabled key opens nothing.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: String,
    /// Did what.
    pub what: String,
    /// To what.
    pub subject: String,
    /// How, with secrets masked.
    pub detail: Value,
}

const API_KEY: &str = "SELECT id, key_hash, user_name, metadata, enabled, created_at FROM api_keys";

impl Identities {
    /// One user.
    pub async fn user_get(&self, name: &str) -> StoreResult<Option<UserRow>> {
        let sql = "SELECT name, password_hash, role, created_at FROM users WHERE name = ?1";
        self.driver.query(sql, cells![name]).await?.first().map(user).transpose()
    }

    /// How many users there are, readable or not.
    pub async fn user_count(&self) -> StoreResult<i64> {
        super::events::first_int(&self.driver.query("SELECT count(*) FROM users", Vec::new()).await?)
    }

    /// All users, by name.
    pub async fn user_list(&self) -> StoreResult<Vec<UserRow>> {
        let sql = "SELECT name, password_hash, role, created_at FROM users ORDER BY name";
        Ok(readable("users", 0, &self.driver.query(sql, Vec::new()).await?, user))
    }

    /// Adds a user, or changes password and role of one: what was logged in with the old ones ends with them.
    pub async fn user_put(&self, new: &UserRow) -> StoreResult<()> {
        let outdated = "DELETE FROM tokens WHERE user_name = ?1 AND EXISTS (SELECT 1 FROM users
            WHERE name = ?1 AND (role <> ?2 OR password_hash IS DISTINCT FROM ?3))";
        let sql = "INSERT INTO users (name, password_hash, role, created_at) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, role = excluded.role";
        let mut batch = Batch::default();
        let hash = new.password_hash.clone();
        batch.push(outdated, cells![new.name.as_str(), new.role.as_str(), hash.clone()]);
        batch.push(sql, cells![new.name.as_str(), hash, new.role.as_str(), new.created_at]);
        self.driver.commit(batch).await.map(drop)
    }

    /// Deletes a user with all tokens and keys.
    pub async fn user_delete(&self, name: &str) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("DELETE FROM users WHERE name = ?1", cells![name]);
        batch.push("DELETE FROM tokens WHERE user_name = ?1", cells![name]);
        batch.push("DELETE FROM api_keys WHERE user_name = ?1", cells![name]);
        found(self.driver.commit(batch).await, || format!("user `{name}`"))
    }

    /// Remembers a token by its hash, if its user still has the password that it was bought with; else `Conflict`.
    pub async fn token_put(&self, token: &TokenRow, hash: &str, password_hash: Option<&str>) -> StoreResult<()> {
        let TokenRow { id, user, expires_at } = token;
        let mut batch = Batch::default();
        let same = "SELECT 1 FROM users WHERE name = ?1 AND password_hash IS NOT DISTINCT FROM ?2";
        batch.require(same, cells![user.as_str(), password_hash.map(str::to_owned)]);
        let sql = "INSERT INTO tokens (id, token_hash, user_name, expires_at) VALUES (?1, ?2, ?3, ?4)";
        batch.push(sql, cells![*id, hash, user.as_str(), *expires_at]);
        self.driver.commit(batch).await.map(drop)
    }

    /// The tokens that are still good, of one user or of all, oldest first.
    pub async fn token_list(&self, user: Option<&str>, now: Timestamp) -> StoreResult<Vec<TokenRow>> {
        const ALL: &str = "SELECT id, user_name, expires_at FROM tokens WHERE expires_at > ?1 ORDER BY id";
        const OF_USER: &str =
            "SELECT id, user_name, expires_at FROM tokens WHERE expires_at > ?1 AND user_name = ?2 ORDER BY id";
        let rows = match user {
            None => self.driver.query(ALL, cells![now]).await?,
            Some(user) => self.driver.query(OF_USER, cells![now, user]).await?,
        };
        let read =
            |row: &Row| Ok(TokenRow { id: row.parse(0)?, user: row.text(1)?.to_owned(), expires_at: row.time(2)? });
        rows.iter().map(read).collect()
    }

    /// Deletes a token: it opens nothing any more.
    pub async fn token_delete(&self, id: IdentityId) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("DELETE FROM tokens WHERE id = ?1", cells![id]);
        found(self.driver.commit(batch).await, || format!("token {id}"))
    }

    /// The user a token stands for and when it ends, unless it has.
    pub async fn token_user(&self, hash: &str, now: Timestamp) -> StoreResult<Option<(String, Timestamp)>> {
        let sql = "SELECT user_name, expires_at FROM tokens WHERE token_hash = ?1 AND expires_at > ?2";
        let rows = self.driver.query(sql, cells![hash, now]).await?;
        rows.first().map(|row| Ok((row.text(0)?.to_owned(), row.time(1)?))).transpose()
    }

    /// Remembers an API key by its hash.
    pub async fn api_key_put(&self, key: &ApiKeyRow) -> StoreResult<()> {
        let mut batch = Batch::default();
        let sql = "INSERT INTO api_keys (id, key_hash, user_name, metadata, enabled, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let enabled = i64::from(key.enabled);
        batch.push(sql, cells![key.id, key.hash.as_str(), key.user.as_str(), &key.metadata, enabled, key.created_at]);
        self.driver.commit(batch).await.map(drop)
    }

    /// The API key with this hash, enabled or not.
    pub async fn api_key_by_hash(&self, hash: &str) -> StoreResult<Option<ApiKeyRow>> {
        static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("{API_KEY} WHERE key_hash = ?1"));
        self.driver.query(&SQL, cells![hash]).await?.first().map(api_key).transpose()
    }

    /// All API keys, oldest first.
    pub async fn api_key_list(&self) -> StoreResult<Vec<ApiKeyRow>> {
        static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("{API_KEY} ORDER BY id"));
        Ok(readable("api_keys", 0, &self.driver.query(&SQL, Vec::new()).await?, api_key))
    }

    /// Switches an API key on or off.
    pub async fn api_key_enable(&self, id: IdentityId, enabled: bool) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("UPDATE api_keys SET enabled = ?2 WHERE id = ?1", cells![id, i64::from(enabled)]);
        found(self.driver.commit(batch).await, || format!("API key {id}"))
    }

    /// Deletes an API key.
    pub async fn api_key_delete(&self, id: IdentityId) -> StoreResult<()> {
        let mut batch = Batch::default();
        batch.require("DELETE FROM api_keys WHERE id = ?1", cells![id]);
        found(self.driver.commit(batch).await, || format!("API key {id}"))
    }

    /// Writes a line of the audit log.
    pub async fn audit_write(&self, line: &AuditRow) -> StoreResult<()> {
        let mut batch = Batch::default();
        let sql = "INSERT INTO audit (at, user_name, what, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
        let AuditRow { at, user, what, subject, detail } = line;
        batch.push(sql, cells![*at, user.as_str(), what.as_str(), subject.as_str(), detail]);
        self.driver.commit(batch).await.map(drop)
    }

    /// The audit log, newest first.
    pub async fn audit_list(&self, page: Page) -> StoreResult<Vec<AuditRow>> {
        let sql = "SELECT at, user_name, what, subject, detail FROM audit
            ORDER BY sequence DESC LIMIT ?1 OFFSET ?2";
        Ok(readable("audit", 0, &self.driver.query(sql, cells![page.limit, page.offset]).await?, audit))
    }
}

fn found<T>(result: StoreResult<T>, what: impl FnOnce() -> String) -> StoreResult<()> {
    if committed(result)? { Ok(()) } else { Err(StoreError::NotFound(what())) }
}

fn user(row: &Row) -> StoreResult<UserRow> {
    Ok(UserRow {
        name: row.text(0)?.to_owned(),
        password_hash: row.text_or_null(1)?.map(str::to_owned),
        role: row.text(2)?.to_owned(),
        created_at: row.time(3)?,
    })
}

fn api_key(row: &Row) -> StoreResult<ApiKeyRow> {
    Ok(ApiKeyRow {
        id: row.parse(0)?,
        hash: row.text(1)?.to_owned(),
        user: row.text(2)?.to_owned(),
        metadata: row.json(3)?,
        enabled: row.int(4)? != 0,
        created_at: row.time(5)?,
    })
}

fn audit(row: &Row) -> StoreResult<AuditRow> {
    Ok(AuditRow {
        at: row.time(0)?,
        user: row.text(1)?.to_owned(),
        what: row.text(2)?.to_owned(),
        subject: row.text(3)?.to_owned(),
        detail: row.json(4)?,
    })
}
