//! Instances as targets of a load balancer: in service only once ELBv2 finds them healthy, given time to finish before
//! they go.

use std::time::Duration;

use anyhow::{anyhow, bail};

use super::answer::Element;
use super::calls::{Aws, Question};
use super::instances::{Instance, Which};
use super::refusal::CallError;
use super::target_group::TargetGroup;
use crate::clock::{sleep, timeout};
use crate::model::group::GroupName;
use crate::model::node::NodeName;

/// A target as ELBv2 shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) port: Option<u16>,
    /// In ELBv2's words: `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`.
    pub(super) health: String,
    pub(super) reason: String,
    pub(super) description: String,
}

impl Target {
    fn of(item: &Element) -> Self {
        Self {
            id: item.said(&["Target", "Id"]),
            port: item.text_at(&["Target", "Port"]).and_then(|port| port.parse().ok()),
            health: item.said(&["TargetHealth", "State"]),
            reason: item.said(&["TargetHealth", "Reason"]),
            description: item.said(&["TargetHealth", "Description"]),
        }
    }

    /// It is not registered, whatever else is said of it.
    fn is_gone(&self) -> bool {
        self.health == "unused" && self.reason == "Target.NotRegistered"
    }

    /// Registered where nobody sends requests.
    fn is_on_no_listener(&self) -> bool {
        self.health == "unused" && self.reason == "Target.NotInUse"
    }

    fn said(&self) -> String {
        let Self { health, reason, description, .. } = self;
        let parts = [health, reason, description].into_iter().filter(|part| !part.is_empty());
        parts.cloned().collect::<Vec<_>>().join(", ")
    }
}

/// How a target left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    WasNotThere,
    Drained,
    /// The time was over first.
    StillDraining,
}

impl Aws {
    /// All targets of a target group.
    pub(super) async fn targets(&self, pool: &TargetGroup) -> Result<Vec<Target>, CallError> {
        let question = Question::elb("DescribeTargetHealth").with("TargetGroupArn", &pool.arn);
        let answer = self.ask(&question).await?;
        let found = answer.all(&["DescribeTargetHealthResult", "TargetHealthDescriptions", "member"]);
        Ok(found.into_iter().map(Target::of).filter(|target| !target.is_gone()).collect())
    }

    /// Brings a node into service; if it does not get healthy it is taken away again.
    pub(super) async fn add_target(
        &self,
        pool: &TargetGroup,
        group: &GroupName,
        name: &NodeName,
        port: Option<u16>,
        within: Duration,
    ) -> anyhow::Result<(Instance, Target)> {
        let living = self.instances_of(group, name).await?.into_iter().find(|instance| instance.state.exists());
        let instance = living.ok_or_else(|| {
            anyhow!("EC2 has no instance of {name}: the load balancer `aws` serves nodes of the provider `aws`")
        })?;
        let port = port.or(pool.port);
        for other in self.targets(pool).await?.iter().filter(|it| it.id == instance.id && it.port != port) {
            self.deregister(pool, other).await?;
        }
        let port_text = port.map(|port| port.to_string());
        let register = Question::elb("RegisterTargets")
            .with("TargetGroupArn", &pool.arn)
            .with("Targets.member.1.Id", &instance.id)
            .with_some("Targets.member.1.Port", port_text.as_deref());
        self.ask(&register).await?;
        let mut last = None;
        let healthy = timeout(&*self.clock, within, self.until_healthy(pool, &instance.id, port, &mut last)).await;
        if let Ok(target) = healthy {
            return Ok((instance, target?));
        }
        if let Some(target) = &last {
            self.deregister(pool, target).await?;
        }
        let said = last.as_ref().map_or_else(|| "not registered".to_owned(), Target::said);
        bail!("{name} was not healthy in `{}` within {within:?} and was taken away again: {said}", pool.name)
    }

    async fn until_healthy(
        &self,
        pool: &TargetGroup,
        id: &str,
        port: Option<u16>,
        last: &mut Option<Target>,
    ) -> anyhow::Result<Target> {
        loop {
            let seen = self.targets(pool).await?;
            *last = seen.into_iter().find(|target| target.id == id && target.port == port);
            if let Some(target) = last.as_ref() {
                if target.health == "healthy" {
                    return Ok(target.clone());
                }
                if target.is_on_no_listener() {
                    self.deregister(pool, target).await?;
                    bail!("no listener sends requests to the target group `{}`: attach it to one", pool.name);
                }
            }
            sleep(&*self.clock, self.settings.pace.check_interval).await;
        }
    }

    /// Gives a node no new requests and waits until the old ones are done, or the time is over.
    pub(super) async fn drain_target(
        &self,
        pool: &TargetGroup,
        group: &GroupName,
        name: &NodeName,
        within: Duration,
    ) -> anyhow::Result<Left> {
        let ids = self.ids_of(group, name).await?;
        if !self.deregister_all(pool, &ids).await? {
            return Ok(Left::WasNotThere);
        }
        let drained = async {
            while self.targets(pool).await?.iter().any(|target| ids.contains(&target.id)) {
                sleep(&*self.clock, self.settings.pace.check_interval).await;
            }
            Ok(Left::Drained)
        };
        timeout(&*self.clock, within, drained).await.unwrap_or(Ok(Left::StillDraining))
    }

    /// Gives a node no more requests; whether it had a place.
    pub(super) async fn remove_target(
        &self,
        pool: &TargetGroup,
        group: &GroupName,
        name: &NodeName,
    ) -> anyhow::Result<bool> {
        let ids = self.ids_of(group, name).await?;
        self.deregister_all(pool, &ids).await
    }

    async fn deregister_all(&self, pool: &TargetGroup, ids: &[String]) -> anyhow::Result<bool> {
        let targets = self.targets(pool).await?;
        let ours: Vec<&Target> = targets.iter().filter(|target| ids.contains(&target.id)).collect();
        for target in ours.iter().filter(|target| target.health != "draining") {
            self.deregister(pool, target).await?;
        }
        Ok(!ours.is_empty())
    }

    async fn deregister(&self, pool: &TargetGroup, target: &Target) -> Result<(), CallError> {
        let port = target.port.map(|port| port.to_string());
        let question = Question::elb("DeregisterTargets")
            .with("TargetGroupArn", &pool.arn)
            .with("Targets.member.1.Id", &target.id)
            .with_some("Targets.member.1.Port", port.as_deref());
        match self.ask(&question).await {
            // An instance that is long gone, or a repetition of what was heard.
            Err(error) if error.code() == Some("InvalidTarget") => Ok(()),
            done => done.map(drop),
        }
    }

    async fn ids_of(&self, group: &GroupName, name: &NodeName) -> anyhow::Result<Vec<String>> {
        Ok(self.instances_of(group, name).await?.into_iter().map(|instance| instance.id).collect())
    }

    async fn instances_of(&self, group: &GroupName, name: &NodeName) -> anyhow::Result<Vec<Instance>> {
        self.instances(Which { group: Some(group), name: Some(name), tag: None }).await
    }
}
