//! How a group comes to be, is configured and is told to wait.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::governor::admission::Admission;
use crate::governor::error::GovernorError;
use crate::governor::ledger;
use crate::governor::rows;
use crate::governor::service::Governor;
use crate::model::decision::Request;
use crate::model::group::{Group, GroupName, Part, RoleParameters, Roles, Suspension};
use crate::model::group_config::GroupConfig;
use crate::model::group_state::GroupState;
use crate::model::load::Load;
use crate::model::node::NodeName;
use crate::model::pack::Catalogue;
use crate::model::refs::ActionRef;
use crate::model::scaling::Origin;
use crate::store::StoreError;

/// A group as somebody asks for it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its name.
    pub name: GroupName,
    /// DNS domain below which its nodes are named.
    #[serde(default)]
    pub domain: String,
    /// What alerts call it; its name if not said.
    #[serde(default)]
    pub application: Option<String>,
    /// Limits, steps and delays; what is left out has its default.
    #[serde(default)]
    pub config: GroupConfig,
    /// The pack that creates and deletes nodes.
    pub provider: String,
    /// The pack that names them, or `none`.
    #[serde(default)]
    pub dns: Option<String>,
    /// The pack that sends traffic to them, or `none`.
    #[serde(default)]
    pub load_balancer: Option<String>,
    /// The pack that configures them, or `none`.
    #[serde(default)]
    pub configure: Option<String>,
    /// The pack that measures their work, or `none`.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Where notices go.
    #[serde(default)]
    pub channel: Option<String>,
    /// Size, image and whatever else the provider's `create_node` takes.
    #[serde(default)]
    pub node_parameters: BTreeMap<String, Value>,
    /// What the pack that names nodes is told beside its own configuration.
    #[serde(default)]
    pub dns_parameters: BTreeMap<String, Value>,
    /// What the pack that sends traffic is told beside its own configuration.
    #[serde(default)]
    pub load_balancer_parameters: BTreeMap<String, Value>,
    /// What the pack that configures nodes is told beside its own configuration.
    #[serde(default)]
    pub configure_parameters: BTreeMap<String, Value>,
    /// What the pack that measures is told beside its own configuration.
    #[serde(default)]
    pub metrics_parameters: BTreeMap<String, Value>,
}

/// The verbs that a pack must have to play a role.
const VERBS: [(&str, &[&str]); 5] = [
    ("provider", &["create_node", "delete_node", "wait_ready"]),
    ("dns", &["upsert_record", "delete_record"]),
    ("load_balancer", &["add_backend", "drain_backend", "remove_backend"]),
    ("configure", &["configure_node"]),
    ("metrics", &["measure_load"]),
];

/// As people write it: `none` is nobody.
pub(super) fn played(role: Option<String>) -> Option<String> {
    role.filter(|pack| !pack.is_empty() && pack != "none")
}

impl NewGroup {
    fn into_group(self) -> Group {
        Group {
            application: self.application.unwrap_or_else(|| self.name.to_string()),
            name: self.name,
            domain: self.domain,
            config: self.config,
            roles: Roles {
                provider: self.provider,
                dns: played(self.dns),
                load_balancer: played(self.load_balancer),
                configure: played(self.configure),
                metrics: played(self.metrics),
            },
            node_parameters: self.node_parameters,
            role_parameters: RoleParameters {
                dns: self.dns_parameters,
                load_balancer: self.load_balancer_parameters,
                configure: self.configure_parameters,
                metrics: self.metrics_parameters,
            },
            channel: self.channel.filter(|channel| !channel.is_empty()),
            suspensions: Vec::new(),
            deleting: false,
        }
    }
}

impl Governor {
    /// Defines a group and has it set up, in one transaction. Where that is held back (mode, freeze) the group is
    /// defined all the same, and set up once nothing holds it back any more.
    pub async fn create(&self, new: NewGroup, origin: Origin) -> Result<Admission, GovernorError> {
        let group = new.into_group();
        let problems = faults(&group, &self.parts.catalogue.borrow());
        refuse(group.name.as_str(), problems)?;
        let (name, now) = (group.name.clone(), self.now());
        let freeze = self.freezer.active(now).await?;
        let prepared = self.prepare(&GroupState::new(group.clone()), &Request::Create { origin }, now, freeze.as_ref());
        let mut writes = rows::changes(&GroupState::new(group), &prepared.after);
        writes.push(rows::own_row(&prepared.after));
        match self.parts.groups.group_create(&prepared.change(&name, 1, writes)).await {
            Ok(()) => self.committed(&name, prepared).await,
            Err(StoreError::Conflict) => Err(GovernorError::Exists(name)),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Takes in what the group's metric says its load is.
    pub async fn report_load(&self, name: &GroupName, load: Load) -> Result<(), GovernorError> {
        self.change(name, |state, now| {
            ledger::observe_load(state, load, now);
            Ok(())
        })
        .await
    }

    /// Says no to what waits for approval. `false`: nothing does.
    pub async fn deny(&self, name: &GroupName, author: &str) -> Result<bool, GovernorError> {
        self.change(name, |state, _now| {
            let approval = state.memory.approval.as_mut();
            Ok(approval.map(|approval| approval.denied_by = Some(author.to_owned())).is_some())
        })
        .await
    }

    /// Says whether the governor may choose a node for removal. `false`: the group has no such node.
    pub async fn protect(&self, name: &GroupName, node: &NodeName, protected: bool) -> Result<bool, GovernorError> {
        self.change(name, |state, _now| {
            let found = state.nodes.iter_mut().find(|known| known.name == *node && known.phase.counts());
            Ok(found.map(|node| node.protected = protected).is_some())
        })
        .await
    }

    /// Tells a group to leave a part of its work be, for so long or until [`Governor::resume`].
    pub async fn suspend(
        &self,
        name: &GroupName,
        part: Part,
        lasting: Option<Duration>,
        author: &str,
        reason: &str,
    ) -> Result<(), GovernorError> {
        self.change(name, |state, now| {
            let until = lasting.map(|lasting| now.plus(lasting));
            let suspensions = &mut state.group.suspensions;
            suspensions.retain(|suspension| suspension.part != part && suspension.is_active(now));
            suspensions.push(Suspension { part, until, author: author.to_owned(), reason: reason.to_owned() });
            Ok(())
        })
        .await
    }

    /// Lifts a suspension; `Part::All` lifts every one.
    pub async fn resume(&self, name: &GroupName, part: Part) -> Result<(), GovernorError> {
        self.change(name, |state, _now| {
            state.group.suspensions.retain(|suspension| part != Part::All && suspension.part != part);
            Ok(())
        })
        .await
    }
}

pub(super) fn refuse(name: &str, problems: Vec<String>) -> Result<(), GovernorError> {
    if problems.is_empty() { Ok(()) } else { Err(refusal(name, problems)) }
}

pub(super) fn refusal(name: &str, problems: Vec<String>) -> GovernorError {
    GovernorError::BadDefinition { name: name.to_owned(), problems }
}

/// All that is wrong with a group.
pub(super) fn faults(group: &Group, catalogue: &Catalogue) -> Vec<String> {
    let mut faults = group.config.validate().err().unwrap_or_default();
    let Roles { provider, dns, load_balancer, configure, metrics } = &group.roles;
    let packs = [Some(provider), dns.as_ref(), load_balancer.as_ref(), configure.as_ref(), metrics.as_ref()];
    for ((role, verbs), pack) in VERBS.iter().zip(packs) {
        let missing = |pack: &String| missing_verbs(pack, verbs, catalogue);
        let missing = pack.map(missing).unwrap_or_default();
        if let (Some(pack), false) = (pack, missing.is_empty()) {
            faults.push(format!("`{pack}` cannot be its {role}: there is no action {}", missing.join(", ")));
        }
    }
    if dns.is_some() && group.domain.is_empty() {
        faults.push("it names its nodes in DNS but has no `domain`; give it one or set `dns` to none".to_owned());
    }
    faults
}

fn missing_verbs(pack: &str, verbs: &[&str], catalogue: &Catalogue) -> Vec<String> {
    let is_there = |verb: &str| ActionRef::new(pack, verb).is_ok_and(|action| catalogue.actions.contains_key(&action));
    verbs.iter().filter(|verb| !is_there(verb)).map(|verb| format!("`{pack}.{verb}`")).collect()
}
