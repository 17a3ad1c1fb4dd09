//! The governor behind the door `/asg`: what programs say is read once here, and its answers become theirs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::api::asg::{AsgError, AsgResult, AsgService, Force, Freeze, NewGroup, Reconfigure, Resume, Scale, Suspend};
use crate::governor::admission::Admission;
use crate::governor::error::GovernorError;
use crate::governor::service::Governor;
use crate::model::decision::{Delays, Request};
use crate::model::group::{GroupName, NodeCount, Part};
use crate::model::node::NodeName;
use crate::model::reason::Reason;
use crate::model::scaling::Origin;
use crate::model::time::parse_duration;
use crate::store::rows::Page;

/// The governor as [`AsgService`].
#[derive(Debug, Clone)]
pub struct GovernorDoor {
    governor: Arc<Governor>,
}

impl GovernorDoor {
    /// Opens the door to a governor.
    pub const fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }

    async fn ask(&self, group: &str, request: Request) -> AsgResult {
        let admission = self.governor.admit(&group_name(group)?, &request).await?;
        granted(&admission)
    }

    async fn shown(&self, group: &GroupName) -> AsgResult {
        Ok(json!(self.governor.get(group).await?))
    }

    async fn existing(&self, group: &str) -> Result<GroupName, AsgError> {
        let name = group_name(group)?;
        if self.governor.names().await?.contains(&name) || !self.governor.explain(&name, 1).await?.is_empty() {
            return Ok(name);
        }
        Err(GovernorError::NoSuchGroup(name).into())
    }
}

#[async_trait]
impl AsgService for GovernorDoor {
    async fn list(&self) -> AsgResult {
        Ok(json!(self.governor.list().await?))
    }

    async fn get(&self, group: &str) -> AsgResult {
        self.shown(&group_name(group)?).await
    }

    async fn create(&self, new: NewGroup, by: &str) -> AsgResult {
        let given = json!(new);
        let given = given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        let definition = serde_json::from_value(Value::Object(given));
        let definition = definition.map_err(|problem| AsgError::Invalid(vec![problem.to_string()]))?;
        let admission = self.governor.create(definition, person(by)).await?;
        let mut answer = json!(admission.view());
        answer["group"] = json!(new.name);
        Ok(answer)
    }

    async fn configure(&self, group: &str, change: Reconfigure, _by: &str) -> AsgResult {
        let name = group_name(group)?;
        self.governor.configure(&name, &change.config).await?;
        self.shown(&name).await
    }

    /// A deletion waits for no delay, so that force adds nothing to it.
    async fn delete(&self, group: &str, _force: Force, by: &str) -> AsgResult {
        self.ask(group, Request::Delete { origin: person(by) }).await
    }

    async fn expand(&self, group: &str, scale: Scale, by: &str) -> AsgResult {
        let (by_nodes, delays) = (scale.by.map(NodeCount::new), delays(scale.force));
        self.ask(group, Request::Expand { by: by_nodes, delays, origin: person(by) }).await
    }

    async fn deflate(&self, group: &str, scale: Scale, by: &str) -> AsgResult {
        let (by_nodes, delays) = (scale.by.map(NodeCount::new), delays(scale.force));
        self.ask(group, Request::Deflate { by: by_nodes, delays, origin: person(by) }).await
    }

    async fn add_node(&self, group: &str, force: Force, by: &str) -> AsgResult {
        self.ask(group, Request::AddNode { delays: delays(force.force), origin: person(by) }).await
    }

    async fn delete_node(&self, group: &str, node: &str, force: Force, by: &str) -> AsgResult {
        let name: NodeName = node.parse().map_err(|_| AsgError::NotFound(format!("node `{node}`")))?;
        self.ask(group, Request::DeleteNode { name, delays: delays(force.force), origin: person(by) }).await
    }

    async fn explain(&self, group: &str, limit: i64) -> AsgResult {
        Ok(json!(self.governor.explain(&self.existing(group).await?, limit).await?))
    }

    async fn activities(&self, group: &str, limit: i64) -> AsgResult {
        let name = self.existing(group).await?;
        Ok(json!(self.governor.activities(&name, Page { limit, offset: 0 }).await?))
    }

    async fn suspend(&self, group: &str, suspend: Suspend, by: &str) -> AsgResult {
        let (name, part) = (group_name(group)?, part(&suspend.what)?);
        let lasting = duration(suspend.lasting.as_deref())?;
        self.governor.suspend(&name, part, lasting, by, &suspend.reason).await?;
        self.shown(&name).await
    }

    async fn resume(&self, group: &str, resume: Resume, _by: &str) -> AsgResult {
        let name = group_name(group)?;
        self.governor.resume(&name, part(&resume.what)?).await?;
        self.shown(&name).await
    }

    async fn freeze(&self, freeze: Freeze, by: &str) -> AsgResult {
        let lasting = duration(freeze.lasting.as_deref())?;
        Ok(json!(self.governor.freeze(by, &freeze.reason, lasting).await?))
    }

    async fn thaw(&self, by: &str) -> AsgResult {
        Ok(json!({ "thawed": self.governor.thaw(by).await? }))
    }

    async fn freeze_state(&self) -> AsgResult {
        Ok(json!(self.governor.frozen().await?))
    }
}

impl From<GovernorError> for AsgError {
    fn from(problem: GovernorError) -> Self {
        match problem {
            GovernorError::NoSuchGroup(name) => Self::NotFound(format!("group `{name}`")),
            GovernorError::BadDefinition { problems, .. } => Self::Invalid(problems),
            GovernorError::Exists(_) | GovernorError::Ledger { .. } | GovernorError::Busy(_) => {
                Self::Refused(problem.to_string())
            }
            GovernorError::Store(problem) => Self::Store(problem),
        }
    }
}

/// What is not going to happen is refused with the governor's own reason.
fn granted(admission: &Admission) -> AsgResult {
    match &admission.decision.reason {
        Reason::NoSuchNode { name } => Err(AsgError::NotFound(format!("node `{name}`"))),
        _ if admission.is_refused() => Err(AsgError::Refused(admission.reason())),
        _ => Ok(json!(admission.view())),
    }
}

/// What is no name can be no group's.
fn group_name(text: &str) -> Result<GroupName, AsgError> {
    text.parse().map_err(|_| AsgError::NotFound(format!("group `{text}`")))
}

fn person(name: &str) -> Origin {
    Origin::Human { user: name.to_owned() }
}

const fn delays(force: bool) -> Delays {
    if force { Delays::Skip } else { Delays::Respect }
}

fn part(text: &str) -> Result<Part, AsgError> {
    serde_json::from_value(json!(text)).map_err(|_| {
        AsgError::Invalid(vec![format!("`{text}` cannot be suspended; there is expand, deflate, replace and all")])
    })
}

fn duration(text: Option<&str>) -> Result<Option<Duration>, AsgError> {
    text.map(parse_duration).transpose().map_err(|problem| AsgError::Invalid(vec![problem.to_string()]))
}
