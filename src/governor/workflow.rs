//! Which workflow carries an activity out, and what it is told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::SYSTEM_USER;
use crate::model::group::{Group, GroupName, Roles};
use crate::model::group_state::GroupState;
use crate::model::node::{Node, NodeName};
use crate::model::pack::Catalogue;
use crate::model::refs::{ActionRef, ActivityId};
use crate::model::scaling::{ActivityKind, Origin, ScalingActivity};
use crate::model::time::format_duration;
use crate::requests::{Requester, Wanted};

/// The site's own pack: whoever runs Petrel may change how scaling is carried out.
const PACK: &str = "default";

/// Where an execution's context says which activity it carries out.
const CONTEXT_KEY: &str = "scaling";

/// The execution that an activity needs.
pub(super) fn wanted(state: &GroupState, activity: &ScalingActivity, catalogue: &Catalogue) -> Wanted {
    let mut parameters = parameters(state, activity);
    match activity.kind {
        ActivityKind::Create => drop(parameters.insert("setup".to_owned(), around(state, &SETUP, catalogue))),
        ActivityKind::Delete => drop(parameters.insert("teardown".to_owned(), around(state, &TEARDOWN, catalogue))),
        ActivityKind::Expand
        | ActivityKind::Deflate
        | ActivityKind::AddNode
        | ActivityKind::DeleteNode
        | ActivityKind::Reconcile
        | ActivityKind::Repair => {}
    }
    let mut wanted = Wanted::new(action(activity), parameters, Requester::Content);
    let user = match &activity.origin {
        Origin::Human { user } => user,
        Origin::Tick | Origin::Rule | Origin::Chat | Origin::Api => SYSTEM_USER,
    };
    wanted.context.insert("user".to_owned(), json!(user));
    let carried_out = json!({ "group": state.group.name, "activity": activity.id });
    wanted.context.insert(CONTEXT_KEY.to_owned(), carried_out);
    wanted
}

/// The group and the activity that an execution with this context carries out.
pub(super) fn carried_out(context: &Value) -> Option<(GroupName, ActivityId)> {
    let carried_out = context.get(CONTEXT_KEY)?;
    let text = |key: &str| carried_out.get(key).and_then(Value::as_str);
    Some((text("group")?.parse().ok()?, text("activity")?.parse().ok()?))
}

fn action(activity: &ScalingActivity) -> ActionRef {
    let name = match activity.kind {
        ActivityKind::Create => "asg_create",
        ActivityKind::Expand => "asg_expand",
        ActivityKind::Repair if activity.want > 0 => "asg_expand",
        ActivityKind::Repair | ActivityKind::Deflate => "asg_deflate",
        ActivityKind::AddNode => "asg_add_node",
        ActivityKind::DeleteNode => "asg_delete_node",
        ActivityKind::Delete => "asg_delete",
        ActivityKind::Reconcile => "asg_reconcile",
    };
    ActionRef::new(PACK, name).expect("these names are references")
}

fn parameters(state: &GroupState, activity: &ScalingActivity) -> Map<String, Value> {
    let Group { name, domain, config, roles, node_parameters, role_parameters, channel, .. } = &state.group;
    let mut parameters = Map::from_iter([
        ("group".to_owned(), json!(name)),
        ("activity".to_owned(), json!(activity.id)),
        ("domain".to_owned(), json!(domain)),
        ("channel".to_owned(), json!(channel.as_deref().unwrap_or_default())),
        ("roles".to_owned(), named_roles(roles)),
        ("node_parameters".to_owned(), json!(node_parameters)),
        ("role_parameters".to_owned(), json!(role_parameters)),
        ("boot_timeout".to_owned(), json!(format_duration(config.node_boot_timeout))),
        ("drain_timeout".to_owned(), json!(format_duration(config.drain_timeout))),
    ]);
    // A node that is no more is only a name.
    let known = |name: &NodeName| node(state, name).unwrap_or_else(|| json!({ "name": name }));
    let mut nodes: Vec<Value> = activity.nodes.iter().map(known).collect();
    match activity.kind {
        ActivityKind::AddNode | ActivityKind::DeleteNode => {
            parameters.insert("node".to_owned(), nodes.pop().unwrap_or_default());
        }
        ActivityKind::Create
        | ActivityKind::Expand
        | ActivityKind::Deflate
        | ActivityKind::Delete
        | ActivityKind::Reconcile
        | ActivityKind::Repair => {
            parameters.insert("nodes".to_owned(), Value::Array(nodes));
        }
    }
    parameters
}

/// What a role's pack may do for a group as a whole, before its first node and after its last.
type GroupVerb = (fn(&Roles) -> Option<&String>, &'static str);

const SETUP: [GroupVerb; 3] = [
    (|roles| Some(&roles.provider), "create_group"),
    (|roles| roles.dns.as_ref(), "create_zone"),
    (|roles| roles.load_balancer.as_ref(), "create_pool"),
];
const TEARDOWN: [GroupVerb; 3] = [
    (|roles| roles.load_balancer.as_ref(), "delete_pool"),
    (|roles| roles.dns.as_ref(), "delete_zone"),
    (|roles| Some(&roles.provider), "delete_group"),
];

/// How the packs of a group show what they have, as far as they can.
const LISTS: [(&str, GroupVerb); 3] = [
    ("provider", (|roles| Some(&roles.provider), "list_nodes")),
    ("load_balancer", (|roles| roles.load_balancer.as_ref(), "list_backends")),
    ("dns", (|roles| roles.dns.as_ref(), "list_records")),
];

/// The action that lists what a role's pack has, by role, with what it is told.
pub(super) fn lists(group: &Group, catalogue: &Catalogue) -> Value {
    let Group { name, domain, roles, role_parameters, .. } = group;
    let listed = LISTS.iter().filter_map(|(role, (pack, verb))| {
        let action = ActionRef::new(pack(roles)?, verb).ok()?;
        let mut told = match *role {
            "dns" => role_parameters.dns.clone(),
            "load_balancer" => role_parameters.load_balancer.clone(),
            _ => BTreeMap::new(),
        };
        match *role {
            "dns" => told.insert("domain".to_owned(), json!(format!("{name}.{domain}"))),
            _ => told.insert("group".to_owned(), json!(name)),
        };
        let is_there = catalogue.actions.contains_key(&action);
        is_there.then(|| ((*role).to_owned(), json!({ "action": action, "parameters": told })))
    });
    Value::Object(listed.collect())
}

/// Those of the verbs that the group's packs have, each with what it is told.
fn around(state: &GroupState, verbs: &[GroupVerb], catalogue: &Catalogue) -> Value {
    let Group { name, domain, roles, role_parameters, .. } = &state.group;
    let steps = verbs.iter().filter_map(|(role, verb)| {
        let action = ActionRef::new(role(roles)?, verb).ok()?;
        catalogue.actions.contains_key(&action).then_some((action, *verb))
    });
    let told = |verb: &str| match verb {
        "create_zone" | "delete_zone" => {
            let mut told = role_parameters.dns.clone();
            told.insert("domain".to_owned(), json!(format!("{name}.{domain}")));
            json!(told)
        }
        "create_pool" | "delete_pool" => {
            let mut told = role_parameters.load_balancer.clone();
            told.insert("group".to_owned(), json!(name));
            json!(told)
        }
        _ => json!({ "group": name }),
    };
    steps.map(|(action, verb)| json!({ "action": action, "parameters": told(verb) })).collect()
}

/// As people write them: a role that nobody plays is `none`.
pub(super) fn named_roles(roles: &Roles) -> Value {
    let Roles { provider, dns, load_balancer, configure, metrics } = roles;
    let pack = |role: &Option<String>| role.clone().unwrap_or_else(|| "none".to_owned());
    json!({
        "provider": provider, "dns": pack(dns), "load_balancer": pack(load_balancer), "configure": pack(configure),
        "metrics": pack(metrics),
    })
}

fn node(state: &GroupState, name: &NodeName) -> Option<Value> {
    let Node { name, tag, address, port, phase, .. } = state.nodes.iter().find(|node| node.name == *name)?;
    Some(json!({ "name": name, "tag": tag, "address": address, "port": port, "phase": phase }))
}
