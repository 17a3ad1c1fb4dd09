//! `/triggertypes`, `/triggerinstances`, `/timers`: what can happen, what happened, and letting it happen again.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::body::{Path, Query};
use crate::api::content::{content_id, find, object};
use crate::api::error::ApiResult;
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::auth::Permission;
use crate::intake::{Intake, Seen};
use crate::model::pack::Catalogue;
use crate::model::refs::{InstanceId, TriggerTypeRef};
use crate::model::time::Timestamp;
use crate::model::trigger::{Trigger, TriggerInstance, TriggerType};
use crate::store::events::InstanceFilter;
use crate::store::suspects::Subject;
use crate::store::{Events, Suspects};

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    pub(super) events: Events,
    pub(super) intake: Intake,
    pub(super) suspects: Suspects,
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/triggertypes", get(list_types))
        .route("/triggertypes/{trigger_type}", get(show_type))
        .route("/triggerinstances", get(list))
        .route("/triggerinstances/{instance}", get(show))
        .route("/triggerinstances/{instance}/re_emit", post(re_emit))
        .route("/timers", get(list_timers))
        .with_state(door)
}

#[derive(Debug, Deserialize)]
struct TypeFilter {
    pack: Option<String>,
}

async fn list_types(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<TypeFilter>,
) -> ApiResult<Response> {
    let catalogue = Arc::clone(&door.catalogue.borrow());
    let of_pack = |kind: &&Arc<TriggerType>| filter.pack.as_deref().is_none_or(|pack| pack == kind.reference.pack());
    query.cut(catalogue.trigger_types.values().filter(of_pack).map(|kind| shown_type(kind)).collect())
}

async fn show_type(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let catalogue = Arc::clone(&door.catalogue.borrow());
    query.single(shown_type(find(&catalogue.trigger_types, &named)?.1))
}

fn shown_type(kind: &TriggerType) -> Value {
    let own = json!({
        "description": kind.description,
        "payload_schema": kind.payload_schema,
        "parameters_schema": kind.parameters_schema,
        "metadata_file": kind.metadata_file,
        "tags": [],
    });
    object(&kind.reference, None, own)
}

#[derive(Debug, Deserialize)]
struct Filter {
    trigger: Option<TriggerTypeRef>,
    trigger_type: Option<TriggerTypeRef>,
    status: Option<String>,
    timestamp_gt: Option<Timestamp>,
    timestamp_lt: Option<Timestamp>,
}

async fn list(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let page = query.page(100)?;
    let filter = InstanceFilter {
        trigger_type: filter.trigger.or(filter.trigger_type),
        status: filter.status,
        after: filter.timestamp_gt,
        before: filter.timestamp_lt,
    };
    let (rows, total) = door.events.instance_list(&filter, page).await?;
    query.answer(rows.iter().map(shown).collect(), total, page)
}

async fn show(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(id): Path<InstanceId>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let mut shown = shown(&door.events.instance_get(id).await?);
    if let Some(reason) = door.suspects.suspect_reason(Subject::Instance(id)).await? {
        shown["failure_reason"] = json!(reason);
    }
    query.single(shown)
}

fn shown(instance: &TriggerInstance) -> Value {
    json!({
        "id": instance.id,
        "trigger": instance.trigger_type,
        "payload": instance.payload,
        "occurrence_time": instance.occurred_at,
        "status": instance.status,
        "trace_tag": instance.trace_tag,
    })
}

/// Lets the same happen once more, as an instance of its own that names the first.
async fn re_emit(
    State(door): State<Door>,
    caller: Authenticated,
    Path(id): Path<InstanceId>,
) -> ApiResult<Json<Value>> {
    caller.require(Permission::TriggerEmit)?;
    let old = door.events.instance_get(id).await?;
    let needed = Permission::to_emit(old.trigger_type.as_str());
    caller.change(needed, "trigger_instance.re_emit", &id.to_string(), Value::Null).await?;
    let mut payload = old.payload;
    if let Value::Object(members) = &mut payload {
        members.insert("__context".to_owned(), json!({ "original_id": id }));
    }
    let seen = Seen {
        trigger: old.trigger,
        trace_tag: Some(old.trace_tag),
        ..Seen::of_type(old.trigger_type, payload.clone())
    };
    let receipt = door.intake.accept(seen).await?;
    Ok(Json(json!({
        "message": format!("Trigger instance {id} succesfully re-sent."),
        "id": receipt.instance(),
        "payload": payload,
    })))
}

#[derive(Debug, Deserialize)]
struct TimerFilter {
    timer_type: Option<String>,
}

async fn list_timers(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<TimerFilter>,
) -> ApiResult<Response> {
    let catalogue = Arc::clone(&door.catalogue.borrow());
    let is_timer = |trigger: &Trigger| {
        let kind = trigger.trigger_type.as_str();
        kind.starts_with("core.st2.")
            && kind.ends_with("Timer")
            && filter.timer_type.as_deref().is_none_or(|it| it == kind)
    };
    query.cut(awaited(&catalogue, is_timer).into_iter().map(shown_trigger).collect())
}

/// The triggers that enabled rules wait for, each once.
pub(super) fn awaited(catalogue: &Catalogue, wanted: impl Fn(&Trigger) -> bool) -> Vec<&Trigger> {
    let mut found: Vec<&Trigger> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for rule in catalogue.rules.values().filter(|rule| rule.enabled && wanted(&rule.trigger)) {
        if seen.insert(rule.trigger.identity()) {
            found.push(&rule.trigger);
        }
    }
    found
}

/// A trigger as clients see it: its type with parameters.
pub(super) fn shown_trigger(trigger: &Trigger) -> Value {
    let uid = format!("trigger:{}", trigger.identity());
    json!({
        "id": content_id(&uid),
        "uid": uid,
        "ref": trigger.trigger_type,
        "name": trigger.trigger_type.name(),
        "pack": trigger.trigger_type.pack(),
        "type": trigger.trigger_type,
        "parameters": trigger.parameters,
    })
}
