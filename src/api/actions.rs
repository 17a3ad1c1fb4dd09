//! `/actions` and `/runnertypes`: what can be run, and with which parameters.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::{Path, Query};
use crate::api::content::{content_id, find, object, parameters, tags};
use crate::api::error::ApiResult;
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::dispatch::Dispatcher;
use crate::model::action::{Action, OnLost};
use crate::model::pack::Catalogue;
use crate::runners::Runner;

/// The dispatcher knows both the catalogue and the runners.
type Door = Arc<Dispatcher>;

pub(super) fn router(dispatcher: Door) -> Router {
    Router::new()
        .route("/actions", get(list))
        .route("/actions/{action}", get(show))
        .route("/runnertypes", get(list_runners))
        .with_state(dispatcher)
}

#[derive(Debug, Deserialize)]
struct Filter {
    pack: Option<String>,
    name: Option<String>,
}

async fn list(
    State(dispatcher): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let catalogue = dispatcher.catalogue();
    let fits = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    let wanted = catalogue
        .actions
        .values()
        .filter(|action| fits(&filter.pack, action.reference.pack()) && fits(&filter.name, action.reference.name()));
    query.cut(wanted.map(|action| shown(action, &catalogue)).collect())
}

async fn show(
    State(dispatcher): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let catalogue = dispatcher.catalogue();
    let (_, action) = find(&catalogue.actions, &named)?;
    query.single(shown(action, &catalogue))
}

fn shown(action: &Action, catalogue: &Catalogue) -> Value {
    let on_lost = match action.on_lost {
        OnLost::Fail => "fail",
        OnLost::Retry => "retry",
    };
    let own = json!({
        "description": action.description,
        "enabled": action.enabled,
        "runner_type": action.runner,
        "entry_point": action.entry_point.file_name().map(|name| name.to_string_lossy()),
        "parameters": parameters(&action.parameters),
        "output_schema": parameters(&action.output_schema),
        "tags": tags(&action.tags),
        "notify": action.notify,
        "on_lost": on_lost,
        "metadata_file": action.metadata_file,
    });
    object(&action.reference, catalogue.broken.get(&action.reference.uid()), own)
}

async fn list_runners(
    State(dispatcher): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let registry = dispatcher.registry();
    let wanted = registry.names().into_iter().filter(|name| filter.name.as_deref().is_none_or(|only| only == *name));
    query.cut(wanted.filter_map(|name| registry.get(name)).map(|runner| shown_runner(&**runner)).collect())
}

fn shown_runner(runner: &dyn Runner) -> Value {
    let uid = format!("runner_type:{}", runner.name());
    json!({
        "id": content_id(&uid),
        "uid": uid,
        "name": runner.name(),
        "enabled": true,
        "runner_parameters": parameters(&runner.parameters()),
    })
}
