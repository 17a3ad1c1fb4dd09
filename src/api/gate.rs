//! Who is asking, and may they: the store's part of authentication, and the audit log.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::api::error::{ApiError, ApiResult};
use crate::api::known::Known;
use crate::auth::{
    AuthMethod, Credential, CredentialError, Location, PasswordError, PasswordHash, Permission, Presented, Principal,
    Role, StoredHash, verify_password,
};
use crate::clock::Clock;
use crate::model::key_access::KeyAccess;
use crate::secrets::SecretText;
use crate::store::identities::AuditRow;
use crate::store::{Identities, StoreError};
use crate::supervise::Supervisor;

/// Hashing a password takes a core for a while: so many at once, the rest is turned away.
const PASSWORDS_AT_ONCE: usize = 4;

/// Checks credentials against the store.
#[derive(Clone)]
pub struct Gate {
    identities: Identities,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    known: Known,
    passwords: Arc<Semaphore>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// Over the store's users, tokens and keys.
    pub fn new(identities: Identities, clock: Arc<dyn Clock>, supervisor: Supervisor) -> Self {
        let passwords = Arc::new(Semaphore::new(PASSWORDS_AT_ONCE));
        let known = Known::new(Arc::clone(&clock));
        Self { identities, clock, supervisor, known, passwords }
    }

    /// Users, tokens, keys.
    pub(super) const fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Whose credential a request carries.
    pub async fn authenticate(&self, headers: &HeaderMap, query: &str) -> ApiResult<(Principal, Location)> {
        let presented = Presented::from_request(headers, query).map_err(refused)?;
        let principal = match presented.credential {
            Credential::Token(token) => self.by_token(&token).await?,
            Credential::ApiKey(key) => self.by_api_key(&key).await?,
            Credential::Bearer(text) => self.by_either(&text).await?,
            Credential::Password { user, password } => Some(self.by_password(&user, password).await?),
        };
        let unknown = || ApiError::unauthorized("Unauthorized - the token or API key is unknown, disabled or expired");
        Ok((principal.ok_or_else(unknown)?, presented.location))
    }

    /// The same where credentials are optional: none is no mistake, a wrong one is.
    pub async fn authenticate_if_shown(&self, headers: &HeaderMap, query: &str) -> ApiResult<Option<Principal>> {
        match Presented::from_request(headers, query) {
            Err(CredentialError::Missing) => Ok(None),
            Err(problem) => Err(refused(problem)),
            Ok(_) => self.authenticate(headers, query).await.map(|(principal, _)| Some(principal)),
        }
    }

    /// While the store is away, one of the two may be remembered.
    async fn by_either(&self, text: &SecretText) -> ApiResult<Option<Principal>> {
        let by_token = self.by_token(text).await;
        if matches!(by_token, Ok(Some(_))) {
            return by_token;
        }
        let by_api_key = self.by_api_key(text).await?;
        if by_api_key.is_some() { Ok(by_api_key) } else { by_token }
    }

    async fn by_token(&self, token: &SecretText) -> ApiResult<Option<Principal>> {
        let hash = StoredHash::of_token(token.expose());
        let found = self.look_up_token(&hash).await;
        Ok(self.known.settle(&hash, found)?)
    }

    async fn look_up_token(&self, hash: &StoredHash) -> Result<Option<Principal>, StoreError> {
        let Some((user, expires)) = self.identities.token_user(hash.as_str(), self.clock.now()).await? else {
            return Ok(None);
        };
        let role = self.role_of(&user).await?;
        Ok(role.map(|role| Principal { name: user, role, method: AuthMethod::Token { expires } }))
    }

    async fn by_api_key(&self, key: &SecretText) -> ApiResult<Option<Principal>> {
        let hash = StoredHash::of_api_key(key.expose());
        if let Some(principal) = self.known.fresh(&hash) {
            return Ok(Some(principal));
        }
        let found = self.look_up_key(&hash).await;
        Ok(self.known.settle(&hash, found)?)
    }

    async fn look_up_key(&self, hash: &StoredHash) -> Result<Option<Principal>, StoreError> {
        let row = self.identities.api_key_by_hash(hash.as_str()).await?;
        let Some(row) = row.filter(|row| row.enabled && StoredHash::from_stored(row.hash.as_str()) == *hash) else {
            return Ok(None);
        };
        let role = self.role_of(&row.user).await?;
        Ok(role.map(|role| Principal { name: row.user, role, method: AuthMethod::ApiKey }))
    }

    async fn role_of(&self, user: &str) -> Result<Option<Role>, StoreError> {
        let Some(row) = self.identities.user_get(user).await? else { return Ok(None) };
        let role = row.role.parse();
        role.map(Some).map_err(|problem| StoreError::Corrupt(format!("user `{user}`: {problem}")))
    }

    /// Checks a password on a thread of its own; unknown users take as long as known ones.
    pub(super) async fn by_password(&self, user: &str, password: SecretText) -> ApiResult<Principal> {
        let Ok(_permit) = self.passwords.try_acquire() else {
            return Err(ApiError::too_many("too many logins at once", Duration::from_secs(1)));
        };
        let row = self.identities.user_get(user).await?;
        let stored = row.as_ref().and_then(|row| row.password_hash.clone()).map(PasswordHash::from_stored);
        let checked = self
            .supervisor
            .spawn_blocking("password check", move || verify_password(password.expose(), stored.as_ref()))
            .await
            .map_err(|problem| ApiError::internal(&problem))?;
        checked.map_err(|problem: PasswordError| ApiError::unauthorized(format!("Unauthorized - {problem}")))?;
        let row = row.ok_or_else(|| ApiError::unauthorized("Unauthorized - wrong user or password"))?;
        let role = row.role.parse().map_err(|problem| ApiError::internal(&problem))?;
        Ok(Principal { name: row.name, role, method: AuthMethod::Password })
    }

    /// Forgets all credentials: some key or user was changed here.
    pub(super) fn forget(&self) {
        self.known.forget();
    }
}

fn refused(problem: CredentialError) -> ApiError {
    ApiError::unauthorized(format!("Unauthorized - {problem}"))
}

/// Somebody whose credentials were checked. Taking it as an argument is what closes a handler's door.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who.
    pub principal: Principal,
    /// Where their credential stood.
    pub location: Location,
    gate: Gate,
}

impl Authenticated {
    /// Only on with that permission.
    pub fn require(&self, permission: Permission) -> ApiResult<()> {
        if self.principal.may(permission) {
            return Ok(());
        }
        let Principal { name, role, .. } = &self.principal;
        Err(ApiError::forbidden(format!(
            "`{name}` may not do this: the role {role} lacks the permission {permission:?}"
        )))
    }

    /// Which encrypted keys may be decrypted in what they ask for.
    pub fn key_access(&self) -> KeyAccess {
        if self.principal.may(Permission::KeyDecrypt) { KeyAccess::Any } else { KeyAccess::NamedByContent }
    }

    /// Writes down what is about to be changed. First the line, then the change: none goes unrecorded.
    pub async fn audit(&self, what: &str, subject: &str, detail: Value) -> ApiResult<()> {
        let line = AuditRow {
            at: self.gate.clock.now(),
            user: self.principal.name.clone(),
            what: what.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        Ok(self.gate.identities.audit_write(&line).await?)
    }

    /// [`Authenticated::require`] and [`Authenticated::audit`] in one.
    pub async fn change(&self, permission: Permission, what: &str, subject: &str, detail: Value) -> ApiResult<()> {
        self.require(permission)?;
        self.audit(what, subject, detail).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        let checked = parts.extensions.get::<Self>().cloned();
        checked.ok_or_else(|| ApiError::unauthorized("Unauthorized - this route stands behind no gate"))
    }
}

/// The layer that closes every route below it to strangers; everybody who is somebody may look.
pub(super) async fn close(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let admitted = match gate.authenticate(request.headers(), &query).await {
        Ok((principal, location)) => Authenticated { principal, location, gate },
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refusal) = check_forgery(&admitted, &request).and_then(|()| admitted.require(Permission::View)) {
        return refusal.into_response();
    }
    request.extensions_mut().insert(admitted);
    next.run(request).await
}

/// A cookie is sent by browsers on behalf of any page: what changes something must come from our own.
fn check_forgery(admitted: &Authenticated, request: &Request) -> ApiResult<()> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_read || admitted.location != Location::Cookie {
        return Ok(());
    }
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let origin = header(ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    if origin.is_some() && origin == header(HOST) {
        return Ok(());
    }
    Err(ApiError::forbidden("a change by cookie must come from a page of this daemon; send the token as X-Auth-Token"))
}
