//! The broker by itself: when its queue is trusted, what happens when it vanishes, hints from daemon to daemon.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use petrel::amqp::{Broker, Refusal, World};
use petrel::bus::Topic;
use petrel::clock::{Clock, SystemClock, SystemIds};
use petrel::config::Config;
use petrel::metrics::Metrics;
use petrel::secrets::Keyring;
use petrel::store::events::{Arrival, Delivery};
use petrel::supervise::Supervisor;

use crate::servers;
use crate::support::eventually;

/// One daemon's broker without the daemon.
struct Party {
    broker: Broker,
    supervisor: Supervisor,
}

impl Party {
    fn join(url: &str, grace: &str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let settings = [("PETREL__BUS__URL", url), ("PETREL__BUS__FRESH_QUEUE_GRACE", grace)];
        let environment = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = Config::load(None, &environment.into_iter().collect()).unwrap();
        let ids = Arc::new(SystemIds::new(Arc::clone(&clock)));
        let world = World { clock: Arc::clone(&clock), ids, metrics: Metrics::default() };
        let keyring = Keyring::from_key(&[7; 32]);
        let broker = Broker::new(&config.bus, keyring.message_key(), world).unwrap().expect("there is a URL");
        let supervisor = Supervisor::new(clock);
        broker.start(&supervisor, None);
        Self { broker, supervisor }
    }

    async fn until(&self, what: &str, wanted: impl Fn(Option<&Refusal>) -> bool) {
        eventually(what, async || wanted(self.broker.refusal().as_ref()).then_some(())).await;
    }

    async fn until_open(&self) {
        self.until("the broker takes deliveries", |refusal| refusal.is_none()).await;
    }

    async fn leave(self) {
        let late = self.supervisor.shutdown(Duration::from_secs(10)).await;
        assert!(late.is_empty(), "late: {late:?}");
    }
}

fn delivery(number: usize) -> Delivery {
    let accepted_at = "2026-11-21T08:30:00Z".parse().unwrap();
    Delivery { arrivals: vec![Arrival::Withdrawn { key: number.to_string(), said_at: None }], accepted_at }
}

async fn depth(url: &str) -> u32 {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("petrel.arrivals".into(), passive, FieldTable::default()).await.unwrap();
    connection.close(200, "seen".into()).await.unwrap();
    queue.message_count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_queue_is_trusted_by_all_as_soon_as_one_has_waited_for_it() {
    let url = servers::fresh_vhost().await;
    let patient = Party::join(&url, "1h");
    patient.until("the queue is made", |refusal| refusal == Some(&Refusal::Settling)).await;
    let settings = Party::join(&url, "1h");
    settings.until("a second daemon waits as well", |refusal| refusal == Some(&Refusal::Settling)).await;
    let quick = Party::join(&url, "100ms");
    quick.until_open().await;
    let late = Party::join(&url, "1h");
    late.until_open().await;
    for party in [patient, settings, quick, late] {
        party.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_deliveries_at_once_are_all_confirmed_and_all_there() {
    let url = servers::fresh_vhost().await;
    let party = Party::join(&url, "0");
    party.until_open().await;
    let (front, before) = (party.broker.front(), depth(&url).await);
    let accepted = join_all((0..2000).map(|number| front.accept(delivery(number)))).await;
    assert!(accepted.iter().all(Result::is_ok), "{:?}", accepted.iter().find(|one| one.is_err()));
    eventually("the queue holds all of them, each once", async || (depth(&url).await == before + 2000).then_some(()))
        .await;
    party.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_vanishes_is_a_refusal_and_is_made_again_with_its_grace() {
    let url = servers::fresh_vhost().await;
    let party = Party::join(&url, "300ms");
    party.until_open().await;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete("petrel.arrivals".into(), QueueDeleteOptions::default()).await.unwrap();
    let front = party.broker.front();
    let refused = front.accept(delivery(1)).await.unwrap_err();
    assert!(refused.to_string().contains("its queue is gone"), "{refused}");
    party.until("it settles", |refusal| refusal == Some(&Refusal::Settling)).await;
    party.until_open().await;
    front.accept(delivery(2)).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    party.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_is_heard_by_every_other_daemon_and_does_not_echo() {
    let url = servers::fresh_vhost().await;
    let (here, there) = (Party::join(&url, "0"), Party::join(&url, "0"));
    here.until_open().await;
    there.until_open().await;
    let mut heard_there = there.broker.bus().listen(Topic::Groups);
    eventually("the hint arrives", async || {
        here.broker.bus().hint(Topic::Groups);
        petrel::clock::timeout(&SystemClock::new(), Duration::from_millis(100), heard_there.heard()).await.ok()
    })
    .await;
    let mut heard_here = here.broker.bus().listen(Topic::Groups);
    there.broker.bus().hint(Topic::Groups);
    heard_here.heard().await;
    here.leave().await;
    there.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_our_password_is_named_without_it() {
    let url = servers::fresh_vhost().await.replacen("guest:guest", "guest:hunter2", 1);
    let party = Party::join(&url, "0");
    let refused = |refusal: Option<&Refusal>| refusal.is_some_and(|it| it.to_string().contains("ACCESS_REFUSED"));
    party.until("the broker refuses", refused).await;
    let said = party.broker.refusal().unwrap().to_string();
    assert!(!said.contains("hunter2") && said.contains("127.0.0.1"), "{said}");
    party.leave().await;
}
