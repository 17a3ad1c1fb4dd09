//! Networks break and servers die, and names are still right after the next call.

use std::convert::Infallible;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode, UpdateMessage};
use petrel::clock::{Clock, SystemClock};
use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Desk, at, ours, record, zone_with};
use crate::servers::Proxy;
use crate::servers::bind::Bind;
use crate::support::eventually;

/// A network on which the answer to each update that changed something is lost, and its connection with it.
async fn forgetful(bind: &Bind) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap().to_string(), bind.address());
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&server).await.unwrap();
            let carried = carry(client, server).await;
            assert!(carried.is_none(), "it ends when somebody does");
        }
    });
    address
}

async fn carry(mut client: TcpStream, mut server: TcpStream) -> Option<Infallible> {
    loop {
        let question = take(&mut client).await?;
        give(&mut server, &question).await?;
        let answer = take(&mut server).await?;
        let (asked, said) = (Message::from_vec(&question).ok()?, Message::from_vec(&answer).ok()?);
        let changed = asked.op_code == OpCode::Update && !asked.updates().is_empty();
        if changed && said.response_code == ResponseCode::NoError {
            return None;
        }
        give(&mut client, &answer).await?;
    }
}

async fn take(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u16().await.ok()?.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn give(stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    stream.write_u16(bytes.len().try_into().ok()?).await.ok()?;
    stream.write_all(bytes).await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_whose_answer_was_lost_is_found_done_by_the_next_call() {
    let bind = Bind::start().await;
    let (desk, direct) = (Desk::with(&bind, json!({ "server": forgetful(&bind).await })), Desk::at(&bind));
    for address in ["127.0.0.1", "127.0.0.1", "127.0.0.2"] {
        let lost = desk.fail("upsert_record", record("n", address)).await;
        assert!(lost.contains("to answer the update of the zone `petrel.test`"), "{lost}");
        assert_eq!(bind.records().await, zone_with(ours("n", address)), "it was done");
        assert_eq!(direct.upsert("n", address).await["created"], false);
        assert_eq!(bind.records().await, zone_with(ours("n", address)));
    }
    let lost = desk.fail("delete_record", at("n")).await;
    assert!(lost.contains("to answer the update of the zone `petrel.test`"), "{lost}");
    assert_eq!(bind.records().await, zone_with([]));
    assert_eq!(desk.delete("n").await["deleted"], false, "nothing is left to change");
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
