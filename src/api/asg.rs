//! `/asg` and `/freeze`: autoscaling groups. What happens to them is the governor's to decide; here stands what it is
//! asked and how it answers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::body::{JsonBody, Path, Query, is_true};
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::auth::Permission;
use crate::store::StoreError;

/// Why the governor did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AsgError {
    /// There is no such group or node.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It could be done and is not: the reason in words.
    #[error("{0}")]
    Refused(String),
    /// The request makes no sense: all that is wrong with it.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AsgError> for ApiError {
    fn from(problem: AsgError) -> Self {
        match problem {
            AsgError::NotFound(_) => Self::not_found(problem.to_string()),
            AsgError::Refused(_) => Self::conflict(problem.to_string()),
            AsgError::Invalid(_) => Self::bad_request(problem.to_string()),
            AsgError::Store(problem) => problem.into(),
        }
    }
}

/// A group that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// The domain of its nodes' names.
    pub domain: Option<String>,
    /// The application that alerts are about, if it is not called as the group.
    pub application: Option<String>,
    /// Limits, steps and delays, as far as they differ from the defaults.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The pack that makes and deletes nodes.
    pub provider: String,
    /// The pack that keeps their names, or `none`.
    pub dns: Option<String>,
    /// The pack that sends them work, or `none`.
    pub load_balancer: Option<String>,
    /// The pack that sets them up, or `none`.
    pub configure: Option<String>,
    /// The pack that measures how much work they have, or `none`.
    pub metrics: Option<String>,
    /// Where people are told.
    pub channel: Option<String>,
    /// Handed to the provider with every node.
    #[serde(default)]
    pub node_parameters: Map<String, Value>,
    /// Handed to the pack that keeps names, beside its configuration.
    #[serde(default)]
    pub dns_parameters: Map<String, Value>,
    /// Handed to the pack that sends work, beside its configuration.
    #[serde(default)]
    pub load_balancer_parameters: Map<String, Value>,
    /// Handed to the pack that sets nodes up, beside its configuration.
    #[serde(default)]
    pub configure_parameters: Map<String, Value>,
    /// Handed to the pack that measures, beside its configuration.
    #[serde(default)]
    pub metrics_parameters: Map<String, Value>,
}

/// What is to be different about a group, in the fields of a new one; the rest stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reconfigure(pub Map<String, Value>);

/// More nodes, or fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scale {
    /// How many; what the group's configuration says if not given.
    pub by: Option<u32>,
    /// Without waiting for cooldowns.
    pub force: bool,
}

/// Whether cooldowns and the like are waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Force {
    /// They are not.
    pub force: bool,
}

/// Whether the governor may choose a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protect {
    /// It may not.
    pub protected: bool,
}

/// Part of a group's automation is to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// What rests.
    pub what: String,
    /// How long, as `2h`.
    #[serde(rename = "for")]
    pub lasting: Option<String>,
    /// Why.
    pub reason: String,
}

/// Part of a group's automation is to work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// What works again.
    pub what: String,
}

/// The installation is to record everything and act on nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why.
    pub reason: String,
    /// How long, as `2h`; until it is thawed if not given.
    #[serde(rename = "for")]
    pub lasting: Option<String>,
}

/// What the governor gives back: JSON for people and programs to read.
pub type AsgResult = Result<Value, AsgError>;

/// The governor, as this door sees it. `by` is who asks.
#[async_trait]
pub trait AsgService: Send + Sync {
    /// All groups.
    async fn list(&self) -> AsgResult;
    /// One group with its nodes and incidents.
    async fn get(&self, group: &str) -> AsgResult;
    /// Makes a group: `{group, activity, execution}`.
    async fn create(&self, new: NewGroup, by: &str) -> AsgResult;
    /// Changes what a group's owner wrote.
    async fn configure(&self, group: &str, change: Reconfigure, by: &str) -> AsgResult;
    /// Takes a group down.
    async fn delete(&self, group: &str, by: &str) -> AsgResult;
    /// Asks for more nodes: `{verdict, reason, activity?, execution?, nodes}`.
    async fn expand(&self, group: &str, scale: Scale, by: &str) -> AsgResult;
    /// Asks for fewer nodes.
    async fn deflate(&self, group: &str, scale: Scale, by: &str) -> AsgResult;
    /// Asks for one node.
    async fn add_node(&self, group: &str, force: Force, by: &str) -> AsgResult;
    /// Asks for this node to go.
    async fn delete_node(&self, group: &str, node: &str, force: Force, by: &str) -> AsgResult;
    /// Keeps a node from being chosen for removal, or not any more.
    async fn protect(&self, group: &str, node: &str, protect: Protect, by: &str) -> AsgResult;
    /// Says yes to what waits for approval.
    async fn approve(&self, group: &str, by: &str) -> AsgResult;
    /// Says no to it.
    async fn deny(&self, group: &str, by: &str) -> AsgResult;
    /// The latest decisions: `[{first_at, last_at, times, decision}]`.
    async fn explain(&self, group: &str, limit: i64) -> AsgResult;
    /// The latest activities.
    async fn activities(&self, group: &str, limit: i64) -> AsgResult;
    /// Lets part of the automation rest.
    async fn suspend(&self, group: &str, suspend: Suspend, by: &str) -> AsgResult;
    /// Lets it work again.
    async fn resume(&self, group: &str, resume: Resume, by: &str) -> AsgResult;
    /// Freezes the installation.
    async fn freeze(&self, freeze: Freeze, by: &str) -> AsgResult;
    /// Thaws it.
    async fn thaw(&self, by: &str) -> AsgResult;
    /// Whether it is frozen, by whom, why and until when; null if not.
    async fn freeze_state(&self) -> AsgResult;
}

type Door = Arc<dyn AsgService>;

pub(super) fn router(governor: Door) -> Router {
    Router::new()
        .route("/asg", get(list).post(create))
        .route("/asg/{group}", get(show).put(configure).delete(remove))
        .route("/asg/{group}/expand", post(expand))
        .route("/asg/{group}/deflate", post(deflate))
        .route("/asg/{group}/nodes", post(add_node))
        .route("/asg/{group}/nodes/{node}", delete(delete_node).put(protect))
        .route("/asg/{group}/approve", post(approve))
        .route("/asg/{group}/deny", post(deny))
        .route("/asg/{group}/explain", get(explain))
        .route("/asg/{group}/activities", get(activities))
        .route("/asg/{group}/suspend", post(suspend))
        .route("/asg/{group}/resume", post(resume))
        .route("/freeze", get(freeze_state).post(freeze).delete(thaw))
        .with_state(governor)
}

type Accepted = ApiResult<(StatusCode, Json<Value>)>;

fn accepted(answer: AsgResult) -> Accepted {
    Ok((StatusCode::ACCEPTED, Json(answer?)))
}

fn detail(request: &impl Serialize) -> Value {
    json!(request)
}

async fn list(State(governor): State<Door>, _caller: Authenticated) -> ApiResult<Json<Value>> {
    Ok(Json(governor.list().await?))
}

async fn show(
    State(governor): State<Door>,
    _caller: Authenticated,
    Path(group): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(Json(governor.get(&group).await?))
}

async fn create(State(governor): State<Door>, caller: Authenticated, JsonBody(new): JsonBody<NewGroup>) -> Accepted {
    caller.change(Permission::GroupWrite, "asg.create", &new.name, detail(&new)).await?;
    accepted(governor.create(new, &caller.principal.name).await)
}

async fn configure(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(change): JsonBody<Reconfigure>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::GroupWrite, "asg.configure", &group, detail(&change)).await?;
    Ok(Json(governor.configure(&group, change, &caller.principal.name).await?))
}

#[derive(Debug, Deserialize)]
struct ForceQuery {
    force: Option<String>,
}

impl ForceQuery {
    fn wanted(&self) -> Force {
        Force { force: is_true(self.force.as_deref()) }
    }
}

async fn remove(State(governor): State<Door>, caller: Authenticated, Path(group): Path<String>) -> Accepted {
    caller.change(Permission::GroupWrite, "asg.delete", &group, Value::Null).await?;
    accepted(governor.delete(&group, &caller.principal.name).await)
}

async fn expand(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(scale): JsonBody<Scale>,
) -> Accepted {
    caller.change(Permission::GroupOperate, "asg.expand", &group, detail(&scale)).await?;
    accepted(governor.expand(&group, scale, &caller.principal.name).await)
}

async fn deflate(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(scale): JsonBody<Scale>,
) -> Accepted {
    caller.change(Permission::GroupOperate, "asg.deflate", &group, detail(&scale)).await?;
    accepted(governor.deflate(&group, scale, &caller.principal.name).await)
}

async fn add_node(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(force): JsonBody<Force>,
) -> Accepted {
    caller.change(Permission::GroupOperate, "asg.add_node", &group, detail(&force)).await?;
    accepted(governor.add_node(&group, force, &caller.principal.name).await)
}

async fn delete_node(
    State(governor): State<Door>,
    caller: Authenticated,
    Path((group, node)): Path<(String, String)>,
    Query(query): Query<ForceQuery>,
) -> Accepted {
    let force = query.wanted();
    let detail = json!({ "node": node, "force": force.force });
    caller.change(Permission::GroupOperate, "asg.delete_node", &group, detail).await?;
    accepted(governor.delete_node(&group, &node, force, &caller.principal.name).await)
}

async fn protect(
    State(governor): State<Door>,
    caller: Authenticated,
    Path((group, node)): Path<(String, String)>,
    JsonBody(protect): JsonBody<Protect>,
) -> ApiResult<Json<Value>> {
    let detail = json!({ "node": node, "protected": protect.protected });
    caller.change(Permission::GroupOperate, "asg.protect", &group, detail).await?;
    Ok(Json(governor.protect(&group, &node, protect, &caller.principal.name).await?))
}

async fn approve(State(governor): State<Door>, caller: Authenticated, Path(group): Path<String>) -> Accepted {
    caller.change(Permission::GroupOperate, "asg.approve", &group, Value::Null).await?;
    accepted(governor.approve(&group, &caller.principal.name).await)
}

async fn deny(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::GroupOperate, "asg.deny", &group, Value::Null).await?;
    Ok(Json(governor.deny(&group, &caller.principal.name).await?))
}

#[derive(Debug, Deserialize)]
struct Latest {
    limit: Option<u16>,
}

impl Latest {
    fn limit(&self) -> i64 {
        i64::from(self.limit.unwrap_or(20).clamp(1, 1000))
    }
}

async fn explain(
    State(governor): State<Door>,
    _caller: Authenticated,
    Path(group): Path<String>,
    Query(latest): Query<Latest>,
) -> ApiResult<Json<Value>> {
    Ok(Json(governor.explain(&group, latest.limit()).await?))
}

async fn activities(
    State(governor): State<Door>,
    _caller: Authenticated,
    Path(group): Path<String>,
    Query(latest): Query<Latest>,
) -> ApiResult<Json<Value>> {
    Ok(Json(governor.activities(&group, latest.limit()).await?))
}

async fn suspend(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(request): JsonBody<Suspend>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::GroupOperate, "asg.suspend", &group, detail(&request)).await?;
    Ok(Json(governor.suspend(&group, request, &caller.principal.name).await?))
}

async fn resume(
    State(governor): State<Door>,
    caller: Authenticated,
    Path(group): Path<String>,
    JsonBody(request): JsonBody<Resume>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::GroupOperate, "asg.resume", &group, detail(&request)).await?;
    Ok(Json(governor.resume(&group, request, &caller.principal.name).await?))
}

async fn freeze_state(State(governor): State<Door>, _caller: Authenticated) -> ApiResult<Json<Value>> {
    Ok(Json(governor.freeze_state().await?))
}

async fn freeze(
    State(governor): State<Door>,
    caller: Authenticated,
    JsonBody(request): JsonBody<Freeze>,
) -> ApiResult<Json<Value>> {
    caller.change(Permission::Freeze, "freeze", "installation", detail(&request)).await?;
    Ok(Json(governor.freeze(request, &caller.principal.name).await?))
}

async fn thaw(State(governor): State<Door>, caller: Authenticated) -> ApiResult<Json<Value>> {
    caller.change(Permission::Freeze, "thaw", "installation", Value::Null).await?;
    Ok(Json(governor.thaw(&caller.principal.name).await?))
}
