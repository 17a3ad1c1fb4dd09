//! One loaded object of whatever noun, with the tree it was read from.

use crate::model::action::Action;
use crate::model::pack::{Alias, Policy};
use crate::model::rule::Rule;
use crate::model::trigger::{Sensor, TriggerType};
use crate::packs::diagnostic::Report;
use crate::packs::layout::Kind;
use crate::packs::metadata::Origin;
use crate::packs::metadata::action::read_action;
use crate::packs::metadata::alias::read_alias;
use crate::packs::metadata::policy::read_policy;
use crate::packs::metadata::rule::read_rule;
use crate::packs::metadata::sensor::read_sensor;
use crate::packs::metadata::trigger::read_trigger_type;
use crate::packs::yaml::Node;

use super::read::Parsed;

/// An object and where it came from.
pub(super) struct Object {
    pub(super) uid: String,
    pub(super) label: String,
    pub(super) kind: Kind,
    pub(super) origin: Origin,
    pub(super) parsed: Parsed<Item>,
}

/// The object itself.
pub(super) enum Item {
    Trigger(Box<TriggerType>),
    Sensor(Box<Sensor>, Vec<TriggerType>),
    Action(Box<Action>),
    Rule(Box<Rule>),
    Alias(Box<Alias>),
    Policy(Box<Policy>),
}

impl Item {
    /// StackStorm's unique id.
    pub(super) fn uid(&self) -> String {
        match self {
            Self::Trigger(trigger) => trigger.reference.uid(),
            Self::Sensor(sensor, _) => sensor.reference.uid(),
            Self::Action(action) => action.reference.uid(),
            Self::Rule(rule) => rule.reference.uid(),
            Self::Alias(alias) => alias.reference.uid(),
            Self::Policy(policy) => policy.reference.uid(),
        }
    }
}

/// Reads an object of a kind.
pub(super) fn read_item(kind: Kind, node: &Node, origin: &Origin, report: &mut Report) -> Option<Item> {
    match kind {
        Kind::Trigger => read_trigger_type(node, origin, report).map(|trigger| Item::Trigger(Box::new(trigger))),
        Kind::Sensor => read_sensor(node, origin, report).map(|(sensor, types)| Item::Sensor(Box::new(sensor), types)),
        Kind::Action => read_action(node, origin, report).map(|action| Item::Action(Box::new(action))),
        Kind::Rule => read_rule(node, origin, report).map(|rule| Item::Rule(Box::new(rule))),
        Kind::Alias => read_alias(node, origin, report).map(|alias| Item::Alias(Box::new(alias))),
        Kind::Policy => read_policy(node, origin, report).map(|policy| Item::Policy(Box::new(policy))),
    }
}
