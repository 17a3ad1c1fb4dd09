//! Who is asking, and may they: the store's part of authentication, and the audit log.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::watch;

use crate::api::error::{ApiError, ApiResult};
use crate::api::known::Known;
use crate::api::listen::{Client, discard_body, read_body};
use crate::api::logins::{Failures, PasswordChecks};
use crate::auth::{
    AuthMethod, Credential, CredentialError, Location, PasswordError, PasswordHash, Permission, Presented, Principal,
    Role, StoredHash, verify_password,
};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::key_access::KeyAccess;
use crate::requests::Requester;
use crate::secrets::SecretText;
use crate::store::identities::AuditRow;
use crate::store::{Identities, StoreError};
use crate::supervise::Supervisor;

/// Checks credentials against the store.
#[derive(Clone)]
pub struct Gate {
    identities: Identities,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    known: Known,
    passwords: PasswordChecks,
    failures: Failures,
    /// Users that may act as others without being admins.
    act_as: Arc<[String]>,
    /// Counts changes of users, tokens and keys made here: open streams look again whether they may go on.
    changes: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// Over the store's users, tokens and keys.
    pub fn new(identities: Identities, clock: Arc<dyn Clock>, supervisor: Supervisor, metrics: Metrics) -> Self {
        let passwords = PasswordChecks::new(Arc::clone(&clock));
        let failures = Failures::new(identities.clone(), Arc::clone(&clock), metrics);
        let known = Known::new(Arc::clone(&clock));
        let (act_as, changes) = (Arc::default(), Arc::new(watch::Sender::new(0)));
        Self { identities, clock, supervisor, known, passwords, failures, act_as, changes }
    }

    /// The same, with users that may act as others.
    #[must_use]
    pub fn with_act_as(self, users: &[String]) -> Self {
        Self { act_as: users.into(), ..self }
    }

    /// Users, tokens, keys.
    pub(super) const fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Whose credential a request carries.
    pub(super) async fn authenticate(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: &Client,
    ) -> ApiResult<(Principal, Location)> {
        let presented = Presented::from_request(headers, query).map_err(refused)?;
        self.check(presented, client).await
    }

    async fn check(&self, presented: Presented, client: &Client) -> ApiResult<(Principal, Location)> {
        let kind = presented.credential.kind();
        let principal = match presented.credential {
            Credential::Token(token) => self.by_token(&token).await?,
            Credential::ApiKey(key) => self.by_api_key(&key).await?,
            Credential::Bearer(text) => self.by_either(&text).await?,
            Credential::Password { user, password } => Some(self.by_password(&user, password, client).await?),
        };
        let Some(principal) = principal else {
            self.failures.key_failed(kind, client.address());
            let fault = "Unauthorized - the token or API key is unknown, disabled or expired";
            return Err(ApiError::unauthorized(fault));
        };
        client.become_known();
        Ok((principal, presented.location))
    }

    /// The same, with all that a handler asks for.
    async fn admit(self, headers: &HeaderMap, query: &str, client: &Client) -> ApiResult<Authenticated> {
        let presented = Presented::from_request(headers, query).map_err(refused)?;
        let credential = presented.credential.clone();
        let (principal, location) = self.check(presented, client).await?;
        let session = self.session(&credential, &principal).await?;
        Ok(Authenticated { principal, location, session, gate: self })
    }

    /// The same where credentials are optional: none is no mistake, a wrong one is.
    pub(super) async fn authenticate_if_shown(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: &Client,
    ) -> ApiResult<Option<Principal>> {
        match Presented::from_request(headers, query) {
            Err(CredentialError::Missing) => Ok(None),
            Err(problem) => Err(refused(problem)),
            Ok(_) => self.authenticate(headers, query, client).await.map(|(principal, _)| Some(principal)),
        }
    }

    /// A sender of a webhook or listener, whose credential is none of ours, was not let in.
    pub(super) fn note_unknown_sender(&self, client: &Client) {
        self.failures.key_failed("webhook", client.address());
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
    pub(super) async fn by_password(&self, user: &str, password: SecretText, client: &Client) -> ApiResult<Principal> {
        let row = self.identities.user_get(user).await?;
        let stored = row.as_ref().and_then(|row| row.password_hash.clone()).map(PasswordHash::from_stored);
        let turn = match self.passwords.take_turn(client.share(), user).await {
            Ok(turn) => turn,
            Err(turned_away) => {
                self.failures.password_failed(user, client.address(), "too many logins at once").await;
                return Err(turned_away);
            }
        };
        // The turn goes with the work: a client that hangs up does not free the core.
        let check = move || {
            let _turn = turn;
            verify_password(password.expose(), stored.as_ref())
        };
        let checked = self.supervisor.spawn_blocking("password check", check).await;
        let checked = checked.map_err(|problem| ApiError::internal(&problem))?;
        match (checked, row) {
            (Ok(()), Some(row)) => {
                let role = row.role.parse().map_err(|problem| ApiError::internal(&problem))?;
                client.become_known();
                Ok(Principal { name: row.name, role, method: AuthMethod::Password })
            }
            (checked, _) => {
                let problem = checked.err().unwrap_or(PasswordError::Wrong);
                self.failures.password_failed(user, client.address(), &problem.to_string()).await;
                Err(ApiError::unauthorized(format!("Unauthorized - {problem}")))
            }
        }
    }

    /// Forgets all credentials: some key or user was changed here.
    pub(super) fn forget(&self) {
        self.known.forget();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Wakes whenever [`Gate::forget`] was called.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn may_act_as(&self, principal: &Principal) -> bool {
        principal.may(Permission::ActAs) || self.act_as.contains(&principal.name)
    }

    async fn session(&self, credential: &Credential, principal: &Principal) -> ApiResult<Session> {
        let proof = match credential {
            Credential::Token(token) => Proof::Hash(StoredHash::of_token(token.expose())),
            Credential::ApiKey(key) => Proof::Hash(StoredHash::of_api_key(key.expose())),
            Credential::Bearer(text) => match principal.method {
                AuthMethod::ApiKey => Proof::Hash(StoredHash::of_api_key(text.expose())),
                AuthMethod::Token { .. } | AuthMethod::Password => Proof::Hash(StoredHash::of_token(text.expose())),
            },
            Credential::Password { user, .. } => {
                Proof::Password(self.identities.user_get(user).await?.and_then(|row| row.password_hash))
            }
        };
        Ok(Session { proof, principal: principal.clone() })
    }

    /// Does what a long request began with still count? While the store is away, it does.
    pub(super) async fn still_admits(&self, session: &Session) -> bool {
        let Session { proof, principal } = session;
        let found = match (proof, principal.method) {
            (Proof::Hash(hash), AuthMethod::ApiKey) => self.look_up_key(hash).await,
            (Proof::Hash(hash), AuthMethod::Token { .. } | AuthMethod::Password) => self.look_up_token(hash).await,
            (Proof::Password(stored), _) => self.look_up_password(&principal.name, stored.as_deref()).await,
        };
        match found {
            Ok(found) => found.is_some_and(|found| found.role == principal.role),
            Err(problem) => {
                tracing::debug!(%problem, user = principal.name, "cannot ask whether a credential still counts");
                true
            }
        }
    }

    async fn look_up_password(&self, user: &str, stored: Option<&str>) -> Result<Option<Principal>, StoreError> {
        let row = self.identities.user_get(user).await?;
        let is_same = row.is_some_and(|row| row.password_hash.as_deref() == stored);
        let role = if is_same { self.role_of(user).await? } else { None };
        Ok(role.map(|role| Principal { name: user.to_owned(), role, method: AuthMethod::Password }))
    }
}

fn refused(problem: CredentialError) -> ApiError {
    ApiError::unauthorized(format!("Unauthorized - {problem}"))
}

/// How a long request began: enough to ask again whether it may go on, and nothing that opens a door.
#[derive(Debug, Clone)]
pub(super) struct Session {
    proof: Proof,
    principal: Principal,
}

#[derive(Debug, Clone)]
enum Proof {
    /// Of a token or an API key.
    Hash(StoredHash),
    /// What the password was checked against.
    Password(Option<String>),
}

/// In whose name something is requested, and with whose rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Behalf {
    pub(super) user: String,
    pub(super) role: Role,
}

impl Behalf {
    pub(super) fn requester(&self) -> Requester {
        Requester::User { name: self.user.clone(), role: self.role }
    }
}

/// Somebody whose credentials were checked. Taking it as an argument is what closes a handler's door.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who.
    pub principal: Principal,
    /// Where their credential stood.
    pub location: Location,
    session: Session,
    gate: Gate,
}

impl Authenticated {
    /// The caller, or the user in whose name it asks to act. Rights never grow by that: they are the lesser ones of
    /// both, as far as Petrel knows the other user.
    pub(super) async fn on_behalf_of(&self, user: Option<String>) -> ApiResult<Behalf> {
        let Principal { name, role, .. } = &self.principal;
        let Some(user) = user.filter(|user| !user.is_empty() && user != name) else {
            return Ok(Behalf { user: name.clone(), role: *role });
        };
        if !self.gate.may_act_as(&self.principal) {
            return Err(ApiError::forbidden(format!(
                "`{name}` may not act as `{user}`: leave out `user`, or let an admin add `{name}` to auth.act_as"
            )));
        }
        let known = self.gate.role_of(&user).await?;
        Ok(Behalf { user, role: known.map_or(*role, |known| known.min(*role)) })
    }

    /// How this request began.
    pub(super) const fn session(&self) -> &Session {
        &self.session
    }

    /// Who checked it.
    pub(super) const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Only on with that permission.
    pub fn require(&self, permission: Permission) -> ApiResult<()> {
        if self.principal.may(permission) {
            return Ok(());
        }
        let Principal { name, role, .. } = &self.principal;
        Err(ApiError::forbidden(format!("`{name}` may not do this: the role {role} lacks the permission {permission}")))
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
    let client = Client::of(request.extensions());
    let admitted = match gate.clone().admit(request.headers(), &query, &client).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            discard_body(request, &*gate.clock).await;
            return refusal.into_response();
        }
    };
    if let Err(refusal) = check_forgery(&admitted, &request).and_then(|()| admitted.require(Permission::View)) {
        return refusal.into_response();
    }
    request.extensions_mut().insert(admitted);
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// The layer before routes that know their senders themselves, by signed bodies: each is read within the budget of those who
/// are not known, and is held until it is answered.
pub(super) async fn read_for_guest(request: Request, next: Next) -> Response {
    let client = Client::of(request.extensions());
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let (bytes, _held) = match read_body(whole).await {
        Ok(read) => read,
        Err(refusal) => return refusal.into_response(),
    };
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    if response.status().is_success() {
        client.become_known();
    }
    response
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
