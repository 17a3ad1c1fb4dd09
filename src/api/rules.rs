//! `/rules` and `/ruleenforcements`: rules from files and from the API, their switches, and why one fires or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::body::{JsonBody, Path, Query, is_true};
use crate::api::content::find;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::Authenticated;
use crate::api::listing::ListQuery;
use crate::api::rule_json;
use crate::auth::Permission;
use crate::bus::{Bus, Topic};
use crate::clock::{self, Clock};
use crate::content::Compilers;
use crate::datastore::{Datastore, TemplateView};
use crate::dispatch::Dispatcher;
use crate::model::SYSTEM_USER;
use crate::model::pack::Catalogue;
use crate::model::refs::{EnforcementId, InstanceId, RuleRef};
use crate::model::rule::Rule;
use crate::packs::check::{Checks, Runners};
use crate::packs::rule_layer::{problems_of, read_definition, warnings_of};
use crate::rules::{CompiledRule, Explanation, Verdict};
use crate::secrets::Redactor;
use crate::store::contents::RuleLayer;
use crate::store::rows::EnforcementRow;
use crate::store::{Contents, Events};
use crate::templates;

/// What these routes reach for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) contents: Contents,
    pub(super) events: Events,
    pub(super) datastore: Datastore,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A client reads what it wrote: the answer waits this long at most for the catalogue to show a change.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/rules", get(list).post(create))
        .route("/rules/{rule}", get(show).put(replace).delete(remove))
        .route("/rules/{rule}/enable", post(enable))
        .route("/rules/{rule}/disable", post(disable))
        .route("/rules/{rule}/test", post(test))
        .route("/ruleenforcements", get(list_enforcements))
        .route("/ruleenforcements/{enforcement}", get(show_enforcement))
        .with_state(door)
}

#[derive(Debug, Deserialize)]
struct Filter {
    pack: Option<String>,
    action: Option<String>,
    trigger: Option<String>,
    enabled: Option<String>,
    name: Option<String>,
}

impl Filter {
    fn fits(&self, rule: &Rule) -> bool {
        let same = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        same(&self.pack, rule.reference.pack())
            && same(&self.name, rule.reference.name())
            && same(&self.action, rule.action.reference.as_str())
            && same(&self.trigger, rule.trigger.trigger_type.as_str())
            && self.enabled.as_ref().is_none_or(|wanted| is_true(Some(wanted)) == rule.enabled)
    }
}

async fn list(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let catalogue = door.catalogue();
    let wanted = catalogue.rules.values().filter(|rule| filter.fits(rule));
    query.cut(wanted.map(|rule| rule_json::shown(rule, &catalogue)).collect())
}

async fn show(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let catalogue = door.catalogue();
    let (_, rule) = find(&catalogue.rules, &named)?;
    query.single(rule_json::shown(rule, &catalogue))
}

async fn create(
    State(door): State<Door>,
    caller: Authenticated,
    JsonBody(definition): JsonBody<Value>,
) -> ApiResult<Response> {
    caller.require(Permission::ContentWrite)?;
    let rule = read(&definition)?;
    door.check(&rule)?;
    if door.catalogue().rules.contains_key(&rule.reference) {
        return Err(ApiError::conflict(format!("rule `{}` exists already", rule.reference)));
    }
    caller.audit("rule.create", rule.reference.as_str(), definition.clone()).await?;
    let shown = door.write_definition(rule, definition).await?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// StackStorm's clients switch a rule by giving it back whole with `enabled` changed; that is taken as the switch it
/// is, so that a rule from a file goes on following its file.
async fn replace(
    State(door): State<Door>,
    caller: Authenticated,
    Path(named): Path<String>,
    JsonBody(definition): JsonBody<Value>,
) -> ApiResult<Json<Value>> {
    let known = door.named(&named)?;
    let rule = read(&definition)?;
    if rule.reference != known.reference {
        return Err(ApiError::bad_request(format!("`{}` cannot be renamed to `{}`", known.reference, rule.reference)));
    }
    let same_but_enabled = Rule { enabled: known.enabled, metadata_file: known.metadata_file.clone(), ..rule.clone() };
    if same_but_enabled == *known {
        return door.switch(&caller, &known, rule.enabled).await;
    }
    caller.require(Permission::ContentWrite)?;
    refuse_if_from_file(&known)?;
    door.check(&rule)?;
    caller.audit("rule.update", rule.reference.as_str(), definition.clone()).await?;
    door.write_definition(rule, definition).await.map(Json)
}

async fn remove(State(door): State<Door>, caller: Authenticated, Path(named): Path<String>) -> ApiResult<StatusCode> {
    caller.require(Permission::ContentWrite)?;
    let known = door.named(&named)?;
    refuse_if_from_file(&known)?;
    caller.audit("rule.delete", known.reference.as_str(), Value::Null).await?;
    door.contents.rule_layer_delete(&known.reference).await?;
    door.settle(|catalogue| !catalogue.rules.contains_key(&known.reference)).await;
    Ok(StatusCode::NO_CONTENT)
}

fn read(definition: &Value) -> ApiResult<Rule> {
    read_definition(definition).map_err(|problems| ApiError::bad_request(problems.join("; ")))
}

fn refuse_if_from_file(rule: &Rule) -> ApiResult<()> {
    if rule.metadata_file.is_empty() {
        return Ok(());
    }
    let fault = format!("rule `{}` comes from the file {}: change it there", rule.reference, rule.metadata_file);
    Err(ApiError::conflict(fault))
}

async fn enable(State(door): State<Door>, caller: Authenticated, Path(named): Path<String>) -> ApiResult<Json<Value>> {
    door.switch(&caller, &*door.named(&named)?, true).await
}

async fn disable(State(door): State<Door>, caller: Authenticated, Path(named): Path<String>) -> ApiResult<Json<Value>> {
    door.switch(&caller, &*door.named(&named)?, false).await
}

impl Door {
    fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.borrow())
    }

    fn named(&self, named: &str) -> ApiResult<Arc<Rule>> {
        let catalogue = self.catalogue();
        find(&catalogue.rules, named).map(|(_, rule)| Arc::clone(rule))
    }

    /// Could it go to work?
    fn check(&self, rule: &Rule) -> ApiResult<()> {
        let registry = self.dispatcher.registry();
        let names = registry.names().into_iter();
        let runners: Runners =
            names.filter_map(|name| Some((name.to_owned(), registry.get(name)?.parameters()))).collect();
        let (catalogue, checks) = (self.catalogue(), Checks { runners: &runners, compile: &Compilers });
        let problems = problems_of(rule, &catalogue, &checks);
        for warning in warnings_of(rule, &catalogue, &checks) {
            tracing::warn!(rule = %rule.reference, warning, "a rule may not do what is meant");
        }
        if problems.is_empty() { Ok(()) } else { Err(ApiError::bad_request(problems.join("; "))) }
    }

    async fn write_definition(&self, rule: Rule, definition: Value) -> ApiResult<Value> {
        let layer = RuleLayer { rule: rule.reference.clone(), enabled: None, definition: Some(definition) };
        self.contents.rule_layer_write(&layer, self.clock.now()).await?;
        self.settle(|catalogue| catalogue.rules.get(&rule.reference).is_some_and(|known| **known == rule)).await;
        Ok(rule_json::shown(&rule, &self.catalogue()))
    }

    async fn switch(&self, caller: &Authenticated, rule: &Rule, enabled: bool) -> ApiResult<Json<Value>> {
        let detail = json!({ "enabled": enabled });
        caller.change(Permission::ContentSwitch, "rule.switch", rule.reference.as_str(), detail).await?;
        let layers = self.contents.rule_layer_read().await?;
        let definition = layers.into_iter().find(|layer| layer.rule == rule.reference);
        let definition = definition.and_then(|layer| layer.definition);
        let layer = RuleLayer { rule: rule.reference.clone(), enabled: Some(enabled), definition };
        self.contents.rule_layer_write(&layer, self.clock.now()).await?;
        let is_switched = |known: &Arc<Rule>| known.enabled == enabled;
        self.settle(|catalogue| catalogue.rules.get(&rule.reference).is_some_and(is_switched)).await;
        Ok(Json(rule_json::shown(&Rule { enabled, ..rule.clone() }, &self.catalogue())))
    }

    /// Tells the loader and waits until the catalogue shows the change, or long enough: it is durable either way.
    async fn settle(&self, done: impl Fn(&Catalogue) -> bool) {
        let mut catalogue = self.catalogue.clone();
        self.bus.hint(Topic::Content);
        let shown = catalogue.wait_for(|catalogue| done(catalogue));
        if !matches!(clock::timeout(&*self.clock, SETTLE, shown).await, Ok(Ok(_))) {
            tracing::warn!("the catalogue does not show a change of rules yet");
        }
    }
}

/// An event to try a rule on: given, or one that happened.
#[derive(Debug, Deserialize)]
struct Trial {
    payload: Option<Value>,
    trigger_instance: Option<InstanceId>,
}

async fn test(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(named): Path<String>,
    JsonBody(trial): JsonBody<Trial>,
) -> ApiResult<Json<Value>> {
    let rule = door.named(&named)?;
    let (payload, trigger) = match (trial.payload, trial.trigger_instance) {
        (Some(payload), None) => (payload, None),
        (None, Some(id)) => {
            let instance = door.events.instance_get(id).await?;
            (instance.payload, Some(instance.trigger))
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(ApiError::bad_request("give `payload` or `trigger_instance`, one of them"));
        }
    };
    let compiled = CompiledRule::compile(&rule).map_err(|problems| {
        let words: Vec<String> = problems.into_iter().map(|one| format!("{}: {}", one.where_, one.message)).collect();
        ApiError::conflict(format!("rule `{}` is broken: {}", rule.reference, words.join("; ")))
    })?;
    let mut answer = door.try_rule(&compiled, &payload);
    if let Some(other) = trigger.filter(|trigger| trigger != compiled.trigger_identity()) {
        tell_other_trigger(&mut answer, compiled.trigger_identity(), &other);
    }
    Ok(Json(answer))
}

/// An event of another trigger never comes to the rule, whatever it holds.
fn tell_other_trigger(answer: &mut Value, awaited: &str, seen: &str) {
    answer["matched"] = json!(false);
    answer["first_unmet"] = json!("trigger");
    if let Some(rows) = answer["explanation"].as_array_mut() {
        let why = format!("the event is one of `{seen}`");
        rows.insert(
            0,
            json!({ "depth": 0, "key": "trigger", "operator": "is", "pattern": awaited, "value": seen,
                "held": false, "why": why }),
        );
    }
}

impl Door {
    fn try_rule(&self, rule: &CompiledRule, payload: &Value) -> Value {
        let view = self.datastore.for_templates(SYSTEM_USER);
        let names = Arc::<TemplateView>::clone(&view);
        let kv: Option<Arc<dyn templates::Datastore>> = Some(names);
        let now = self.clock.now();
        let verdict = rule.evaluate(payload, kv.as_ref(), now);
        let explanation: Vec<Value> = rule.explain(payload, kv.as_ref(), now).iter().map(explained).collect();
        let mut answer = json!({
            "matched": matches!(verdict, Verdict::Matched { .. }),
            "enabled": rule.is_enabled(),
            "explanation": explanation,
        });
        match verdict {
            Verdict::Failed(reason) => answer["failed"] = json!(reason),
            Verdict::NotMatched { first } => answer["first_unmet"] = json!(first),
            Verdict::Matched { .. } => match try_parameters(rule, payload, &view) {
                Ok(parameters) => answer["parameters"] = Value::Object(parameters),
                Err(reason) => answer["failed"] = json!(reason),
            },
        }
        Redactor::new(view.opened()).redact_value(&answer)
    }
}

/// The caller who tries a rule chooses the event, which may not choose the key that is decrypted.
fn try_parameters(
    rule: &CompiledRule,
    payload: &Value,
    view: &Arc<TemplateView>,
) -> Result<Map<String, Value>, String> {
    let kv: Arc<dyn templates::Datastore> = view.for_content(rule.key_access(), rule.templates());
    rule.render_parameters(&json!({ "trigger": payload }), Some(&kv))
}

fn explained(row: &Explanation) -> Value {
    json!({
        "depth": row.depth, "key": row.key, "operator": row.operator, "pattern": row.pattern, "value": row.value,
        "held": row.held, "why": row.why,
    })
}

#[derive(Debug, Deserialize)]
struct EnforcementFilter {
    rule_ref: Option<RuleRef>,
    trigger_instance: Option<InstanceId>,
}

async fn list_enforcements(
    State(door): State<Door>,
    _caller: Authenticated,
    Query(query): Query<ListQuery>,
    Query(filter): Query<EnforcementFilter>,
) -> ApiResult<Response> {
    let page = query.page(50)?;
    let (rule, instance) = (filter.rule_ref.as_ref(), filter.trigger_instance);
    let rows = door.events.enforcement_list(rule, instance, page).await?;
    let total = door.events.enforcement_count(rule, instance).await?;
    query.answer(rows.iter().map(enforcement).collect(), total, page)
}

async fn show_enforcement(
    State(door): State<Door>,
    _caller: Authenticated,
    Path(id): Path<EnforcementId>,
) -> ApiResult<Json<Value>> {
    Ok(Json(enforcement(&door.events.enforcement_get(id).await?)))
}

fn enforcement(row: &EnforcementRow) -> Value {
    let rule = &row.rule;
    let members: BTreeMap<&str, Value> = BTreeMap::from([
        ("id", json!(row.id)),
        ("rule", json!({ "ref": rule, "uid": rule.uid(), "id": crate::api::content::content_id(&rule.uid()) })),
        ("trigger_instance_id", json!(row.instance)),
        ("execution_id", json!(row.execution)),
        ("status", json!(row.status)),
        ("failure_reason", json!(row.failure_reason)),
        ("enforced_at", json!(row.enforced_at)),
    ]);
    let present = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(present.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}
