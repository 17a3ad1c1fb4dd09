//! `/workflows/check` and `/backup`: what an operator does around an upgrade. Others do the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::body::JsonBody;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::auth::Permission;
use crate::model::refs::ExecutionId;
use crate::store::{StoreError, StoreResult};

/// A workflow whose script would not ask again for what its journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// The workflow.
    pub execution: ExecutionId,
    /// The place in its journal.
    pub position: String,
    /// What the journal says.
    pub recorded: String,
    /// What the script asks now.
    pub asked: String,
}

/// What a dry replay of all open journals found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// How many were replayed.
    pub checked: usize,
    /// Those that would not go on.
    pub problems: Vec<Divergence>,
}

/// Replays journals without acting.
#[async_trait]
pub trait WorkflowCheck: Send + Sync {
    /// All open ones.
    async fn check(&self) -> StoreResult<Checked>;
}

/// Copies the store while work goes on.
#[async_trait]
pub trait BackupService: Send + Sync {
    /// To this file, which must not exist; gives back its size in bytes.
    async fn backup(&self, target: &Path) -> Result<u64, BackupError>;
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be written there.
    #[error("cannot write the backup to {}: {why}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BackupError> for ApiError {
    fn from(problem: BackupError) -> Self {
        match problem {
            BackupError::Target { .. } => Self::conflict(problem.to_string()),
            BackupError::Store(problem) => problem.into(),
        }
    }
}

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) workflows: Arc<dyn WorkflowCheck>,
    pub(super) backup: Arc<dyn BackupService>,
}

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/workflows/check", post(check)).route("/backup", post(backup)).with_state(door)
}

async fn check(State(door): State<Door>, caller: Authenticated) -> ApiResult<Json<Checked>> {
    caller.require(Permission::ExecutionControl)?;
    Ok(Json(door.workflows.check().await?))
}

#[derive(Debug, Deserialize)]
struct Target {
    path: PathBuf,
}

async fn backup(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(Target { path }): JsonBody<Target>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::SystemManage)?;
    if !path.is_absolute() {
        return Err(ApiError::bad_request("path: write an absolute one; the daemon's folder is not yours"));
    }
    caller.audit("backup", &path.to_string_lossy(), Value::Null).await?;
    let bytes = door.backup.backup(&path).await?;
    Ok(Json(json!({ "path": path, "bytes": bytes })))
}
