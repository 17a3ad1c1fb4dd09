//! The first admin: made when nobody is known yet, with an API key that only the owner of the data folder can read.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::auth::{Role, StoredHash, new_api_key};
use crate::clock::{Clock, Ids};
use crate::model::refs::IdentityId;
use crate::private;
use crate::store::identities::{ApiKeyRow, UserRow};
use crate::store::{Identities, StoreError};

/// The first admin's name, as in StackStorm.
pub const FIRST_ADMIN: &str = "st2admin";

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// The key cannot be written.
    #[error("cannot write the first admin's API key to {}", path.display())]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the first admin if there is no user. Gives back the file with the key if it was written now.
///
/// The user comes last: cut off before that, the next start begins anew.
pub async fn first_start(
    identities: &Identities,
    ids: &dyn Ids,
    clock: &dyn Clock,
    data_dir: &Path,
) -> Result<Option<PathBuf>, FirstStartError> {
    if identities.user_count().await? > 0 {
        return Ok(None);
    }
    let (key, now) = (new_api_key(), clock.now());
    let path = data_dir.join("admin.key");
    private::replace_file(&path, format!("{}\n", key.expose()).as_bytes())
        .map_err(|source| FirstStartError::Io { path: path.clone(), source })?;
    let row = ApiKeyRow {
        id: IdentityId::from_bytes(ids.next()),
        hash: StoredHash::of_api_key(key.expose()).as_str().to_owned(),
        user: FIRST_ADMIN.to_owned(),
        metadata: json!({ "made": "at first start" }),
        enabled: true,
        created_at: now,
    };
    identities.api_key_put(&row).await?;
    let role = Role::Admin.to_string();
    identities.user_put(&UserRow { name: row.user, password_hash: None, role, created_at: now }).await?;
    Ok(Some(path))
}
