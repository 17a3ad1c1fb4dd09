//! A group's place in the load balancer: a target group of ELBv2, ours or one that was there before.

use std::num::NonZeroU16;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::answer::Element;
use super::calls::{Aws, Question};
use super::instances::{TAG_GROUP, TAG_OWNER};
use super::refusal::CallError;
use super::settings::Serving;
use super::signature::hex;
use crate::model::group::GroupName;

/// Stands for the group's name.
const GROUP: &str = "{group}";
const DEFAULT_NAME: &str = "petrel-{group}";
/// As ELBv2 limits it.
const MOST_CHARACTERS: usize = 32;
/// What is left of a longer name, before a digest of all of it.
const KEPT_CHARACTERS: usize = 23;

/// What `configs/aws.yaml` and the group's `load_balancer_parameters` say about target groups.
#[derive(Debug, Clone, Deserialize)]
struct Options {
    target_group: Option<String>,
    vpc_id: Option<String>,
    #[serde(default = "default_protocol")]
    protocol: String,
    health_check_path: Option<String>,
}

fn default_protocol() -> String {
    "HTTP".to_owned()
}

/// A target group that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetGroup {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

/// What became of a target group that is not needed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deletion {
    NotThere,
    Deleted,
    /// It is not ours, or in use; why it stays.
    Stays(String),
}

impl TargetGroup {
    fn of(item: &Element) -> Self {
        Self {
            arn: item.said(&["TargetGroupArn"]),
            name: item.said(&["TargetGroupName"]),
            port: item.text_at(&["Port"]).and_then(|port| port.parse().ok()),
        }
    }
}

impl Aws {
    /// What the target group of a group is called.
    pub(super) fn target_group_name(&self, group: &GroupName) -> anyhow::Result<String> {
        let options: Options = self.settings.part()?;
        name_of(options.target_group.as_deref().unwrap_or(DEFAULT_NAME), group)
    }

    /// The target group of this name, if there is one.
    pub(super) async fn find_target_group(&self, name: &str) -> Result<Option<TargetGroup>, CallError> {
        let question = Question::elb("DescribeTargetGroups").with("Names.member.1", name);
        match self.ask(&question).await {
            Ok(answer) => {
                let path = ["DescribeTargetGroupsResult", "TargetGroups", "member"];
                Ok(answer.all(&path).first().map(|item| TargetGroup::of(item)))
            }
            Err(error) if error.code() == Some("TargetGroupNotFound") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target group of a group, which has to be there.
    pub(super) async fn target_group(&self, group: &GroupName) -> anyhow::Result<TargetGroup> {
        let name = self.target_group_name(group)?;
        let found = self.find_target_group(&name).await?;
        found.with_context(|| {
            format!(
                "there is no target group `{name}`: run `aws.create_pool` for {group}, or name yours as `target_group`"
            )
        })
    }

    /// Makes sure that a group has its target group; whether it had to be made.
    pub(super) async fn create_pool(&self, group: &GroupName) -> anyhow::Result<(TargetGroup, bool)> {
        let name = self.target_group_name(group)?;
        if let Some(found) = self.find_target_group(&name).await? {
            return Ok((found, false));
        }
        let Options { vpc_id, protocol, health_check_path, .. } = self.settings.part()?;
        let vpc_id = vpc_id.with_context(|| {
            format!(
                "there is no target group `{name}`, and none can be made without a network: write `vpc_id: vpc-…` into \
                 configs/aws.yaml or the group's `load_balancer_parameters`, or name one that is there as `target_group`"
            )
        })?;
        let serving: Serving = self.settings.part()?;
        let port = serving.port.map_or(80, NonZeroU16::get).to_string();
        let tags = [(TAG_GROUP, Some(group.as_str())), (TAG_OWNER, self.settings.owner.as_deref())];
        let question = Question::elb("CreateTargetGroup")
            .with("Name", &name)
            .with("TargetType", "instance")
            .with("Protocol", &protocol)
            .with("Port", &port)
            .with("VpcId", &vpc_id)
            .with_some("HealthCheckPath", health_check_path.as_deref())
            .with_tags("Tags.member", tags.into_iter().filter_map(|(key, value)| Some((key, value?))));
        match self.ask(&question).await {
            Ok(_) => {}
            // Somebody else was faster, or we were, and did not hear of it.
            Err(error) if error.code() == Some("DuplicateTargetGroupName") => {}
            Err(error) => return Err(error.into()),
        }
        let made = self.find_target_group(&name).await?;
        Ok((made.with_context(|| format!("ELBv2 does not show the target group `{name}` that it has made"))?, true))
    }

    /// Takes a group's target group away, if we made it and no listener uses it.
    pub(super) async fn delete_pool(&self, group: &GroupName) -> anyhow::Result<Deletion> {
        let name = self.target_group_name(group)?;
        let Some(found) = self.find_target_group(&name).await? else { return Ok(Deletion::NotThere) };
        if !self.is_ours(&found, group).await? {
            return Ok(Deletion::Stays(format!("`{name}` has no tag {TAG_GROUP} with {group}: it was not made by us")));
        }
        match self.ask(&Question::elb("DeleteTargetGroup").with("TargetGroupArn", &found.arn)).await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(error) if error.code() == Some("TargetGroupNotFound") => Ok(Deletion::NotThere),
            Err(error) if error.code() == Some("ResourceInUse") => Ok(Deletion::Stays(error.to_string())),
            Err(error) => bail!(error),
        }
    }

    async fn is_ours(&self, found: &TargetGroup, group: &GroupName) -> Result<bool, CallError> {
        let question = Question::elb("DescribeTags").with("ResourceArns.member.1", &found.arn);
        let answer = self.ask(&question).await?;
        let tags = answer.all(&["DescribeTagsResult", "TagDescriptions", "member", "Tags", "member"]);
        let has = |key: &str, value: Option<&str>| {
            tags.iter().any(|tag| tag.text_at(&["Key"]) == Some(key) && tag.text_at(&["Value"]) == value)
        };
        let owner = self.settings.owner.as_deref();
        Ok(has(TAG_GROUP, Some(group.as_str())) && (owner.is_none() || has(TAG_OWNER, owner)))
    }
}

/// ELBv2 takes fewer characters than a group's name may have; what is too long ends in a digest, always the same.
fn name_of(template: &str, group: &GroupName) -> anyhow::Result<String> {
    let name = template.replace(GROUP, group.as_str());
    let plain = name.chars().all(|char| char.is_ascii_alphanumeric() || char == '-');
    ensure!(
        plain && !name.is_empty() && !name.starts_with('-') && !name.ends_with('-'),
        "`target_group` makes `{name}`: ELBv2 takes letters, digits and `-`, not at the ends"
    );
    if name.len() <= MOST_CHARACTERS {
        return Ok(name);
    }
    let kept: String = name.chars().take(KEPT_CHARACTERS).collect();
    let digest: String = hex(&Sha256::digest(&name)).chars().take(MOST_CHARACTERS - KEPT_CHARACTERS - 1).collect();
    Ok(format!("{kept}-{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_every_group_fits() {
        let name = |template: &str, group: &str| name_of(template, &group.parse().unwrap());
        assert_eq!(name(DEFAULT_NAME, "web").unwrap(), "petrel-web");
        assert_eq!(name("shop", "web").unwrap(), "shop");
        let long = [format!("{}a", "x".repeat(39)), format!("{}b", "x".repeat(39))];
        let names = long.map(|group| name(DEFAULT_NAME, &group).unwrap());
        assert!(names.iter().all(|name| name.len() == MOST_CHARACTERS) && names[0] != names[1], "{names:?}");
        assert!(name("{group} & co", "web").unwrap_err().to_string().contains("letters, digits"));
    }
}
