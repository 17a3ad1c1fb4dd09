//! `/actionalias/match`, `/actionalias/help`, `/aliasexecution`: how bots and the command line speak to chat's desk.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::body::{JsonBody, Query};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::{Authenticated, Behalf};
use crate::api::shape::{Secrets, Shaper};
use crate::auth::Permission;
use crate::chat::alias::ChatAlias;
use crate::chat::desk::{Begun, Desk, Refusal, Speaker};
use crate::chat::format::Format;
use crate::model::refs::AliasRef;
use crate::store::Executions;

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) desk: Desk,
    pub(super) executions: Executions,
    pub(super) shaper: Shaper,
}

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/actionalias/match", post(find))
        .route("/actionalias/help", get(help))
        .route("/aliasexecution", post(execute))
        .route("/aliasexecution/match_and_execute", post(match_and_execute))
        .with_state(door)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoCommand(_)
            | Refusal::NoAlias(_)
            | Refusal::OtherFormat { .. }
            | Refusal::Fixed(_)
            | Refusal::OwnParameters(_) => Self::bad_request(refusal.to_string()),
            Refusal::NotYou(_) | Refusal::NoUser(_) => Self::forbidden(refusal.to_string()),
            Refusal::AreYouSure { .. } => Self::conflict(refusal.to_string()),
            Refusal::Request(problem) => problem.into(),
            Refusal::Store(problem) => problem.into(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Line {
    command: String,
}

async fn find(
    State(door): State<Door>,
    _caller: Authenticated,
    JsonBody(line): JsonBody<Line>,
) -> ApiResult<Json<Value>> {
    let found = door.desk.book().find(line.command.trim().trim_start_matches('!')).map_err(Refusal::from)?;
    let (alias, given) = (shown(&found.alias), found.given);
    Ok(Json(json!({
        "actionalias": alias, "display": found.display, "representation": found.representation, "parameters": given,
    })))
}

#[derive(Debug, Deserialize)]
struct HelpQuery {
    filter: Option<String>,
    pack: Option<String>,
}

async fn help(State(door): State<Door>, _caller: Authenticated, Query(query): Query<HelpQuery>) -> Json<Value> {
    let book = door.desk.book();
    let wanted = |alias: &ChatAlias, display: &str| {
        let of_pack = query.pack.as_ref().is_none_or(|pack| alias.reference.pack() == pack);
        of_pack && query.filter.as_ref().is_none_or(|part| display.contains(part.as_str()))
    };
    let lines = book.aliases().flat_map(|alias| alias.ways.iter().map(move |way| (alias, &way.display)));
    let lines: Vec<Value> = lines
        .filter(|(alias, display)| wanted(alias, display))
        .map(|(alias, display)| {
            json!({ "pack": alias.reference.pack(), "display": display, "description": alias.description })
        })
        .collect();
    Json(json!({ "available": lines.len(), "helpstrings": lines }))
}

/// Where a line comes from, and where its answer goes.
#[derive(Debug, Default, Deserialize)]
struct Origin {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    source_channel: Option<String>,
    #[serde(default)]
    notification_route: Option<String>,
    #[serde(default)]
    notification_channel: Option<String>,
}

impl Origin {
    /// An adapter of chat says who speaks in its rooms, if it may act as others; everybody else speaks for themselves.
    async fn speaker(self, caller: &Authenticated) -> ApiResult<Speaker> {
        let Behalf { user, role } = caller.on_behalf_of(self.user).await?;
        let channel = self.notification_channel.or(self.source_channel).unwrap_or_default();
        let route = self.notification_route.unwrap_or_default();
        Ok(Speaker { chat_user: user.clone(), user, role, channel, route })
    }
}

#[derive(Debug, Deserialize)]
struct Said {
    command: String,
    #[serde(flatten)]
    origin: Origin,
}

async fn match_and_execute(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(said): JsonBody<Said>,
) -> ApiResult<Response> {
    caller.require(Permission::ExecutionRun)?;
    let begun = door.desk.say(&said.command, &said.origin.speaker(&caller).await?).await?;
    let result = door.tell(&caller, &said.command, &begun).await?;
    Ok((StatusCode::CREATED, Json(json!({ "results": [result] }))).into_response())
}

#[derive(Debug, Deserialize)]
struct Understood {
    name: String,
    #[serde(default)]
    pack: Option<String>,
    #[serde(default)]
    format: String,
    command: String,
    #[serde(flatten)]
    origin: Origin,
}

async fn execute(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(said): JsonBody<Understood>,
) -> ApiResult<Response> {
    caller.require(Permission::ExecutionRun)?;
    let alias = door.named(&said.name, said.pack.as_deref())?;
    let begun = door.desk.say_as(&alias, &said.format, &said.command, &said.origin.speaker(&caller).await?).await?;
    Ok((StatusCode::CREATED, Json(door.tell(&caller, &said.command, &begun).await?)).into_response())
}

impl Door {
    /// StackStorm's bots say an alias's name without its pack.
    fn named(&self, name: &str, pack: Option<&str>) -> ApiResult<AliasRef> {
        let book = self.desk.book();
        let is_meant = |alias: &AliasRef| {
            alias.as_str() == name || (alias.name() == name && pack.is_none_or(|pack| alias.pack() == pack))
        };
        let found = book.aliases().map(|alias| &alias.reference).find(|alias| is_meant(alias));
        found.cloned().ok_or_else(|| ApiError::bad_request(format!("there is no action alias `{name}`")))
    }

    async fn tell(&self, caller: &Authenticated, line: &str, begun: &Begun) -> ApiResult<Value> {
        let alias = &begun.command.alias;
        let row = self.executions.execution_get(begun.execution).await?;
        let detail = json!({ "execution": begun.execution, "command": self.shaper.text(&row, line) });
        caller.audit("aliasexecution.run", alias.reference.as_str(), detail).await?;
        Ok(json!({
            "execution": self.shaper.execution(&row, Secrets::Masked),
            "actionalias": shown(alias),
            "message": begun.message,
            "extra": alias.ack.extra,
        }))
    }
}

fn shown(alias: &ChatAlias) -> Value {
    let formats: Vec<Value> = alias
        .ways
        .iter()
        .map(|way| {
            let representations: Vec<&str> = way.representations.iter().map(Format::source).collect();
            json!({ "display": way.display, "representation": representations })
        })
        .collect();
    json!({
        "ref": alias.reference, "name": alias.reference.name(), "pack": alias.reference.pack(),
        "description": alias.description, "action_ref": alias.action, "formats": formats, "enabled": true,
        "ack": { "enabled": alias.ack.enabled, "append_url": alias.ack.append_url },
        "result": { "enabled": alias.result.enabled },
    })
}
