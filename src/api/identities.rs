//! `/tokens`, `/user`, `/users`, `/apikeys`, `/audit`: who may come in, how they prove it, and what they did.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::{JsonBody, Path, Query};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::{Authenticated, Gate};
use crate::api::listen::{Client, discard_body};
use crate::api::listing::ListQuery;
use crate::auth::{
    AuthMethod, Credential, CredentialError, Permission, Presented, Principal, Role, StoredHash, hash_password,
    new_api_key, new_token,
};
use crate::clock::{Clock, Ids};
use crate::model::refs::IdentityId;
use crate::secrets::MASK;
use crate::store::identities::{ApiKeyRow, TokenRow, UserRow};
use crate::supervise::Supervisor;

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) gate: Gate,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) supervisor: Supervisor,
}

/// A token is good for a day, unless a shorter time is asked for.
const TOKEN_TTL: Duration = Duration::from_hours(24);

/// Stands before the gate: who logs in has nothing yet to show.
pub(super) fn login_router(door: Door) -> Router {
    Router::new().route("/tokens", post(login)).with_state(door)
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/tokens", get(list_tokens))
        .route("/tokens/{token}", delete(revoke_token))
        .route("/user", get(whoami))
        .route("/users", get(list_users).post(create_user))
        .route("/users/{name}", delete(delete_user))
        .route("/apikeys", get(list_keys).post(create_key))
        .route("/apikeys/{key}", get(show_key).put(switch_key).delete(delete_key))
        .route("/audit", get(list_audit))
        .with_state(door)
}

#[derive(Debug, Deserialize)]
struct Login {
    /// Seconds.
    ttl: Option<u64>,
}

/// The password is checked before the body is read.
async fn login(State(door): State<Door>, mut request: Request) -> ApiResult<Response> {
    let client = Client::of(request.extensions());
    let presented = Presented::from_request(request.headers(), request.uri().query().unwrap_or_default());
    let (principal, stored) = match door.log_in(presented, &client).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            discard_body(request, &*door.clock).await;
            return Err(refusal);
        }
    };
    request.extensions_mut().insert(client);
    let JsonBody(login) = JsonBody::<Login>::from_request(request, &()).await?;
    let ttl = login.ttl.map_or(TOKEN_TTL, Duration::from_secs);
    if ttl > TOKEN_TTL || ttl.is_zero() {
        return Err(ApiError::bad_request(format!("ttl: write 1 to {} seconds", TOKEN_TTL.as_secs())));
    }
    let token = new_token();
    let row = TokenRow { id: door.new_id(), user: principal.name, expires_at: door.clock.now().plus(ttl) };
    let hash = StoredHash::of_token(token.expose());
    door.gate.identities().token_put(&row, hash.as_str(), stored.as_deref()).await?;
    let mut shown = shown_token(&row);
    shown["token"] = json!(token.expose());
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

fn shown_token(row: &TokenRow) -> Value {
    json!({
        "id": row.id, "user": row.user, "created_at": row.id.made_at(), "expiry": row.expires_at, "service": false,
        "metadata": {},
    })
}

/// The caller's own; an admin sees those of all, or of `user=`.
async fn list_tokens(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<KeyFilter>,
) -> ApiResult<Response> {
    let wanted = filter.visible(&caller)?;
    let tokens = door.gate.identities().token_list(wanted.as_deref(), door.clock.now()).await?;
    query.cut(tokens.iter().map(shown_token).collect())
}

/// Ends a token at once, with the event streams that were opened by it. Somebody else's does not exist for whoever may
/// not see it.
async fn revoke_token(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<IdentityId>,
) -> ApiResult<StatusCode> {
    let visible = KeyFilter { user: None }.visible(&caller)?;
    let tokens = door.gate.identities().token_list(visible.as_deref(), door.clock.now()).await?;
    let row = tokens.into_iter().find(|token| token.id == id);
    let row = row.ok_or_else(|| ApiError::not_found(format!("token {id} does not exist or has expired")))?;
    caller.audit("token.revoke", &id.to_string(), json!({ "user": row.user })).await?;
    door.gate.identities().token_delete(id).await?;
    door.gate.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// StackStorm's `whoami`.
async fn whoami(caller: Authenticated) -> Json<Value> {
    let who = &caller.principal;
    let expires = match who.method {
        AuthMethod::Token { expires } => Some(expires),
        AuthMethod::ApiKey | AuthMethod::Password => None,
    };
    Json(json!({
        "username": who.name,
        "authentication": { "method": who.method.as_str(), "location": caller.location, "token_expire": expires },
        "rbac": { "enabled": true, "roles": [who.role], "is_admin": who.role == Role::Admin },
    }))
}

impl Door {
    /// The user, and the hash of the password that was checked.
    async fn log_in(
        &self,
        presented: Result<Presented, CredentialError>,
        client: &Client,
    ) -> ApiResult<(Principal, Option<String>)> {
        let presented = presented.map_err(|problem| ApiError::unauthorized(format!("Unauthorized - {problem}")))?;
        let Credential::Password { user, password } = presented.credential else {
            return Err(ApiError::unauthorized("Unauthorized - log in with `Authorization: Basic`, user and password"));
        };
        // Read before it is checked: if it is changed meanwhile, no token comes of the old one.
        let stored = self.gate.identities().user_get(&user).await?.and_then(|row| row.password_hash);
        Ok((self.gate.by_password(&user, password, client).await?, stored))
    }

    fn new_id(&self) -> IdentityId {
        IdentityId::from_bytes(self.ids.next())
    }

    async fn refuse_last_admin(&self, name: &str) -> ApiResult<()> {
        let users = self.gate.identities().user_list().await?;
        let is_admin = |user: &&UserRow| user.role == Role::Admin.as_str();
        let others = users.iter().filter(is_admin).filter(|user| user.name != name).count();
        let is_one = users.iter().filter(is_admin).any(|user| user.name == name);
        if is_one && others == 0 {
            return Err(ApiError::conflict(format!("`{name}` is the last admin: make another one first")));
        }
        Ok(())
    }

    /// Somebody else's does not exist for whoever may not manage it.
    async fn key(&self, named: &str, caller: &Authenticated) -> ApiResult<ApiKeyRow> {
        let visible = KeyFilter { user: None }.visible(caller)?;
        let keys = self.gate.identities().api_key_list().await?;
        let hash = StoredHash::of_api_key(named);
        let is_meant = |key: &ApiKeyRow| key.id.to_string() == named || key.hash == hash.as_str();
        let found = keys.into_iter().filter(|key| visible.as_ref().is_none_or(|user| *user == key.user));
        let mut found = found;
        found.find(is_meant).ok_or_else(|| ApiError::not_found("this API key does not exist"))
    }
}

async fn list_users(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    caller.require(Permission::UserManage)?;
    query.cut(door.gate.identities().user_list().await?.iter().map(shown_user).collect())
}

fn shown_user(user: &UserRow) -> Value {
    json!({
        "name": user.name, "role": user.role, "created_at": user.created_at,
        "has_password": user.password_hash.is_some(),
    })
}

#[derive(Debug, Deserialize)]
struct NewUser {
    name: String,
    password: Option<String>,
    role: Role,
}

/// Makes a user, or changes password and role of one, which ends all of that user's tokens. API keys stay: each is a
/// credential of its own, and has the new role from now on.
async fn create_user(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(new): JsonBody<NewUser>,
) -> ApiResult<Response> {
    caller.require(Permission::UserManage)?;
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
    if new.name.is_empty() || !new.name.chars().all(legal) {
        return Err(ApiError::bad_request("name: write letters, digits and `_-.@`"));
    }
    if new.role != Role::Admin {
        door.refuse_last_admin(&new.name).await?;
    }
    let known = door.gate.identities().user_get(&new.name).await?;
    let detail = json!({ "role": new.role, "password": new.password.is_some() });
    let password_hash = match new.password {
        Some(password) => Some(door.hash(password).await?),
        None => known.and_then(|known| known.password_hash),
    };
    let (role, created_at) = (new.role.to_string(), door.clock.now());
    let row = UserRow { name: new.name, password_hash, role, created_at };
    caller.audit("user.put", &row.name, detail).await?;
    door.gate.identities().user_put(&row).await?;
    door.gate.forget();
    Ok((StatusCode::CREATED, Json(shown_user(&row))).into_response())
}

impl Door {
    async fn hash(&self, password: String) -> ApiResult<String> {
        let hashed = self.supervisor.spawn_blocking("password hash", move || hash_password(&password)).await;
        let hashed = hashed.map_err(|problem| ApiError::internal(&problem))?;
        hashed.map(|hash| hash.as_str().to_owned()).map_err(|problem| ApiError::bad_request(problem.to_string()))
    }
}

async fn delete_user(
    State(door): State<Door>,
    caller: Authenticated,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    caller.require(Permission::UserManage)?;
    door.refuse_last_admin(&name).await?;
    caller.audit("user.delete", &name, Value::Null).await?;
    door.gate.identities().user_delete(&name).await?;
    door.gate.forget();
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct KeyFilter {
    user: Option<String>,
}

impl KeyFilter {
    /// Whose credentials are meant: those of all only for whoever manages them.
    fn visible(&self, caller: &Authenticated) -> ApiResult<Option<String>> {
        let own = &caller.principal.name;
        match &self.user {
            None if caller.principal.may(Permission::ApiKeyManage) => Ok(None),
            None => Ok(Some(own.clone())),
            Some(user) if user == own => Ok(Some(own.clone())),
            Some(user) => caller.require(Permission::ApiKeyManage).map(|()| Some(user.clone())),
        }
    }
}

/// The caller's own; an admin sees those of all, or of `user=`.
async fn list_keys(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<KeyFilter>,
) -> ApiResult<Response> {
    let user = filter.visible(&caller)?;
    let keys = door.gate.identities().api_key_list().await?;
    let wanted = keys.iter().filter(|key| user.as_ref().is_none_or(|user| *user == key.user));
    query.cut(wanted.map(|key| shown_key(key, MASK)).collect())
}

fn shown_key(row: &ApiKeyRow, key: &str) -> Value {
    json!({
        "id": row.id, "uid": format!("api_key:{}", row.id), "user": row.user, "metadata": row.metadata, "key": key,
        "key_hash": MASK, "enabled": row.enabled, "created_at": row.created_at,
    })
}

#[derive(Debug, Deserialize)]
struct NewKey {
    user: Option<String>,
    #[serde(default)]
    metadata: Value,
}

async fn create_key(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(new): JsonBody<NewKey>,
) -> ApiResult<Response> {
    caller.require(Permission::ApiKeyManage)?;
    let user = new.user.unwrap_or_else(|| caller.principal.name.clone());
    if door.gate.identities().user_get(&user).await?.is_none() {
        return Err(ApiError::bad_request(format!("user `{user}` does not exist; make the user first")));
    }
    let key = new_api_key();
    let hash = StoredHash::of_api_key(key.expose()).as_str().to_owned();
    let metadata = if new.metadata.is_null() { json!({}) } else { new.metadata };
    let row = ApiKeyRow { id: door.new_id(), hash, user, metadata, enabled: true, created_at: door.clock.now() };
    caller.audit("apikey.create", &row.id.to_string(), json!({ "user": row.user })).await?;
    door.gate.identities().api_key_put(&row).await?;
    Ok((StatusCode::CREATED, Json(shown_key(&row, key.expose()))).into_response())
}

async fn show_key(
    State(door): State<Door>,
    caller: Authenticated,
    Path(named): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(Json(shown_key(&door.key(&named, &caller).await?, MASK)))
}

#[derive(Debug, Deserialize)]
struct Switch {
    enabled: bool,
}

/// Everybody may switch their own keys off; what an admin has switched off stays so.
async fn switch_key(
    State(door): State<Door>,
    caller: Authenticated,
    Path(named): Path<String>,
    JsonBody(Switch { enabled }): JsonBody<Switch>,
) -> ApiResult<Json<Value>> {
    if enabled {
        caller.require(Permission::ApiKeyManage)?;
    }
    let row = door.key(&named, &caller).await?;
    caller.audit("apikey.switch", &row.id.to_string(), json!({ "enabled": enabled })).await?;
    door.gate.identities().api_key_enable(row.id, enabled).await?;
    door.gate.forget();
    Ok(Json(shown_key(&ApiKeyRow { enabled, ..row }, MASK)))
}

async fn delete_key(
    State(door): State<Door>,
    caller: Authenticated,
    Path(named): Path<String>,
) -> ApiResult<StatusCode> {
    let row = door.key(&named, &caller).await?;
    caller.audit("apikey.delete", &row.id.to_string(), json!({ "user": row.user })).await?;
    door.gate.identities().api_key_delete(row.id).await?;
    door.gate.forget();
    Ok(StatusCode::NO_CONTENT)
}

async fn list_audit(
    State(door): State<Door>,
    caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::AuditView)?;
    let lines = door.gate.identities().audit_list(query.page(100)?).await?;
    caller.audit("audit.view", "", json!({ "count": lines.len() })).await?;
    let shown = lines.into_iter().map(|line| {
        json!({ "at": line.at, "user": line.user, "what": line.what, "subject": line.subject, "detail": line.detail })
    });
    Ok(Json(shown.collect()))
}
