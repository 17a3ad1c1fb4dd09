//! What somebody asks for: a rule, a chat command, a program or a person. It is done now or refused now, with the reason.

use crate::governor::decide::{Ruling, load, scaling, table};
use crate::governor::names::next_names;
use crate::governor::situation::Situation;
use crate::model::decision::{Delays, Request, Row, Verdict};
use crate::model::group::{NodeCount, Part};
use crate::model::node::{Node, NodeName, NodePhase};
use crate::model::reason::Reason;
use crate::model::scaling::Origin;

/// What stands in the way of a request.
type Obstacle = Box<Ruling>;

/// Grants or refuses.
pub(super) fn answer(situation: &Situation<'_>, request: &Request) -> Ruling {
    let ruling = table::in_flight(situation)
        .or_else(|| forbidden_while_deleting(situation, request))
        .or_else(|| table::switched_off(situation))
        .unwrap_or_else(|| grant(situation, request).unwrap_or_else(|obstacle| *obstacle));
    let granted = ruling.verdict.acts() && ruling.row != Row::Stuck;
    if granted { ruling } else { ruling.refused() }
}

fn forbidden_while_deleting(situation: &Situation<'_>, request: &Request) -> Option<Ruling> {
    let again = matches!(request, Request::Delete { .. });
    let forbidden = situation.state.group.deleting && !again;
    forbidden.then(|| Ruling::hold(Row::Deleting, Reason::Deleting))
}

fn grant(situation: &Situation<'_>, request: &Request) -> Result<Ruling, Obstacle> {
    match request {
        Request::Tick => Ok(table::look(situation, None)),
        Request::Create { origin } => create(situation, origin),
        Request::Expand { by, delays, origin } => expand(situation, *by, *delays, origin),
        Request::Deflate { by, delays, origin } => deflate(situation, *by, *delays, origin),
        Request::AddNode { delays, origin } => add_node(situation, *delays, origin),
        Request::DeleteNode { name, delays, origin } => delete_node(situation, name, *delays, origin),
        Request::Delete { origin } => delete(situation, origin),
        Request::Approve { origin } => approve(situation, origin),
    }
}

fn create(situation: &Situation<'_>, origin: &Origin) -> Result<Ruling, Obstacle> {
    if situation.state.memory.created.is_some() {
        return Err(Box::new(Ruling::hold(Row::Asked, Reason::AlreadyCreated)));
    }
    unless(suspended(situation, Part::Expand, Row::ExpandSuspended))?;
    let asked = situation.min.above(situation.live);
    let granted = asked.min(situation.state.headroom());
    let nodes = next_names(situation.state, granted);
    Ok(Ruling::act(Row::Asked, Verdict::CreateGroup { nodes }, reason(origin, asked, granted)))
}

fn expand(
    situation: &Situation<'_>,
    by: Option<NodeCount>,
    delays: Delays,
    origin: &Origin,
) -> Result<Ruling, Obstacle> {
    unless(never_created(situation))?;
    unless(rest(situation, delays))?;
    unless(scaling::keeps_from_expanding(situation, delays))?;
    let asked = by.unwrap_or_else(|| situation.config().expand_by);
    let granted = asked.min(situation.state.headroom());
    nothing_asked(asked, origin)?;
    let nodes = next_names(situation.state, granted);
    Ok(Ruling::act(Row::Expand, Verdict::Expand { nodes }, reason(origin, asked, granted)))
}

fn deflate(
    situation: &Situation<'_>,
    by: Option<NodeCount>,
    delays: Delays,
    origin: &Origin,
) -> Result<Ruling, Obstacle> {
    unless(never_created(situation))?;
    unless(rest(situation, delays))?;
    if delays == Delays::Respect {
        unless(incident_open(situation))?;
        unless(load::stale(situation))?;
        unless(scaling::recovery_hold(situation))?;
    }
    unless(scaling::keeps_from_deflating(situation, delays))?;
    let asked = by.unwrap_or_else(|| situation.config().deflate_by);
    nothing_asked(asked, origin)?;
    let dispensable = match delays {
        Delays::Respect => load::dispensable(situation),
        Delays::Skip => situation.live,
    };
    let granted = asked.min(scaling::spare(situation)).min(dispensable);
    Ok(scaling::take_away(situation, Row::Deflate, granted, |granted| reason(origin, asked, granted)))
}

fn add_node(situation: &Situation<'_>, delays: Delays, origin: &Origin) -> Result<Ruling, Obstacle> {
    unless(never_created(situation))?;
    unless(rest(situation, delays))?;
    unless(scaling::keeps_from_expanding(situation, Delays::Skip))?;
    let one = NodeCount::new(1);
    let full = || Ruling::hold(Row::AtMax, Reason::AtMax { max: situation.config().max_nodes, critical: 0 });
    let node = next_names(situation.state, one).pop().ok_or_else(|| Box::new(full()))?;
    Ok(Ruling::act(Row::Asked, Verdict::AddNode { node }, reason(origin, one, one)))
}

fn delete_node(
    situation: &Situation<'_>,
    name: &NodeName,
    delays: Delays,
    origin: &Origin,
) -> Result<Ruling, Obstacle> {
    let found = situation.state.nodes.iter().find(|node| node.name == *name && node.phase.counts());
    let missing = || Ruling::hold(Row::Asked, Reason::NoSuchNode { name: name.clone() });
    let node = found.ok_or_else(|| Box::new(missing()))?;
    if node.protected {
        return Err(Box::new(Ruling::hold(Row::NoVictim, Reason::Protected { name: name.clone() })));
    }
    unless(suspended(situation, Part::Deflate, Row::DeflateSuspended))?;
    if node.phase.is_live() {
        unless(needed(situation, node))?;
        unless(incident_open(situation).filter(|_| delays == Delays::Respect))?;
    }
    let one = NodeCount::new(1);
    Ok(Ruling::act(Row::Asked, Verdict::DeleteNode { node: name.clone() }, reason(origin, one, one)))
}

/// The minimum needs this live node.
fn needed(situation: &Situation<'_>, node: &Node) -> Option<Ruling> {
    let min = situation.min;
    let serves = node.phase == NodePhase::InService;
    let needed = situation.live <= min || (serves && situation.in_service <= min);
    needed.then(|| Ruling::hold(Row::AtMin, Reason::AtMin { min }))
}

fn delete(situation: &Situation<'_>, origin: &Origin) -> Result<Ruling, Obstacle> {
    unless(suspended(situation, Part::Deflate, Row::DeflateSuspended))?;
    let protected = situation.state.nodes.iter().find(|node| node.protected && node.phase.counts());
    if let Some(node) = protected {
        return Err(Box::new(Ruling::hold(Row::NoVictim, Reason::Protected { name: node.name.clone() })));
    }
    let all = situation.state.total();
    Ok(Ruling::act(Row::Asked, table::delete_group(situation), reason(origin, all, all)))
}

/// The table is asked again: what is done is what is wanted now, not what was wanted when people were asked.
fn approve(situation: &Situation<'_>, origin: &Origin) -> Result<Ruling, Obstacle> {
    let ruling = table::look(situation, None);
    let wish = situation.state.memory.approval.as_ref().map(|approval| approval.wish);
    if wish.is_none() || ruling.verdict.opens(ruling.row) != wish {
        return Err(Box::new(Ruling::hold(Row::Asked, Reason::NothingToApprove)));
    }
    let reason = Reason::Approved { origin: origin.clone(), wanted: Box::new(ruling.reason) };
    Ok(Ruling { reason, ..ruling })
}

fn never_created(situation: &Situation<'_>) -> Option<Ruling> {
    let never = situation.state.memory.created.is_none();
    never.then(|| Ruling::hold(Row::BelowMin, Reason::NotCreated))
}

fn rest(situation: &Situation<'_>, delays: Delays) -> Option<Ruling> {
    match delays {
        Delays::Respect => table::backoff(situation),
        Delays::Skip => None,
    }
}

fn incident_open(situation: &Situation<'_>) -> Option<Ruling> {
    let incident = situation.open_incident()?.to_owned();
    let row = if situation.critical.is_empty() { Row::Warned } else { Row::Asked };
    Some(Ruling::hold(row, Reason::IncidentOpen { incident }))
}

fn suspended(situation: &Situation<'_>, part: Part, row: Row) -> Option<Ruling> {
    situation.suspended(part).map(|suspension| Ruling::suspended(row, suspension))
}

fn nothing_asked(asked: NodeCount, origin: &Origin) -> Result<(), Obstacle> {
    let refusal = || Ruling::hold(Row::Asked, reason(origin, asked, asked));
    if asked == NodeCount::ZERO { Err(Box::new(refusal())) } else { Ok(()) }
}

fn unless(obstacle: Option<Ruling>) -> Result<(), Obstacle> {
    obstacle.map_or(Ok(()), |ruling| Err(Box::new(ruling)))
}

fn reason(origin: &Origin, asked: NodeCount, granted: NodeCount) -> Reason {
    Reason::Asked { origin: origin.clone(), asked, granted }
}
