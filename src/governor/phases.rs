//! How far a node has come, as the workflow that works on it reports. A report that comes twice changes nothing.

use crate::governor::error::GovernorError;
use crate::governor::ledger::{self, LedgerError};
use crate::governor::service::Governor;
use crate::model::group::GroupName;
use crate::model::group_state::GroupState;
use crate::model::node::{NodeName, NodePhase};
use crate::model::time::Timestamp;

/// What is reported of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Which node.
    pub node: NodeName,
    /// How far it has come.
    pub phase: NodePhase,
    /// Where it answers, if that has become known.
    pub address: Option<String>,
    /// And on which port.
    pub port: Option<u16>,
}

impl Governor {
    /// Takes a report in and says which phase the node is in now.
    pub async fn node_phase(&self, group: &GroupName, report: &NodeReport) -> Result<NodePhase, GovernorError> {
        self.change(group, |state, now| {
            apply(state, report, now).map_err(|problem| GovernorError::Ledger { group: group.clone(), problem })
        })
        .await
    }
}

fn apply(state: &mut GroupState, report: &NodeReport, now: Timestamp) -> Result<NodePhase, LedgerError> {
    let Some(node) = state.nodes.iter_mut().find(|node| node.name == report.node) else {
        // a row goes when its node is proven gone
        let known = report.phase == NodePhase::Gone;
        return known.then_some(NodePhase::Gone).ok_or_else(|| LedgerError::NoSuchNode(report.node.clone()));
    };
    if report.address.is_some() {
        node.address.clone_from(&report.address);
        node.port = report.port;
    }
    if report.phase == NodePhase::Draining && !node.phase.is_live() {
        return Ok(node.phase); // it serves nobody already: what is left over from a failure has nothing to drain
    }
    ledger::move_node(state, &report.node, report.phase, now)?;
    Ok(report.phase)
}
