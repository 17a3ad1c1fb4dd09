//! Instances as EC2 shows them, found by their tags.

use anyhow::ensure;

use super::answer::Element;
use super::calls::{Aws, Question};
use super::refusal::CallError;
use super::settings::AddressType;
use crate::model::group::GroupName;
use crate::model::node::NodeName;

/// Whose group an instance is in.
pub(super) const TAG_GROUP: &str = "petrel:group";
/// Which node of it it is.
pub(super) const TAG_NODE: &str = "petrel:node";
/// Which wish it was made for.
pub(super) const TAG_IDEM: &str = "petrel:idem";
/// Which installation made it, where several share an account.
pub(super) const TAG_OWNER: &str = "petrel:owner";
/// Which of its addresses is used.
pub(super) const TAG_ADDRESS: &str = "petrel:address";
/// Where it serves.
pub(super) const TAG_PORT: &str = "petrel:port";

const PAGE: &str = "100";
/// A group has a few nodes; more pages than this are not of a group.
const MOST_PAGES: usize = 200;

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instance {
    /// First, so that the order is by age; EC2 writes all times in one form.
    pub(super) launched_at: String,
    pub(super) id: String,
    pub(super) state: InstanceState,
    pub(super) size: String,
    pub(super) zone: String,
    pub(super) vpc_id: String,
    /// Why it is in its state, if EC2 says so.
    pub(super) reason: String,
    private_address: Option<String>,
    public_address: Option<String>,
    tags: Vec<(String, String)>,
}

/// The states of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InstanceState {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl InstanceState {
    /// A state that is not known is one of an instance that is there.
    fn named(text: &str) -> Self {
        match text {
            "running" => Self::Running,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            "shutting-down" => Self::ShuttingDown,
            "terminated" => Self::Terminated,
            _ => Self::Pending,
        }
    }

    /// In EC2's words.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }

    /// It is there, and costs.
    pub(super) const fn exists(self) -> bool {
        !matches!(self, Self::ShuttingDown | Self::Terminated)
    }

    /// It serves or is about to.
    pub(super) const fn is_alive(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

impl Instance {
    fn of(item: &Element) -> Self {
        let tags = item.all(&["tagSet", "item"]);
        Self {
            launched_at: item.said(&["launchTime"]),
            id: item.said(&["instanceId"]),
            state: InstanceState::named(&item.said(&["instanceState", "name"])),
            size: item.said(&["instanceType"]),
            zone: item.said(&["placement", "availabilityZone"]),
            vpc_id: item.said(&["vpcId"]),
            reason: item.said(&["stateReason", "message"]),
            private_address: item.text_at(&["privateIpAddress"]).map(str::to_owned),
            public_address: item.text_at(&["ipAddress"]).map(str::to_owned),
            tags: tags.iter().map(|tag| (tag.said(&["key"]), tag.said(&["value"]))).collect(),
        }
    }

    /// The first instance that an answer to `RunInstances` has.
    pub(super) fn made_by(answer: &Element) -> Option<Self> {
        answer.all(&["instancesSet", "item"]).first().map(|item| Self::of(item)).filter(|made| !made.id.is_empty())
    }

    /// What a tag says.
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The node that it is.
    pub(super) fn node(&self) -> Option<&str> {
        self.tag(TAG_NODE)
    }

    /// Its address of the sort that was said when it was made.
    pub(super) fn address(&self, otherwise: AddressType) -> Option<&str> {
        let wanted = match self.tag(TAG_ADDRESS) {
            Some("public") => AddressType::Public,
            Some("private") => AddressType::Private,
            _ => otherwise,
        };
        self.address_of(wanted)
    }

    /// Its address of a sort.
    pub(super) fn address_of(&self, sort: AddressType) -> Option<&str> {
        match sort {
            AddressType::Private => self.private_address.as_deref(),
            AddressType::Public => self.public_address.as_deref(),
        }
    }
}

/// Which instances are looked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Which<'a> {
    pub(super) group: Option<&'a GroupName>,
    pub(super) name: Option<&'a NodeName>,
    pub(super) tag: Option<&'a str>,
}

impl Aws {
    /// All instances of this kind, those that are gone as well as long as EC2 shows them, the oldest first.
    pub(super) async fn instances(&self, which: Which<'_>) -> anyhow::Result<Vec<Instance>> {
        let mut found: Vec<Instance> = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let question = self.described(which).with_some("NextToken", next.as_deref());
            let answer = self.ask(&question).await?;
            let items = answer.all(&["reservationSet", "item", "instancesSet", "item"]);
            found.extend(items.into_iter().map(Instance::of));
            next = answer.text_at(&["nextToken"]).map(str::to_owned);
            if next.is_none() {
                found.sort();
                return Ok(found);
            }
        }
        ensure!(false, "EC2 shows more than {MOST_PAGES} pages of instances; that is no group");
        Ok(found)
    }

    fn described(&self, which: Which<'_>) -> Question {
        let Which { group, name, tag } = which;
        let ours = [
            (TAG_GROUP, group.map(GroupName::as_str)),
            (TAG_NODE, name.map(NodeName::as_str)),
            (TAG_IDEM, tag),
            (TAG_OWNER, self.settings.owner.as_deref()),
        ];
        let by_value = ours.into_iter().filter_map(|(key, value)| Some((format!("tag:{key}"), value?)));
        let any = [("tag-key".to_owned(), TAG_NODE)];
        let filters = (1..).zip(any.into_iter().chain(by_value));
        let question = Question::ec2("DescribeInstances").with("MaxResults", PAGE);
        filters.fold(question, |question, (number, (key, value))| {
            question.with(&format!("Filter.{number}.Name"), &key).with(&format!("Filter.{number}.Value.1"), value)
        })
    }

    /// Ends an instance; one that EC2 does not know is gone.
    pub(super) async fn terminate(&self, id: &str) -> Result<(), CallError> {
        let ended = self.ask(&Question::ec2("TerminateInstances").with("InstanceId.1", id)).await;
        match ended {
            Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => Ok(()),
            ended => ended.map(drop),
        }
    }
}
