//! `/keys`: the datastore in StackStorm's scopes, with secret values sealed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::{JsonBody, Path, Query, is_true};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::auth::Permission;
use crate::clock::Clock;
use crate::datastore::{Datastore, SYSTEM_SCOPE, Sealing, user_scope};
use crate::secrets::SHORTEST_SECRET_BYTES;
use crate::store::StoreError;
use crate::store::damage::leave_out;
use crate::store::key_values::KeyRow;

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) datastore: Datastore,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/keys", get(list)).route("/keys/{name}", get(show).put(set).delete(remove)).with_state(door)
}

/// Which scope is meant, and whether values are wanted in clear.
#[derive(Debug, Default, Deserialize)]
struct Scope {
    #[serde(rename = "scope")]
    name: Option<String>,
    user: Option<String>,
    decrypt: Option<String>,
    prefix: Option<String>,
}

/// Where a key lies in the store; `None`: in any scope.
fn stored_scope(scope: Option<&str>, user: Option<&str>, caller: &Authenticated) -> ApiResult<Option<String>> {
    let own = caller.principal.name.as_str();
    match scope.unwrap_or("system") {
        "system" | "st2kv.system" => Ok(Some(SYSTEM_SCOPE.to_owned())),
        "user" | "st2kv.user" => {
            let user = user.filter(|user| !user.is_empty()).unwrap_or(own);
            if user != own {
                caller.require(Permission::UserManage)?;
            }
            Ok(Some(user_scope(user)))
        }
        "all" => {
            caller.require(Permission::UserManage)?;
            Ok(None)
        }
        other => Err(ApiError::bad_request(format!("scope `{other}`: write system, user or all"))),
    }
}

fn one_scope(scope: Option<&str>, user: Option<&str>, caller: &Authenticated) -> ApiResult<String> {
    stored_scope(scope, user, caller)?.ok_or_else(|| ApiError::bad_request("scope `all` is for lists only"))
}

async fn list(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(wanted): Query<Scope>,
) -> ApiResult<Response> {
    let reading = Reading::wanted(&wanted, &caller)?;
    let page = query.page(100)?;
    let scope = visible_scope(&wanted, &caller)?;
    let (prefix, now) = (wanted.prefix.as_deref().unwrap_or_default(), door.clock.now());
    let rows = door.datastore.values().key_list(scope.as_deref(), prefix, page, now).await?;
    let total = door.datastore.values().key_count(scope.as_deref(), prefix, now).await?;
    if reading == Reading::Clear {
        let opened: Vec<&str> = rows.iter().filter(|row| row.secret).map(|row| row.name.as_str()).collect();
        let detail = json!({ "scope": scope, "count": opened.len(), "keys": opened });
        caller.audit("key.decrypt", prefix, detail).await?;
    }
    let readable = rows.iter().filter_map(|row| match door.shown(row, reading) {
        Ok(item) => Some(item),
        Err(problem) => {
            leave_out("key_values", &row.name, &StoreError::Corrupt(problem.to_string()));
            None
        }
    });
    query.answer(readable.collect(), total, page)
}

/// `all` means, for whoever is no admin, everything they may see in one list: the system's.
fn visible_scope(wanted: &Scope, caller: &Authenticated) -> ApiResult<Option<String>> {
    let all = wanted.name.as_deref() == Some("all");
    if all && !caller.principal.may(Permission::UserManage) {
        return Ok(Some(SYSTEM_SCOPE.to_owned()));
    }
    stored_scope(wanted.name.as_deref(), wanted.user.as_deref(), caller)
}

async fn show(
    State(door): State<Door>,
    caller: Authenticated,
    Path(name): Path<String>,
    Query(wanted): Query<Scope>,
) -> ApiResult<Json<Value>> {
    let reading = Reading::wanted(&wanted, &caller)?;
    let scope = one_scope(wanted.name.as_deref(), wanted.user.as_deref(), &caller)?;
    let row = door.get(&scope, &name).await?;
    if reading == Reading::Clear && row.secret {
        caller.audit("key.decrypt", &name, json!({ "scope": scope, "count": 1 })).await?;
    }
    door.shown(&row, reading).map(Json)
}

/// A value that is to be set.
#[derive(Debug, Deserialize)]
struct NewValue {
    value: Value,
    scope: Option<String>,
    user: Option<String>,
    /// Seconds.
    ttl: Option<u64>,
    secret: Option<bool>,
    encrypted: Option<bool>,
}

async fn set(
    State(door): State<Door>,
    caller: Authenticated,
    Path(name): Path<String>,
    Query(query): Query<Scope>,
    JsonBody(new): JsonBody<NewValue>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::KeyWrite)?;
    let Value::String(text) = new.value else {
        return Err(ApiError::bad_request("`value` must be a text; write structures as JSON in a text"));
    };
    let (given_scope, user) = (new.scope.or(query.name), new.user.or(query.user));
    let scope = one_scope(given_scope.as_deref(), user.as_deref(), &caller)?;
    let until = new.ttl.map(|seconds| door.clock.now().plus(Duration::from_secs(seconds)));
    let sealing = if new.secret == Some(true) { Sealing::Sealed } else { Sealing::Clear };
    let mut write = door.datastore.write(&scope, &name, &text, sealing, until);
    if new.encrypted == Some(true) {
        // Everybody sees sealed values. Under another name, content that opens it could hand out what is in it.
        caller.require(Permission::KeyDecrypt)?;
        let opened = door.datastore.keyring().open(&text);
        opened.map_err(|problem| ApiError::bad_request(format!("`encrypted`: {problem}")))?;
        write.value = Some(text);
        write.secret = true;
    }
    let detail = json!({ "scope": scope, "secret": write.secret, "ttl": new.ttl });
    caller.audit("key.set", &name, detail).await?;
    door.datastore.values().key_write(&write, door.clock.now()).await?;
    let row = door.get(&scope, &name).await?;
    let mut shown = door.shown(&row, Reading::AsStored)?;
    if row.secret && door.datastore.open(&row).is_ok_and(|text| text.trim().len() < SHORTEST_SECRET_BYTES) {
        shown["warning"] = json!(format!(
            "a secret of fewer than {SHORTEST_SECRET_BYTES} bytes is encrypted, but not masked where an execution shows it"
        ));
    }
    Ok(Json(shown))
}

async fn remove(
    State(door): State<Door>,
    caller: Authenticated,
    Path(name): Path<String>,
    Query(wanted): Query<Scope>,
) -> ApiResult<StatusCode> {
    let scope = one_scope(wanted.name.as_deref(), wanted.user.as_deref(), &caller)?;
    let detail = json!({ "scope": scope });
    caller.change(Permission::KeyWrite, "key.delete", &name, detail).await?;
    door.datastore.values().key_delete(&scope, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How secret values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Sealed.
    AsStored,
    /// Opened.
    Clear,
}

impl Reading {
    fn wanted(scope: &Scope, caller: &Authenticated) -> ApiResult<Self> {
        if !is_true(scope.decrypt.as_deref()) {
            return Ok(Self::AsStored);
        }
        caller.require(Permission::KeyDecrypt)?;
        Ok(Self::Clear)
    }
}

impl Door {
    async fn get(&self, scope: &str, name: &str) -> ApiResult<KeyRow> {
        let row = self.datastore.get(scope, name).await?;
        row.ok_or_else(|| ApiError::not_found(format!("key `{name}` does not exist in scope {scope}")))
    }

    fn shown(&self, row: &KeyRow, reading: Reading) -> ApiResult<Value> {
        let value = match reading {
            Reading::AsStored => row.value.clone(),
            Reading::Clear => self.datastore.open(row).map_err(ApiError::conflict)?,
        };
        let user = row.scope.strip_prefix("user:");
        let scope = if user.is_some() { "st2kv.user" } else { "st2kv.system" };
        let mut shown = json!({
            "name": row.name, "value": value, "scope": scope, "secret": row.secret,
            "encrypted": row.secret && reading == Reading::AsStored, "version": row.version,
            "uid": format!("key_value_pair:{scope}:{}", row.name),
        });
        if let Some(user) = user {
            shown["user"] = json!(user);
        }
        if let Some(expires) = row.expires_at {
            shown["expire_timestamp"] = json!(expires);
        }
        Ok(shown)
    }
}
