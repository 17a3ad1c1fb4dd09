//! What a node is to be, and the one question that asks EC2 for it. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::calls::Question;
use super::instances::{TAG_ADDRESS, TAG_GROUP, TAG_IDEM, TAG_NODE, TAG_OWNER, TAG_PORT};
use super::settings::{Serving, Settings};
use super::signature::hex;
use crate::model::group::GroupName;
use crate::model::node::NodeName;

/// As EC2 limits it, before it is encoded.
const MOST_USER_DATA_BYTES: usize = 16 << 10;

/// What `configs/aws.yaml` and the group's `node_parameters` say about nodes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Options {
    image_id: Option<String>,
    instance_type: Option<Several>,
    #[serde(default)]
    subnet_ids: Vec<String>,
    #[serde(default)]
    availability_zones: Vec<String>,
    #[serde(default)]
    security_group_ids: Vec<String>,
    key_name: Option<String>,
    user_data: Option<String>,
    iam_instance_profile: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// One, or several in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Several {
    One(String),
    InOrder(Vec<String>),
}

impl Several {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::InOrder(several) => several,
        }
    }
}

/// A node that is wanted, and who wants it.
#[derive(Debug, Clone)]
pub(super) struct NodeWish {
    pub(super) group: GroupName,
    pub(super) name: NodeName,
    /// The same tag means the same node.
    pub(super) tag: String,
    image_id: String,
    sizes: Vec<String>,
    places: Vec<Place>,
    options: Options,
    tags: BTreeMap<String, String>,
}

/// Where in the region.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Subnet(String),
    Zone(String),
    Anywhere,
}

/// A size and a place that are tried together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    size: String,
    place: Place,
}

impl NodeWish {
    /// What the configuration and a call wish. A call's `size` is a type of instances in the words of all providers.
    pub(super) fn new(
        settings: &Settings,
        group: GroupName,
        name: NodeName,
        tag: String,
        own_type: Option<Several>,
    ) -> anyhow::Result<Self> {
        let mut options: Options = settings.part()?;
        let missing = "is not said: write it into the group's `node_parameters` or into configs/aws.yaml, as";
        let image_id = options.image_id.take().with_context(|| format!("`image_id` {missing} `image_id: ami-…`"))?;
        let sizes = own_type.or_else(|| options.instance_type.take()).map(Several::into_list).unwrap_or_default();
        ensure!(!sizes.is_empty(), "`instance_type` {missing} `instance_type: t3.small`");
        let user_data_bytes = options.user_data.as_ref().map_or(0, String::len);
        ensure!(
            user_data_bytes <= MOST_USER_DATA_BYTES,
            "`user_data` has {user_data_bytes} bytes; EC2 takes {MOST_USER_DATA_BYTES}"
        );
        let mut tags = std::mem::take(&mut options.tags);
        tags.entry("Name".to_owned()).or_insert_with(|| name.to_string());
        let serving: Serving = settings.part()?;
        let ours = [
            (TAG_GROUP, Some(group.to_string())),
            (TAG_NODE, Some(name.to_string())),
            (TAG_IDEM, Some(tag.clone())),
            (TAG_OWNER, settings.owner.clone()),
            (TAG_ADDRESS, Some(settings.address_type.to_string())),
            (TAG_PORT, serving.port.map(|port| port.to_string())),
        ];
        tags.extend(ours.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        let places = places(&options, &name);
        Ok(Self { group, name, tag, image_id, sizes, places, options, tags })
    }

    /// Every size at every place, a better size before a nearer place.
    pub(super) fn placements(&self) -> Vec<Placement> {
        let of_size = |size: &String| {
            let placed = self.places.iter().map(|place| Placement { size: size.clone(), place: place.clone() });
            placed.collect::<Vec<_>>()
        };
        self.sizes.iter().flat_map(of_size).collect()
    }

    /// Asks for this node at a place. What was asked before, and is the same in all, gets the same instance from EC2;
    /// `dead` are the instances that it has had already, since EC2 would say their names for ever.
    pub(super) fn question(&self, placement: &Placement, dead: &[&str]) -> Question {
        let Options { security_group_ids, key_name, user_data, iam_instance_profile, .. } = &self.options;
        let user_data = user_data.as_ref().map(|text| BASE64_STANDARD.encode(text));
        let question = Question::ec2("RunInstances")
            .with("MinCount", "1")
            .with("MaxCount", "1")
            .with("ImageId", &self.image_id)
            .with("InstanceType", &placement.size)
            // A node that is shut down from within is gone, as everywhere else.
            .with("InstanceInitiatedShutdownBehavior", "terminate")
            .with_each("SecurityGroupId", security_group_ids)
            .with_some("KeyName", key_name.as_deref())
            .with_some("UserData", user_data.as_deref())
            .with_some("IamInstanceProfile.Name", iam_instance_profile.as_deref())
            .with("TagSpecification.1.ResourceType", "instance")
            .with_tags("TagSpecification.1.Tag", self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let question = match &placement.place {
            Place::Subnet(id) => question.with("SubnetId", id),
            Place::Zone(name) => question.with("Placement.AvailabilityZone", name),
            Place::Anywhere => question,
        };
        let all = format!("{question:?} after {dead:?}");
        question.with("ClientToken", &hex(&Sha256::digest(all)))
    }
}

/// Nodes begin at different places, each always at the same one, so that a group is spread.
fn places(options: &Options, name: &NodeName) -> Vec<Place> {
    let Options { subnet_ids, availability_zones, .. } = options;
    let mut places: Vec<Place> = match (subnet_ids.is_empty(), availability_zones.is_empty()) {
        (false, _) => subnet_ids.iter().cloned().map(Place::Subnet).collect(),
        (true, false) => availability_zones.iter().cloned().map(Place::Zone).collect(),
        (true, true) => vec![Place::Anywhere],
    };
    let number = name.as_str().rsplit('-').next().and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
    let first = number % places.len();
    places.rotate_left(first);
    places
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, place } = self;
        match place {
            Place::Subnet(place) | Place::Zone(place) => write!(f, "{size} in {place}"),
            Place::Anywhere => write!(f, "{size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::model::pack::{Catalogue, Pack};

    fn wish(name: &str, call: &Value, own_type: Option<Several>) -> anyhow::Result<NodeWish> {
        let config = json!({ "region": "eu-central-1", "access_key_id": "AKID", "secret_access_key": "s" });
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        let catalogue = Catalogue { packs: [("aws".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        let settings = Settings::of(&catalogue, call.as_object().unwrap())?;
        NodeWish::new(&settings, "web".parse().unwrap(), name.parse().unwrap(), "t-1".to_owned(), own_type)
    }

    fn one(size: &str) -> Several {
        Several::One(size.to_owned())
    }

    #[test]
    fn sizes_are_tried_in_order_and_places_in_turn() {
        let call =
            json!({ "image_id": "ami-1", "instance_type": ["t3.small", "t3a.small"], "subnet_ids": ["s-a", "s-b"] });
        let shown = |name| {
            let placements = wish(name, &call, None).unwrap().placements();
            placements.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shown("web-002"), "t3.small in s-a, t3.small in s-b, t3a.small in s-a, t3a.small in s-b");
        assert_eq!(shown("web-003"), "t3.small in s-b, t3.small in s-a, t3a.small in s-b, t3a.small in s-a");
    }

    #[test]
    fn the_same_wish_has_the_same_token_and_another_one_has_not() {
        let call = json!({ "image_id": "ami-1" });
        let token = |call: &Value, size: &str, dead: &[&str]| {
            let wish = wish("web-001", call, Some(one(size))).unwrap();
            let question = format!("{:?}", wish.question(&wish.placements()[0], dead));
            question.split("ClientToken=").nth(1).unwrap().chars().take(64).collect::<String>()
        };
        let first = token(&call, "t3.small", &[]);
        assert_eq!(token(&call, "t3.small", &[]), first);
        let others = [
            token(&call, "t3.large", &[]),
            token(&call, "t3.small", &["i-1"]),
            token(&json!({ "image_id": "ami-2" }), "t3.small", &[]),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn what_is_missing_is_named_with_a_way_out() {
        for (call, own_type, says) in [
            (json!({}), Some(one("t3.small")), "`image_id` is not said"),
            (json!({ "image_id": "ami-1" }), None, "write it into the group's `node_parameters`"),
            (json!({ "image_id": "ami-1", "user_data": "x".repeat(20_000) }), Some(one("t3.small")), "20000 bytes"),
        ] {
            let refusal = wish("web-001", &call, own_type).unwrap_err().to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
    }
}
