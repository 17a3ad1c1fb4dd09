//! The governor behind its door: words in, words out. What is decided is decided in `governor`.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::api::asg::{
    AsgError, AsgResult, AsgService, Force, Freeze, NewGroup, Protect, Reconfigure, Resume, Scale, Suspend,
};
use crate::governor::admission::Admission;
use crate::governor::definition;
use crate::governor::error::GovernorError;
use crate::governor::service::Governor;
use crate::model::decision::{Delays, Request};
use crate::model::group::{GroupName, NodeCount, Part};
use crate::model::node::NodeName;
use crate::model::scaling::Origin;
use crate::model::time::parse_duration;
use crate::store::rows::Page;

/// [`AsgService`] over the governor.
#[derive(Debug)]
pub(super) struct GovernorDoor {
    governor: Arc<Governor>,
}

impl GovernorDoor {
    /// A door to this governor.
    pub(super) const fn new(governor: Arc<Governor>) -> Self {
        Self { governor }
    }

    async fn admit(&self, group: &str, request: Request) -> AsgResult {
        let group = group_name(group)?;
        answer(&self.governor.admit(&group, &request).await?)
    }
}

impl From<GovernorError> for AsgError {
    fn from(problem: GovernorError) -> Self {
        match problem {
            GovernorError::NoSuchGroup(name) => Self::NotFound(format!("group `{name}`")),
            GovernorError::BadDefinition { name: _, problems } => Self::Invalid(problems),
            GovernorError::Store(problem) => Self::Store(problem),
            GovernorError::Exists(_) | GovernorError::Ledger { .. } | GovernorError::Busy(_) => {
                Self::Refused(problem.to_string())
            }
        }
    }
}

fn group_name(text: &str) -> Result<GroupName, AsgError> {
    text.parse().map_err(|problem| AsgError::Invalid(vec![format!("{problem}")]))
}

fn node_name(text: &str) -> Result<NodeName, AsgError> {
    text.parse().map_err(|problem| AsgError::Invalid(vec![format!("{problem}")]))
}

fn no_such_node(group: &GroupName, node: &NodeName) -> AsgError {
    AsgError::NotFound(format!("node `{node}` of group `{group}`"))
}

/// What a person asks for and does not get is an error at the door; the reason is the governor's.
fn answer(admission: &Admission) -> AsgResult {
    if admission.is_refused() {
        return Err(AsgError::Refused(admission.reason()));
    }
    Ok(json!(admission.view()))
}

fn human(by: &str) -> Origin {
    Origin::Human { user: by.to_owned() }
}

const fn delays(force: bool) -> Delays {
    if force { Delays::Skip } else { Delays::Respect }
}

fn lasting(text: Option<&str>) -> Result<Option<std::time::Duration>, AsgError> {
    text.map(parse_duration).transpose().map_err(|problem| AsgError::Invalid(vec![format!("for: {problem}")]))
}

fn part(text: &str) -> Result<Part, AsgError> {
    serde_json::from_value(json!(text))
        .map_err(|_| AsgError::Invalid(vec![format!("what: `{text}` is none of expand, deflate, replace and all")]))
}

#[async_trait]
impl AsgService for GovernorDoor {
    async fn list(&self) -> AsgResult {
        Ok(json!(self.governor.list().await?))
    }

    async fn get(&self, group: &str) -> AsgResult {
        Ok(json!(self.governor.get(&group_name(group)?).await?))
    }

    async fn create(&self, new: NewGroup, by: &str) -> AsgResult {
        let wanted: definition::NewGroup = serde_json::from_value(without_nulls(json!(new)))
            .map_err(|problem| AsgError::Invalid(vec![problem.to_string()]))?;
        let name = wanted.name.clone();
        let admission = self.governor.create(wanted, human(by)).await?;
        let mut view = json!(admission.view());
        view["group"] = json!(name);
        Ok(view)
    }

    async fn configure(&self, group: &str, change: Reconfigure, _by: &str) -> AsgResult {
        let name = group_name(group)?;
        let change = serde_json::from_value(Value::Object(change.0))
            .map_err(|problem| AsgError::Invalid(vec![problem.to_string()]))?;
        self.governor.redefine(&name, &change).await?;
        Ok(json!(self.governor.get(&name).await?))
    }

    async fn delete(&self, group: &str, by: &str) -> AsgResult {
        self.admit(group, Request::Delete { origin: human(by) }).await
    }

    async fn expand(&self, group: &str, scale: Scale, by: &str) -> AsgResult {
        let request =
            Request::Expand { by: scale.by.map(NodeCount::new), delays: delays(scale.force), origin: human(by) };
        self.admit(group, request).await
    }

    async fn deflate(&self, group: &str, scale: Scale, by: &str) -> AsgResult {
        let request =
            Request::Deflate { by: scale.by.map(NodeCount::new), delays: delays(scale.force), origin: human(by) };
        self.admit(group, request).await
    }

    async fn add_node(&self, group: &str, force: Force, by: &str) -> AsgResult {
        self.admit(group, Request::AddNode { delays: delays(force.force), origin: human(by) }).await
    }

    async fn delete_node(&self, group: &str, node: &str, force: Force, by: &str) -> AsgResult {
        let (group_name, name) = (group_name(group)?, node_name(node)?);
        let known = self.governor.get(&group_name).await?;
        if !known.nodes.iter().any(|node| node.name == name) {
            return Err(no_such_node(&group_name, &name));
        }
        self.admit(group, Request::DeleteNode { name, delays: delays(force.force), origin: human(by) }).await
    }

    async fn protect(&self, group: &str, node: &str, protect: Protect, _by: &str) -> AsgResult {
        let (name, node) = (group_name(group)?, node_name(node)?);
        if !self.governor.protect(&name, &node, protect.protected).await? {
            return Err(no_such_node(&name, &node));
        }
        Ok(json!(self.governor.get(&name).await?))
    }

    async fn approve(&self, group: &str, by: &str) -> AsgResult {
        self.admit(group, Request::Approve { origin: human(by) }).await
    }

    async fn deny(&self, group: &str, by: &str) -> AsgResult {
        let name = group_name(group)?;
        if !self.governor.deny(&name, by).await? {
            return Err(AsgError::Refused(format!("nothing waits for approval in group `{name}`")));
        }
        Ok(json!(self.governor.get(&name).await?))
    }

    async fn explain(&self, group: &str, limit: i64) -> AsgResult {
        Ok(json!(self.governor.explain(&group_name(group)?, limit).await?))
    }

    async fn activities(&self, group: &str, limit: i64) -> AsgResult {
        Ok(json!(self.governor.activities(&group_name(group)?, Page { limit, offset: 0 }).await?))
    }

    async fn suspend(&self, group: &str, suspend: Suspend, by: &str) -> AsgResult {
        let name = group_name(group)?;
        let lasting = lasting(suspend.lasting.as_deref())?;
        self.governor.suspend(&name, part(&suspend.what)?, lasting, by, &suspend.reason).await?;
        Ok(json!(self.governor.get(&name).await?))
    }

    async fn resume(&self, group: &str, resume: Resume, _by: &str) -> AsgResult {
        let name = group_name(group)?;
        self.governor.resume(&name, part(&resume.what)?).await?;
        Ok(json!(self.governor.get(&name).await?))
    }

    async fn freeze(&self, freeze: Freeze, by: &str) -> AsgResult {
        let lasting = lasting(freeze.lasting.as_deref())?;
        Ok(json!(self.governor.freeze(by, &freeze.reason, lasting).await?))
    }

    async fn thaw(&self, by: &str) -> AsgResult {
        Ok(json!(self.governor.thaw(by).await?))
    }

    async fn freeze_state(&self) -> AsgResult {
        Ok(json!(self.governor.frozen().await?))
    }
}

/// What was not said is left out, so that defaults apply.
fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}
