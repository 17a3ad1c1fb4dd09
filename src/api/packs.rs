//! `/packs`, `/policies`, `/sensortypes`, `/actionalias`: what is loaded, to be looked at.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::body::{Path, Query};
use crate::api::content::{content_id, find, object};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::model::pack::{Alias, Catalogue, OverThreshold, Pack, Policy, PolicyRule, RetryOn};
use crate::model::trigger::{Sensor, SensorSource};

type Door = watch::Receiver<Arc<Catalogue>>;

pub(super) fn router(catalogue: Door) -> Router {
    Router::new()
        .route("/packs", get(list))
        .route("/packs/{pack}", get(show))
        .route("/policies", get(list_policies))
        .route("/policies/{policy}", get(show_policy))
        .route("/sensortypes", get(list_sensors))
        .route("/sensortypes/{sensor}", get(show_sensor))
        .route("/actionalias", get(list_aliases))
        .route("/actionalias/{alias}", get(show_alias))
        .with_state(catalogue)
}

fn now(door: &Door) -> Arc<Catalogue> {
    Arc::clone(&door.borrow())
}

async fn list(State(door): State<Door>, _caller: Authenticated, Query(query): Query<ListQuery>) -> ApiResult<Response> {
    query.cut(now(&door).packs.values().map(|pack| shown_pack(pack)).collect())
}

async fn show(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let catalogue = now(&door);
    let pack = catalogue.packs.get(&named);
    let pack = pack.ok_or_else(|| ApiError::not_found(format!("pack `{named}` does not exist")))?;
    query.single(shown_pack(pack))
}

fn shown_pack(pack: &Pack) -> Value {
    let uid = format!("pack:{}", pack.reference);
    json!({
        "id": content_id(&uid), "uid": uid, "ref": pack.reference, "name": pack.name, "version": pack.version,
        "description": pack.description, "author": pack.author, "email": pack.email, "keywords": pack.keywords,
        "dependencies": pack.dependencies, "path": pack.path,
    })
}

async fn list_policies(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let catalogue = now(&door);
    query.cut(catalogue.policies.values().map(|policy| shown_policy(policy, &catalogue)).collect())
}

async fn show_policy(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
) -> ApiResult<Json<Value>> {
    let catalogue = now(&door);
    Ok(Json(shown_policy(find(&catalogue.policies, &named)?.1, &catalogue)))
}

fn shown_policy(policy: &Policy, catalogue: &Catalogue) -> Value {
    let (kind, parameters) = match &policy.rule {
        PolicyRule::Concurrency { threshold, attributes, over } => {
            let kind = if attributes.is_empty() { "action.concurrency" } else { "action.concurrency.attr" };
            let over = match over {
                OverThreshold::Delay => "delay",
                OverThreshold::Cancel => "cancel",
            };
            (kind, json!({ "threshold": threshold, "attributes": attributes, "action": over }))
        }
        PolicyRule::Retry { on, max_retry_count, delay } => {
            let on = match on {
                RetryOn::Failure => "failure",
                RetryOn::Timeout => "timeout",
            };
            ("action.retry", json!({ "retry_on": on, "max_retry_count": max_retry_count, "delay": delay.as_secs() }))
        }
    };
    let own = json!({
        "enabled": policy.enabled, "resource_ref": policy.resource, "policy_type": kind, "parameters": parameters,
        "metadata_file": policy.metadata_file,
    });
    object(&policy.reference, catalogue.broken.get(&policy.reference.uid()), own)
}

async fn list_sensors(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let catalogue = now(&door);
    query.cut(catalogue.sensors.values().map(|sensor| shown_sensor(sensor, &catalogue)).collect())
}

async fn show_sensor(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
) -> ApiResult<Json<Value>> {
    let catalogue = now(&door);
    Ok(Json(shown_sensor(find(&catalogue.sensors, &named)?.1, &catalogue)))
}

fn shown_sensor(sensor: &Sensor, catalogue: &Catalogue) -> Value {
    let source = match &sensor.source {
        SensorSource::Webhook(hook) => json!({ "kind": "webhook", "path": hook.path, "listener": hook.listener }),
        SensorSource::Polling(poll) => json!({ "kind": "polling", "poll_interval": poll.every.as_secs() }),
        SensorSource::Python { class_name } => json!({ "kind": "python", "class_name": class_name }),
    };
    let own = json!({
        "description": sensor.description, "enabled": sensor.enabled, "source": source,
        "trigger_types": sensor.trigger_types, "metadata_file": sensor.metadata_file,
    });
    object(&sensor.reference, catalogue.broken.get(&sensor.reference.uid()), own)
}

async fn list_aliases(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let catalogue = now(&door);
    query.cut(catalogue.aliases.values().map(|alias| shown_alias(alias, &catalogue)).collect())
}

async fn show_alias(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
) -> ApiResult<Json<Value>> {
    let catalogue = now(&door);
    Ok(Json(shown_alias(find(&catalogue.aliases, &named)?.1, &catalogue)))
}

/// An alias is shown as it was written, with what was understood of it over that.
fn shown_alias(alias: &Alias, catalogue: &Catalogue) -> Value {
    let mut own = alias.metadata.clone();
    own["description"] = json!(alias.description);
    own["enabled"] = json!(alias.enabled);
    own["action_ref"] = json!(alias.action);
    own["metadata_file"] = json!(alias.metadata_file);
    object(&alias.reference, catalogue.broken.get(&alias.reference.uid()), own)
}
