//! The reckoning of the whole story: ledger, processes, load balancer and zone agree, nobody was turned away, and everything
//! was said in the room in order.

use std::collections::BTreeSet;
use std::time::Duration;

use super::story::Cast;
use crate::clock;
use crate::demo::audit;
use crate::model::scaling::{ActivityKind, ScalingActivity};

/// So often is looked again for something that is about to be over.
const LOOKS: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Compares all who know of nodes while nothing is under way.
pub(super) async fn at_rest(cast: &mut Cast<'_>, when: &str) -> anyhow::Result<()> {
    audit::at_rest(&mut cast.play, when).await?;
    for look in 1..=LOOKS {
        let group = cast.play.door.group().await?;
        let (ledger, busy) = group.map_or_else(Default::default, |group| {
            let names: BTreeSet<String> = group.nodes.iter().map(|node| node.name.to_string()).collect();
            (names, group.activity.is_some())
        });
        let servers = cast.watch.backend().await?.servers;
        let serving: BTreeSet<String> = servers.iter().filter(|(_, up)| *up).map(|(name, _)| name.clone()).collect();
        let names: BTreeSet<String> = cast.rig.records().await?.iter().filter_map(|name| first_label(name)).collect();
        let found = differences(&ledger, &serving, servers.len(), &names);
        if !busy && found.is_empty() {
            cast.play.tell("audit", &format!("{when}: HAProxy and BIND have them too"));
            return Ok(());
        }
        if look == LOOKS {
            cast.play.differences.extend(busy.then(|| format!("{when}: an activity was still under way")));
            cast.play.differences.extend(found.into_iter().map(|difference| format!("{when}: {difference}")));
        }
        clock::sleep(&*cast.play.clock, LOOK_EVERY).await;
    }
    Ok(())
}

fn first_label(name: &str) -> Option<String> {
    name.split('.').next().map(str::to_owned)
}

fn differences(
    ledger: &BTreeSet<String>,
    serving: &BTreeSet<String>,
    servers: usize,
    names: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    if serving != ledger || servers != ledger.len() {
        found.push(format!("HAProxy sends requests to {serving:?} of {servers} servers, the ledger has {ledger:?}"));
    }
    if names != ledger {
        found.push(format!("the zone names {names:?}, the ledger has {ledger:?}"));
    }
    found
}

/// How many activities that change the size have begun since then.
pub(super) async fn changes_since(cast: &Cast<'_>, begun: Duration) -> anyhow::Result<usize> {
    let age = cast.play.clock.monotonic().saturating_sub(begun);
    let since = cast.play.clock.now().minus(age);
    let resizes = |activity: &&ScalingActivity| {
        matches!(activity.kind, ActivityKind::Expand | ActivityKind::Deflate | ActivityKind::Repair)
            && activity.started_at >= since
    };
    Ok(cast.play.door.activities().await?.iter().filter(resizes).count())
}

/// The last reckoning, when the group is gone.
pub(super) async fn whole(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    at_rest(cast, "at the end").await?;
    let activities = cast.play.door.activities().await?;
    let mut found = audit::nodes_and_activities(&mut cast.play, &activities).await?;
    let counts = cast.load.counts();
    cast.play.tell("load", &format!("{} requests answered, {} not", counts.ok, counts.failed()));
    if counts.failed() > 0 || counts.ok != counts.due {
        found.push(format!("of {} requests {} were answered; {counts:?}", counts.due, counts.ok));
    }
    found.extend(unsaid(&cast.person.heard(), &activities, cast.play.kills.len()));
    cast.play.differences.extend(found);
    Ok(())
}

/// Every node's coming into service was said in the room, and not again: IRC knows no receipts, so a kill may repeat the
/// last line.
fn unsaid(heard: &[String], activities: &[ScalingActivity], kills: usize) -> Vec<String> {
    let adds = activities.iter().filter(|activity| activity.want > 0);
    let nodes: BTreeSet<String> = adds.flat_map(|activity| &activity.nodes).map(ToString::to_string).collect();
    let said = |node: &String| heard.iter().filter(|line| line.contains(&format!("{node} is in service"))).count();
    let never = nodes.iter().filter(|node| said(node) == 0);
    let mut found: Vec<String> = never.map(|node| format!("nobody said that {node} is in service")).collect();
    let again: usize = nodes.iter().map(|node| said(node).saturating_sub(1)).sum();
    if again > kills {
        found.push(format!("{again} notices were said again after {kills} kills"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn whoever_has_other_nodes_than_the_ledger_is_named() {
        let ledger = names(&["web-001", "web-002"]);
        assert_eq!(differences(&ledger, &ledger, 2, &ledger), [""; 0]);
        let one = names(&["web-001"]);
        assert!(differences(&ledger, &one, 2, &ledger)[0].starts_with("HAProxy sends requests to {\"web-001\"} of 2"));
        assert!(differences(&one, &one, 2, &one)[0].contains("of 2 servers"), "one that is in maintenance");
        assert!(differences(&ledger, &ledger, 2, &one)[0].starts_with("the zone names {\"web-001\"}"));
    }
}
