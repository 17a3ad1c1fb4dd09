//! Networks break and servers die, and names are still right after the next call.

use std::time::Duration;

use petrel::clock::{Clock, SystemClock};
use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use serde_json::json;

use super::{Desk, at, ours, record, zone_with};
use crate::servers::Proxy;
use crate::servers::bind::Bind;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_whose_answer_was_lost_is_found_done_by_the_next_call() {
    let bind = Bind::start().await;
    let mut network = Proxy::start(bind.address().parse().unwrap()).await;
    let desk = Desk::with(&bind, json!({ "server": network.address().to_string() }));
    let direct = Desk::at(&bind);
    for round in 1..4 {
        let address = format!("127.0.0.{round}");
        // Every chunk takes a moment: the update has arrived and its answer is still on its way.
        network.delay(Duration::from_millis(300)).await;
        let (lost, ()) = tokio::join!(desk.run("upsert_record", record("n", &address), Stop::default()), async {
            eventually("the update has arrived", async || {
                (bind.resolve("n.petrel.test", "A").await == [address.clone()]).then_some(())
            })
            .await;
            network.cut().await;
        });
        assert_eq!(lost.status, ExecutionStatus::Failed, "{lost:?}");
        let why = lost.result.to_string();
        assert!(why.contains("the update of the zone `petrel.test`"), "{why}");
        network.pass().await;
        assert_eq!(desk.upsert("n", &address).await["created"], false);
        assert_eq!(bind.records().await, zone_with(ours("n", &address)));
    }
    network.delay(Duration::from_millis(300)).await;
    let (lost, ()) = tokio::join!(desk.run("delete_record", at("n"), Stop::default()), async {
        eventually("the update has arrived", async || {
            bind.resolve("n.petrel.test", "A").await.is_empty().then_some(())
        })
        .await;
        network.cut().await;
    });
    assert_eq!(lost.status, ExecutionStatus::Failed, "{lost:?}");
    network.pass().await;
    assert_eq!(desk.delete("n").await["deleted"], false);
    assert_eq!(direct.succeed("list_records", json!({ "domain": "petrel.test" })).await["names"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_kill_9_of_the_server() {
    let mut bind = Bind::start().await;
    let desk = Desk::at(&bind);
    let mut expected = Vec::new();
    for round in 0..3 {
        for n in 0..5 {
            let (name, address) = (format!("n{round}-{n}"), format!("127.0.{round}.{n}"));
            desk.upsert(&name, &address).await;
            expected.extend(ours(&name, &address));
        }
        bind.kill_9().await;
        let away = desk.fail("upsert_record", record("late", "127.0.0.1")).await;
        assert!(away.contains("connecting to the DNS server"), "{away}");
        bind.start_again().await;
        assert_eq!(bind.records().await, zone_with(expected.clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_stopped_gives_up_though_nobody_answers() {
    let bind = Bind::start().await;
    let mut network = Proxy::start(bind.address().parse().unwrap()).await;
    network.black_hole().await;
    let desk = Desk::with(&bind, json!({ "server": network.address().to_string() }));
    let (clock, stop) = (SystemClock::new(), Stop::default());
    let (outcome, ()) = tokio::join!(desk.run("upsert_record", record("n", "127.0.0.1"), stop.clone()), async {
        eventually("it waits for an answer", async || (network.open_connections() == 1).then_some(())).await;
        stop.raise();
    });
    assert_eq!(outcome.status, ExecutionStatus::Canceled);
    assert!(clock.monotonic() < Duration::from_secs(5), "and not only when its time is over");
    assert_eq!(bind.records().await, zone_with([]));
}
