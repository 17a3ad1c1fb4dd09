//! `/webhooks`: events from outside. What a listener of a sensor needs as well (who sent it, which repetition it is,
//! what of its headers may be kept) is public here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};

use crate::api::body::{Path, Query, parse};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::{Authenticated, Gate};
use crate::api::known::TRUSTED_WHILE_AWAY;
use crate::api::limits::{Bucket, within_rate};
use crate::api::listen::{Client, Held, discard_body, read_body};
use crate::api::listing::ListQuery;
use crate::api::triggers::{awaited, shown_trigger};
use crate::auth::{HookRequest, Permission, Principal, Refusal, Verifier, WebhookAuth, Withheld};
use crate::clock::Clock;
use crate::config::Webhooks;
use crate::datastore::{Datastore, SYSTEM_SCOPE};
use crate::intake::{Heard, Intake, Receipt, Seen};
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;
use crate::model::refs::TriggerTypeRef;
use crate::model::trigger::{Sensor, Trigger};
use crate::schema::Schema;
use crate::secrets::SecretText;
use crate::sensors::body::BodyLimits;
use crate::sensors::hooks::Hooks;
use crate::sensors::mapping::WebhookRequest;
use crate::store::StoreError;

/// The trigger type that rules name to get a webhook.
pub const WEBHOOK_TRIGGER: &str = "core.st2.webhook";

/// Headers by which sources mark a repetition of the same delivery.
const DELIVERY_IDS: [&str; 5] =
    ["idempotency-key", "x-github-delivery", "x-gitlab-event-uuid", "x-request-uuid", "ce-id"];

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    pub(super) senders: Senders,
    pub(super) intake: Intake,
    pub(super) limits: BodyLimits,
    pub(super) metrics: Metrics,
    /// Events that may wait to be made durable.
    pub(super) places: Arc<Semaphore>,
    /// Of those who were let in.
    pub(super) rate: Bucket,
    pub(super) hooks: HookIndex,
    /// Webhooks that packs declare without a listener of their own.
    pub(super) sensors: Arc<Hooks>,
}

/// Webhooks authenticate by themselves: their routes stand before the gate.
pub(super) fn router(door: Door) -> Router {
    let door = Arc::new(door);
    Router::new().route("/webhooks/st2", post(inject)).route("/webhooks/{*url}", post(receive)).with_state(door)
}

/// The list stands behind the gate.
pub(super) fn list_router(catalogue: watch::Receiver<Arc<Catalogue>>) -> Router {
    Router::new().route("/webhooks", get(list)).with_state(catalogue)
}

async fn list(
    State(catalogue): State<watch::Receiver<Arc<Catalogue>>>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let catalogue = Arc::clone(&catalogue.borrow());
    let shown = |trigger: &Trigger| {
        let mut shown = shown_trigger(trigger);
        shown["url"] = json!(url_of(trigger));
        shown
    };
    // StackStorm's client reads `parameters.url` whatever attributes it asked for.
    query.whole(awaited(&catalogue, is_webhook).into_iter().map(shown).collect())
}

fn is_webhook(trigger: &Trigger) -> bool {
    trigger.trigger_type.as_str() == WEBHOOK_TRIGGER
}

fn url_of(trigger: &Trigger) -> &str {
    trigger.parameters.get("url").and_then(Value::as_str).unwrap_or_default().trim_matches('/')
}

/// The triggers that rules wait for by their webhook's path, found anew when the catalogue changes.
#[derive(Debug, Clone, Default)]
pub(super) struct HookIndex(Arc<Mutex<Option<Indexed>>>);

#[derive(Debug)]
struct Indexed {
    of: Arc<Catalogue>,
    by_url: HashMap<String, Vec<String>>,
}

impl HookIndex {
    /// Identities of the triggers that wait for this path.
    fn triggers(&self, catalogue: &Arc<Catalogue>, url: &str) -> Vec<String> {
        let mut indexed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match &mut *indexed {
            Some(known) if Arc::ptr_eq(&known.of, catalogue) => known,
            outdated => outdated.insert(Indexed::of(catalogue)),
        };
        current.by_url.get(url).cloned().unwrap_or_default()
    }
}

impl Indexed {
    fn of(catalogue: &Arc<Catalogue>) -> Self {
        let mut by_url: HashMap<String, Vec<String>> = HashMap::new();
        for trigger in awaited(catalogue, is_webhook) {
            by_url.entry(url_of(trigger).to_owned()).or_default().push(trigger.identity());
        }
        Self { of: Arc::clone(catalogue), by_url }
    }
}

async fn receive(State(door): State<Arc<Door>>, Path(url): Path<String>, request: Request) -> Response {
    let url = url.trim_matches('/');
    let taken = door.receive(url, request).await;
    answer(&door, url, taken)
}

async fn inject(State(door): State<Arc<Door>>, request: Request) -> Response {
    answer(&door, "", door.inject(request).await)
}

/// What was made durable, and the body as it is said back, in JSON.
struct Taken {
    body: String,
    receipts: Vec<Receipt>,
}

/// 202 with the body that came and the first instance's id; what is refused is counted and noted.
fn answer(door: &Door, url: &str, taken: ApiResult<Taken>) -> Response {
    match taken {
        Ok(Taken { body, receipts }) => {
            for receipt in &receipts {
                door.metrics.event_accepted("webhook", *receipt);
            }
            let mut response = (StatusCode::ACCEPTED, [(CONTENT_TYPE, "application/json")], body).into_response();
            let first = receipts.first().map(|receipt| receipt.instance().to_string());
            if let Some(id) = first.and_then(|id| HeaderValue::from_str(&id).ok()) {
                response.headers_mut().insert(HeaderName::from_static("x-trigger-instance-id"), id);
            }
            response
        }
        Err(refusal) => {
            door.metrics.event_refused("webhook", refusal.status().as_u16());
            refusal.note("webhooks", url, &door.senders.withheld);
            refusal.into_response()
        }
    }
}

impl Door {
    async fn receive(&self, url: &str, request: Request) -> ApiResult<Taken> {
        let delivery = self.senders.admit_to_webhook(url, request).await?;
        within_rate(&self.rate)?;
        let catalogue = Arc::clone(&self.catalogue.borrow());
        let triggers = self.hooks.triggers(&catalogue, url);
        if let (true, Some(sensor)) = (triggers.is_empty(), self.sensors.find(None, url)) {
            return self.receive_for(&sensor, &delivery).await;
        }
        if triggers.is_empty() {
            return Err(unknown(&catalogue, format!("Webhook {url} not registered with st2")));
        }
        let body = parse(&delivery.headers, &delivery.body, self.limits)?;
        let said_back = body.to_string();
        let payload = payload(&delivery.headers, body);
        let trigger_type: TriggerTypeRef = WEBHOOK_TRIGGER.parse().map_err(|problem| ApiError::internal(&problem))?;
        let (delivery_id, trace_tag) = (delivery_id(&delivery.headers), trace_tag(&delivery.headers));
        let payloads = std::iter::repeat_n(payload, triggers.len());
        let seen = triggers.into_iter().zip(payloads).map(|(trigger, payload)| Seen {
            dedupe_key: delivery_id.as_ref().map(|id| format!("{trigger} {id}")),
            trace_tag: trace_tag.clone(),
            trigger,
            ..Seen::of_type(trigger_type.clone(), payload)
        });
        let receipts = self.accept(seen.map(Heard::Happened).collect()).await?;
        Ok(Taken { body: said_back, receipts })
    }

    /// For a pack's sensor, whose script says what the request means.
    async fn receive_for(&self, sensor: &Sensor, delivery: &Delivery) -> ApiResult<Taken> {
        let body = parse(&delivery.headers, &delivery.body, self.limits)?;
        let said_back = body.to_string();
        let request = delivery.as_request(body);
        Ok(Taken { body: said_back, receipts: self.sensors.receive(sensor, &request).await? })
    }

    /// Any trigger by its reference: for somebody who may emit, whatever the door's own webhooks ask for.
    async fn inject(&self, request: Request) -> ApiResult<Taken> {
        let (caller, delivery) = self.senders.admit_to_inject(request).await?;
        within_rate(&self.rate)?;
        let body = parse(&delivery.headers, &delivery.body, self.limits)?;
        let said_back = body.to_string();
        let wanted: Injected = serde_json::from_value(body).map_err(|problem| {
            ApiError::bad_request(format!("write {{\"trigger\": REF, \"payload\": {{}}}}: {problem}"))
        })?;
        let needed = Permission::to_emit(wanted.trigger.as_str());
        if !caller.may(needed) {
            let (name, trigger) = (&caller.name, &wanted.trigger);
            return Err(ApiError::forbidden(format!("`{name}` may not emit `{trigger}`: it lacks {needed}")));
        }
        let catalogue = Arc::clone(&self.catalogue.borrow());
        let kind = catalogue.trigger_types.get(&wanted.trigger);
        let missing = || unknown(&catalogue, format!("trigger type `{}` does not exist", wanted.trigger));
        let kind = kind.ok_or_else(missing)?;
        let payload = Value::Object(wanted.payload);
        check_payload(&kind.payload_schema, &payload)?;
        let seen = Seen {
            trace_tag: wanted.trace_tag.or_else(|| trace_tag(&delivery.headers)),
            dedupe_key: delivery_id(&delivery.headers),
            ..Seen::of_type(wanted.trigger, payload)
        };
        Ok(Taken { body: said_back, receipts: self.accept(vec![Heard::Happened(seen)]).await? })
    }

    async fn accept(&self, heard: Vec<Heard>) -> ApiResult<Vec<Receipt>> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(ApiError::too_many("too many events wait to be stored", Duration::from_secs(1)));
        };
        Ok(self.intake.accept_all(heard).await?)
    }
}

/// 404 for what is known not to exist; a source that is told so gives up. Before anything is loaded, nothing is known.
pub(super) fn unknown(catalogue: &Catalogue, fault: String) -> ApiError {
    if catalogue.version == 0 {
        return ApiError::unavailable("packs and rules are not loaded yet");
    }
    ApiError::not_found(fault)
}

/// The body of `/webhooks/st2`.
#[derive(Debug, Deserialize)]
struct Injected {
    trigger: TriggerTypeRef,
    #[serde(default)]
    payload: Map<String, Value>,
    trace_tag: Option<String>,
}

fn check_payload(schema: &Value, payload: &Value) -> ApiResult<()> {
    if schema.is_null() {
        return Ok(());
    }
    let schema = Schema::compile(schema).map_err(|problem| ApiError::conflict(format!("payload_schema: {problem}")))?;
    schema.validate(payload).map_err(|violations| {
        let words: Vec<String> = violations.iter().map(ToString::to_string).collect();
        ApiError::bad_request(format!("the payload does not fit: {}", words.join("; ")))
    })
}

/// A request of a webhook whose sender is known, without what it was known by.
#[derive(Debug)]
pub struct Delivery {
    /// Without credentials.
    pub headers: HeaderMap,
    /// Without credentials.
    query: Vec<(String, String)>,
    /// Without credentials, and without slashes at its ends.
    path: String,
    /// As it came.
    pub body: Bytes,
    /// Its part of the budget for bodies.
    _held: Option<Held>,
}

impl Delivery {
    /// As the scripts of packs see it.
    pub fn as_request(&self, body: Value) -> WebhookRequest {
        let content_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        WebhookRequest {
            method: "POST".to_owned(),
            path: self.path.clone(),
            headers: header_texts(&self.headers),
            query: self.query.iter().cloned().collect(),
            body,
            content_type: content_type.map(str::to_owned),
        }
    }
}

/// Knows senders: by the installation's own keys, or as a webhook or listener is configured.
#[derive(Clone)]
pub struct Senders {
    gate: Gate,
    datastore: Datastore,
    webhooks: Arc<Webhooks>,
    clock: Arc<dyn Clock>,
    pub(super) withheld: Arc<Withheld>,
    /// Secrets of webhooks as they were last read, and when: for the time when the store is away.
    secrets: Arc<Mutex<HashMap<String, (SecretText, Duration)>>>,
}

impl std::fmt::Debug for Senders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Senders")
    }
}

impl Senders {
    /// With the configuration's `[webhooks]`, and what is withheld of every request.
    pub fn new(
        gate: Gate,
        datastore: Datastore,
        webhooks: Arc<Webhooks>,
        withheld: Arc<Withheld>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { gate, datastore, webhooks, clock, withheld, secrets: Arc::default() }
    }

    /// The delivery in this request, if it may come in at the webhook `path`.
    pub(super) async fn admit_to_webhook(&self, path: &str, request: Request) -> ApiResult<Delivery> {
        self.admit(self.webhooks.auth_of(path), path, request).await
    }

    /// The delivery in this request, if it may come in where senders are known by `auth`. The body is read after the
    /// sender is known; where it is signed, within the budget of strangers.
    pub(super) async fn admit(&self, auth: &WebhookAuth, path: &str, mut request: Request) -> ApiResult<Delivery> {
        let client = Client::of(request.extensions());
        let (headers, query) = (request.headers().clone(), query_of(&request));
        let verifier = match self.check_head(auth, &headers, &query, &client).await {
            Ok(verifier) => verifier,
            Err(refusal) => {
                discard_body(request, &*self.clock).await;
                return Err(refusal);
            }
        };
        request.extensions_mut().insert(client.clone());
        let (body, held) = read_body(request).await?;
        let mut held = Some(held);
        if matches!(verifier, Verifier::Hmac(_)) {
            let signed =
                HookRequest { headers: &headers, query: &query, body: &body, now: self.clock.now(), principal: None };
            verifier.verify(&signed).map_err(|refusal| self.refused(&refusal, &client))?;
            client.become_known();
            held = None;
        }
        Ok(self.clean(path, &headers, &query, body, held))
    }

    /// The delivery in this request, if its sender may emit any trigger.
    async fn admit_to_inject(&self, mut request: Request) -> ApiResult<(Principal, Delivery)> {
        let client = Client::of(request.extensions());
        let (headers, query) = (request.headers().clone(), query_of(&request));
        let caller = self.gate.authenticate(&headers, &query, &client).await.and_then(|(caller, _)| {
            if caller.may(Permission::TriggerEmit) {
                return Ok(caller);
            }
            Err(ApiError::forbidden(format!("`{}` may not emit triggers: that needs operator", caller.name)))
        });
        let caller = match caller {
            Ok(caller) => caller,
            Err(refusal) => {
                discard_body(request, &*self.clock).await;
                return Err(refusal);
            }
        };
        request.extensions_mut().insert(client);
        let (body, held) = read_body(request).await?;
        Ok((caller, self.clean("", &headers, &query, body, Some(held))))
    }

    /// All that can be checked before the body is read.
    async fn check_head(
        &self,
        auth: &WebhookAuth,
        headers: &HeaderMap,
        query: &str,
        client: &Client,
    ) -> ApiResult<Verifier> {
        let secret = match auth.datastore_key() {
            Some(key) => self.secret(key).await?,
            None => None,
        };
        let verifier = auth
            .resolve(|_| secret.map(|secret| secret.expose().to_owned()))
            .map_err(|problem| ApiError::unavailable(problem.to_string()))?;
        let principal = self.principal(auth, headers, query, client).await?;
        let head = HookRequest { headers, query, body: b"", now: self.clock.now(), principal: principal.as_ref() };
        verifier.verify_head(&head).map_err(|refusal| self.refused(&refusal, client))?;
        if matches!(verifier, Verifier::ApiKey | Verifier::SharedToken { .. } | Verifier::Basic { .. }) {
            client.become_known();
        }
        Ok(verifier)
    }

    fn refused(&self, refusal: &Refusal, client: &Client) -> ApiError {
        match refusal {
            Refusal::NotAllowed { .. } => return ApiError::forbidden(refusal.to_string()),
            Refusal::NoPrincipal | Refusal::Missing { .. } => {}
            Refusal::Malformed { .. } | Refusal::Mismatch { .. } | Refusal::Replayed { .. } => {
                self.gate.note_unknown_sender(client);
            }
        }
        ApiError::unauthorized(format!("Unauthorized - {refusal}"))
    }

    fn clean(&self, path: &str, headers: &HeaderMap, query: &str, body: Bytes, held: Option<Held>) -> Delivery {
        let withheld = self.withheld.of_request(headers, query, self.all_remembered());
        Delivery {
            headers: withheld.clean_headers(headers),
            query: withheld.clean_query(query),
            path: withheld.clean_text(path),
            body,
            _held: held,
        }
    }

    /// Only where keys of this installation are asked for are they looked up.
    async fn principal(
        &self,
        auth: &WebhookAuth,
        headers: &HeaderMap,
        query: &str,
        client: &Client,
    ) -> ApiResult<Option<Principal>> {
        if *auth != WebhookAuth::ApiKey {
            return Ok(None);
        }
        self.gate.authenticate_if_shown(headers, query, client).await
    }

    async fn secret(&self, key: &str) -> ApiResult<Option<SecretText>> {
        let row = match self.datastore.get(SYSTEM_SCOPE, key).await {
            Err(StoreError::Unavailable(why)) => {
                let remembered = self.remembered(key).ok_or(StoreError::Unavailable(why))?;
                return Ok(Some(remembered));
            }
            other => other?,
        };
        let opened =
            row.map(|row| self.datastore.open(&row)).transpose().map_err(|problem| ApiError::internal(&problem));
        let secret = opened?.map(SecretText::new);
        self.remember(key, secret.as_ref());
        Ok(secret)
    }

    fn remembered(&self, key: &str) -> Option<SecretText> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let (secret, read) = secrets.get(key)?;
        (self.clock.monotonic().saturating_sub(*read) <= TRUSTED_WHILE_AWAY).then(|| secret.clone())
    }

    /// Every secret that was read from the datastore, of whichever webhook.
    fn all_remembered(&self) -> Vec<SecretText> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.values().map(|(secret, _)| secret.clone()).collect()
    }

    /// There are no more of them than the configuration names.
    fn remember(&self, key: &str, secret: Option<&SecretText>) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        match secret {
            Some(secret) => drop(secrets.insert(key.to_owned(), (secret.clone(), self.clock.monotonic()))),
            None => drop(secrets.remove(key)),
        }
    }
}

fn query_of(request: &Request) -> String {
    request.uri().query().unwrap_or_default().to_owned()
}

/// The payload of `core.st2.webhook`.
fn payload(headers: &HeaderMap, body: Value) -> Value {
    let kept = header_texts(headers);
    let shown: Map<String, Value> = kept.iter().map(|(name, value)| (title_case(name), value.clone().into())).collect();
    let lower: Map<String, Value> = kept.into_iter().map(|(name, value)| (name, value.into())).collect();
    let parts = [("headers", shown.into()), ("headers_lower", lower.into()), ("body", body)];
    parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect()
}

/// The headers of a delivery by lower-case name.
fn header_texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// HTTP does not care for the case of names, rules do: `content-type` is shown as `Content-Type`.
fn title_case(name: &str) -> String {
    let mut after_dash = true;
    let raise = |c: char| {
        let raised = if after_dash { c.to_ascii_uppercase() } else { c };
        after_dash = c == '-';
        raised
    };
    name.chars().map(raise).collect()
}

/// What the source marks a repetition of this delivery with, if it does.
fn delivery_id(headers: &HeaderMap) -> Option<String> {
    DELIVERY_IDS.iter().find_map(|name| header_text(headers, name))
}

/// The tag that follows the event, if the source gives one.
fn trace_tag(headers: &HeaderMap) -> Option<String> {
    header_text(headers, "st2-trace-tag")
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
