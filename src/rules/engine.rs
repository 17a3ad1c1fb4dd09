//! The rule engine at work: takes instances from the bus, or from the store what the bus lost, matches them, and
//! writes what came of it: enforcements and executions, once per instance (G2).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{CompiledRule, Match, RuleIndex, match_instance};
use crate::bus::{Bus, Topic};
use crate::clock::{Clock, Ids};
use crate::datastore::{self, Datastore, TemplateView};
use crate::evaluation::{Trials, Verdict};
use crate::model::pack::Catalogue;
use crate::model::refs::{EnforcementId, InstanceId, RuleRef};
use crate::model::trigger::{InstanceStatus, TriggerInstance};
use crate::requests::{Plan, RequestError, Requester, Requests, Texts, Wanted};
use crate::store::events::{Events, MatchRecord};
use crate::store::rows::{NewEnforcement, NewExecution};
use crate::store::suspects::{Subject, SubjectKind};
use crate::store::{StoreError, StoreResult};
use crate::templates;

/// As [`crate::evaluation::Evaluations::hold_for`] knows this part.
pub const RULES: &str = "rules";

/// Instances taken at once, and written side by side: they share a commit.
const AT_ONCE: usize = 256;
/// If every hint were lost, an instance would wait this long.
const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);

/// Matches instances to rules.
pub struct Engine {
    events: Events,
    datastore: Datastore,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    requests: Arc<dyn Requests>,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    trials: Option<Trials>,
}

/// The rules of one catalogue, compiled.
struct Rules {
    catalogue: Arc<Catalogue>,
    index: RuleIndex,
}

/// One enforcement and, if it asks for an execution that can be, the plan of it.
struct Enforced {
    row: NewEnforcement,
    plan: Option<Box<dyn Plan>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rules::Engine")
    }
}

/// What the engine reads and writes.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Instances and enforcements.
    pub events: Events,
    /// Templates read it.
    pub datastore: Datastore,
}

impl Engine {
    /// An engine that asks `requests` for executions and follows `catalogue`.
    pub fn new(
        stores: Stores,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        requests: Arc<dyn Requests>,
        catalogue: watch::Receiver<Arc<Catalogue>>,
    ) -> Self {
        let Stores { events, datastore } = stores;
        Self { events, datastore, bus, clock, ids, requests, catalogue, trials: None }
    }

    /// Marks what it matches, and tries alone what a daemon may have died of.
    #[must_use]
    pub fn with_trials(self, trials: Trials) -> Self {
        Self { trials: Some(trials), ..self }
    }

    /// Matches until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hints = self.bus.listen(Topic::Instances);
        let mut catalogue = self.catalogue.clone();
        let mut rules = Rules::compile(Arc::clone(&catalogue.borrow_and_update()));
        let mut look_at = self.clock.monotonic();
        self.try_suspects(&rules).await?;
        if let Some(trials) = &self.trials {
            trials.evaluations.first_look_done(RULES);
        }
        while !stop.is_cancelled() {
            if catalogue.has_changed()? {
                rules = Rules::compile(Arc::clone(&catalogue.borrow_and_update()));
            }
            let look = self.clock.monotonic() >= look_at;
            if self.tick(&rules, look).await? > 0 {
                continue;
            }
            if look {
                self.try_suspects(&rules).await?;
            }
            look_at = self.clock.monotonic().saturating_add(LOOK_BY_ITSELF);
            tokio::select! {
                () = hints.heard() => { look_at = if self.bus_is_empty() { self.clock.monotonic() } else { look_at }; }
                () = self.clock.sleep_for(look_at.saturating_sub(self.clock.monotonic())) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// A hint without an instance on the bus means that the store has it.
    fn bus_is_empty(&self) -> bool {
        self.bus.is_empty()
    }

    /// Matches what is on the bus; with `look` also what only the store knows. Gives back how many instances it met.
    async fn tick(&self, rules: &Rules, look: bool) -> StoreResult<usize> {
        let received = self.bus.receive(AT_ONCE);
        let mut instances = received.instances;
        if instances.is_empty() && (look || received.overflowed) {
            instances = self.events.instances_pending(None, i64::try_from(AT_ONCE).unwrap_or(i64::MAX)).await?;
        }
        let met = instances.len();
        let _evaluating = match &self.trials {
            Some(trials) if met > 0 => {
                let subjects: Vec<Subject> = instances.iter().map(|it| Subject::Instance(it.id)).collect();
                Some(trials.evaluations.begin(&subjects).await)
            }
            Some(_) | None => None,
        };
        let side_by_side = self.events.at_once().min(AT_ONCE);
        let mut matching = stream::iter(instances.into_iter().map(|instance| self.process(rules, instance)))
            .buffer_unordered(side_by_side);
        // One that cannot go on takes nobody with it: the others may be in the middle of their commit.
        let mut problem = None;
        while let Some(result) = matching.next().await {
            problem = problem.or_else(|| result.err());
        }
        problem.map_or(Ok(met), Err)
    }

    /// Matches one by one what a daemon may have died of.
    async fn try_suspects(&self, rules: &Rules) -> StoreResult<()> {
        let Some(trials) = &self.trials else { return Ok(()) };
        for suspect in trials.open(SubjectKind::Instance).await? {
            let Subject::Instance(id) = suspect.subject else { continue };
            let instance = match self.events.instance_get(id).await {
                Err(StoreError::NotFound(_)) => None,
                found => Some(found?).filter(|instance| instance.status == InstanceStatus::Pending),
            };
            let Some(instance) = instance else {
                trials.suspects.suspect_clear(suspect.subject).await?;
                continue;
            };
            match trials.judge(&suspect).await? {
                Verdict::Later => {}
                Verdict::SetAside(reason) => {
                    trials.suspects.suspect_set_aside(suspect.subject, &reason).await?;
                    self.set_aside(rules, id).await;
                }
                Verdict::Try(trial) => {
                    self.process(rules, instance).await?;
                    trials.survived(trial).await?;
                }
            }
        }
        Ok(())
    }

    /// An instance of which nothing can be made is set aside: it must not hold up the others.
    async fn process(&self, rules: &Rules, instance: TriggerInstance) -> StoreResult<()> {
        match self.enforce_all(rules, &instance).await {
            Err(problem @ (StoreError::Corrupt(_) | StoreError::Refused(_))) => {
                tracing::error!(instance = %instance.id, %problem, "what the rules made of an event could not be written");
                self.set_aside(rules, instance.id).await;
                Ok(())
            }
            other => other,
        }
    }

    async fn set_aside(&self, rules: &Rules, instance: InstanceId) {
        let status = InstanceStatus::ProcessingFailed;
        let catalogue_version = rules.catalogue.recorded_version();
        let record = MatchRecord { instance, catalogue_version, status, enforcements: Vec::new() };
        if let Err(problem) = self.events.match_record(&record, self.clock.now()).await {
            tracing::error!(%instance, %problem, "an event that cannot be processed could not be set aside");
        }
    }

    async fn enforce_all(&self, rules: &Rules, instance: &TriggerInstance) -> StoreResult<()> {
        let now = self.clock.now();
        let view = self.datastore.for_templates(crate::model::SYSTEM_USER);
        let kv: Arc<dyn templates::Datastore> = Arc::<TemplateView>::clone(&view);
        let mut enforced = Vec::new();
        for (rule, found) in match_instance(&rules.index, instance, Some(&kv), now) {
            match found {
                Match::Failed(reason) => enforced.push(self.failure(rule.reference(), &reason, &view.opened())),
                Match::Matched { throttle_key } => {
                    if self.passes(&rule, throttle_key, instance.id).await? {
                        enforced.push(self.enforce(rules, &rule, instance, &view)?);
                    }
                }
            }
        }
        // What a rule could not read is no reason for it to fail: the instance stays as it is until the store is back.
        if let Some(problem) = view.missed() {
            return Err(problem);
        }
        let (rows, plans): (Vec<_>, Vec<_>) = enforced.into_iter().map(|e| (e.row, e.plan)).unzip();
        let record = MatchRecord {
            instance: instance.id,
            catalogue_version: rules.catalogue.recorded_version(),
            status: InstanceStatus::Processed,
            enforcements: rows,
        };
        if self.events.match_record(&record, now).await? {
            plans.into_iter().flatten().for_each(Plan::committed);
        }
        Ok(())
    }

    async fn passes(&self, rule: &CompiledRule, key: Option<String>, instance: InstanceId) -> StoreResult<bool> {
        let (Some(key), Some(once_within)) = (key, rule.once_within()) else { return Ok(true) };
        let now = self.clock.now();
        self.events.throttle_pass(rule.reference(), &key, instance, now, now.plus(once_within)).await
    }

    fn enforce(
        &self,
        rules: &Rules,
        rule: &CompiledRule,
        instance: &TriggerInstance,
        view: &Arc<TemplateView>,
    ) -> StoreResult<Enforced> {
        let pack = rules.catalogue.packs.get(rule.reference().pack());
        let config = pack.map(|pack| json!(pack.config)).unwrap_or_default();
        let context = context_of(rule.reference(), instance);
        let names = json!({ "trigger": instance.payload, "action_context": context, "config_context": config });
        let kv: Arc<dyn templates::Datastore> = view.for_content(rule.key_access(), rule.templates());
        let rendered = rule.render_parameters(&names, Some(&kv));
        let mut secrets = view.opened();
        if let Some(pack) = pack.filter(|_| rule.uses_config()) {
            secrets.extend(pack.secret_texts());
        }
        let parameters = match rendered {
            Ok(parameters) => parameters,
            Err(reason) => return Ok(self.failure(rule.reference(), &reason, &secrets)),
        };
        let wanted = Wanted {
            texts: Texts::Literal,
            context,
            secrets,
            key_access: rule.key_access(),
            ..Wanted::new(rule.action().clone(), parameters, Requester::Content)
        };
        match self.requests.plan(wanted.clone()) {
            Ok(plan) => {
                let row = self.row(rule.reference(), None, Some(plan.execution().clone()));
                Ok(Enforced { row, plan: Some(plan) })
            }
            Err(RequestError::StoreAway(problem)) => Err(problem),
            Err(problem) => {
                let reason = datastore::redactor(&wanted.secrets).redact(&problem.to_string()).into_owned();
                let failed = self.requests.plan_failed(wanted, &problem);
                Ok(Enforced { row: self.row(rule.reference(), Some(reason), Some(failed)), plan: None })
            }
        }
    }

    /// A template or operator may quote what it failed on.
    fn failure(&self, rule: &RuleRef, reason: &str, secrets: &[String]) -> Enforced {
        let reason = datastore::redactor(secrets).redact(reason).into_owned();
        Enforced { row: self.row(rule, Some(reason), None), plan: None }
    }

    fn row(&self, rule: &RuleRef, failure_reason: Option<String>, execution: Option<NewExecution>) -> NewEnforcement {
        let id = EnforcementId::from_bytes(self.ids.next());
        NewEnforcement { id, rule: rule.clone(), failure_reason, execution }
    }
}

impl Rules {
    /// Rules that are broken or do not compile are left out; the loader has said so.
    fn compile(catalogue: Arc<Catalogue>) -> Self {
        let usable = catalogue.rules.values().filter(|rule| catalogue.broken_rule(&rule.reference).is_none());
        let compiled = usable.filter_map(|rule| match CompiledRule::compile(rule) {
            Ok(rule) => Some(Arc::new(rule)),
            Err(problems) => {
                let why = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                tracing::warn!(rule = %rule.reference, why, "a rule does not compile and matches nothing");
                None
            }
        });
        let index = RuleIndex::build(compiled);
        Self { catalogue, index }
    }
}

fn context_of(rule: &RuleRef, instance: &TriggerInstance) -> Map<String, Value> {
    let context = json!({
        "user": crate::model::SYSTEM_USER,
        "trace_tag": instance.trace_tag,
        "rule": { "ref": rule },
        "trigger_instance": { "id": instance.id, "trigger": instance.trigger_type },
    });
    match context {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
