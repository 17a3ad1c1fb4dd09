//! The database dies under three daemons: they stay, say why they are not ready, and go on by themselves.

use petrel::model::execution::ExecutionStatus;
use petrel::store::events::InstanceFilter;
use petrel::store::executions::ExecutionFilter;
use petrel::store::rows::Page;
use reqwest::StatusCode;
use serde_json::json;

use crate::cluster::door::Delivered;
use crate::cluster::harness::{Cluster, Servers};
use crate::cluster::ledger::Ledger;
use crate::servers::Postgres;
use crate::support::eventually;
use crate::support::site::Site;

const ALL: Page = Page { limit: 10_000, offset: 0 };

/// A webhook that sets off a workflow of three steps with a sleep between them.
fn site(ledger: &Ledger) -> Site {
    let script = r#"
        run("t.mark", #{ tag: `${params.n}-a` });
        sleep("500ms");
        run("t.mark", #{ tag: `${params.n}-b` });
        sleep("1s");
        run("t.mark", #{ tag: `${params.n}-c` });
    "#;
    let rule = "name: f\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {url: f}\naction:\n  \
                ref: default.flow\n  parameters: {n: \"{{ trigger.body.n }}\"}\n";
    let site = Site::new();
    let packs = site.path().join("packs").display().to_string();
    site.file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/actions/mark.yaml", &ledger.action("mark", "mark", "retry"))
        .workflow_with("flow", script, "{n: {type: integer, required: true}}")
        .file("rules/f.yaml", rule)
        .setting("packs", &packs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_killed_under_three_daemons_and_all_goes_on_by_itself() {
    let mut postgres = Postgres::start().await;
    let ledger = Ledger::start().await;
    let servers = Servers { database: postgres.fresh_database().await, broker: None };
    let mut cluster = Cluster::start(site(&ledger), &servers, 3).await;
    let doors = cluster.doors();
    let mut accepted = Vec::new();
    for n in 0..12_usize {
        match doors[n % 3].deliver("f", None, &json!({ "n": n })).await {
            Delivered::Accepted(instance) => accepted.push(instance),
            unknown @ Delivered::Unknown(_) => panic!("all is well, and yet {unknown:?}"),
        }
    }
    eventually("the workflows are at work", async || (ledger.times("mark").len() > 6).then_some(())).await;
    postgres.kill_9().await;
    for door in &doors {
        let reasons = eventually("it says why it is not ready", async || {
            let (status, body) = door.readiness().await?;
            (status == StatusCode::SERVICE_UNAVAILABLE).then_some(body["reasons"].to_string())
        })
        .await;
        assert!(reasons.contains("PostgreSQL"), "{reasons}");
        let refused = door.deliver("f", None, &json!({ "n": 99 })).await;
        assert_eq!(refused, Delivered::Unknown("503 Service Unavailable".to_owned()));
    }
    postgres.start_again().await;
    for member in &mut cluster.members {
        member.until_ready().await;
    }
    cluster.until_idle().await;
    cluster.assert_alive();
    let store = cluster.store().await;
    let (instances, _) = store.events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
    assert_eq!(instances.len(), accepted.len(), "what was refused is not there, what was accepted is");
    let (rows, _) = store.executions().execution_list(&ExecutionFilter::default(), ALL).await.unwrap();
    let flows: Vec<_> = rows.iter().filter(|row| row.runner == "workflow").collect();
    assert_eq!(flows.len(), accepted.len(), "one workflow for each");
    assert!(rows.iter().all(|row| row.status == ExecutionStatus::Succeeded), "{rows:?}");
    let steps = rows.iter().filter(|row| row.action.as_str() == "t.mark");
    assert_eq!(steps.count(), 3 * accepted.len(), "no step was asked for twice");
    assert_eq!(ledger.times("mark").len(), 3 * accepted.len(), "and each was done");
    assert_eq!(store.obligations().orphans().await.unwrap(), []);
}
