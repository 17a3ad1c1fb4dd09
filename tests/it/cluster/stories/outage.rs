//! Ten thousand webhooks while the database is away and the broker is killed in between: all confirmed, all processed once.
//!
//! `PETREL_OUTAGE_SECONDS` says how long the database is away (20 s by default).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use petrel::clock::{Clock, SystemClock, sleep};
use petrel::model::trigger::InstanceStatus;
use petrel::store::events::InstanceFilter;
use petrel::store::rows::Page;
use serde_json::{Value, json};

use crate::cluster::door::{Delivered, Door};
use crate::cluster::harness::{Cluster, Servers};
use crate::servers::{Postgres, RabbitMq};
use crate::support::eventually;
use crate::support::site::Site;

const WEBHOOKS: usize = 10_000;
const AT_ONCE: usize = 100;
/// One in so many is matched by the rule.
const ONE_IN: usize = 20;
const ALL: Page = Page { limit: 1_000_000, offset: 0 };
const RULE: &str = "name: f\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {url: f}\ncriteria:\n  \
                    trigger.body.level: {type: equals, pattern: critical}\naction:\n  ref: core.noop\n";

#[expect(clippy::disallowed_methods, reason = "how long the outage is is said from outside")]
fn outage() -> Duration {
    Duration::from_secs(std::env::var("PETREL_OUTAGE_SECONDS").map_or(20, |text| text.parse().unwrap()))
}

/// Sent to one daemon after the other until one says that it has it.
async fn send(doors: &[Door], n: usize) {
    let body = json!({ "n": n, "level": if n.is_multiple_of(ONE_IN) { "critical" } else { "info" } });
    let key = format!("delivery-{n}");
    let mut turn = n;
    eventually("a webhook is confirmed", async || {
        turn += 1;
        let delivered = doors[turn % doors.len()].deliver("f", Some(&key), &body).await;
        matches!(delivered, Delivered::Accepted(_)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_ten_thousand_webhooks_confirmed_while_the_database_is_away_and_the_broker_dies_are_processed_once() {
    let (mut postgres, mut rabbit) = (Postgres::start().await, RabbitMq::start().await);
    let servers = Servers { database: postgres.fresh_database().await, broker: Some(rabbit.url()) };
    let mut cluster = Cluster::start(Site::new().file("rules/f.yaml", RULE), &servers, 3).await;
    let doors = cluster.doors();
    // So that each of them knows the key before it cannot ask any more.
    for door in &doors {
        door.get("/v1/status").await;
    }
    postgres.kill_9().await;
    let clock = SystemClock::new();
    let sent = stream::iter(0..WEBHOOKS).map(|n| send(&doors, n)).buffer_unordered(AT_ONCE).count();
    let broker = async {
        sleep(&clock, outage() / 4).await;
        rabbit.kill_9().await;
        rabbit.start_again().await;
    };
    let (confirmed, ()) = tokio::join!(sent, broker);
    assert_eq!(confirmed, WEBHOOKS);
    sleep(&clock, outage().saturating_sub(clock.monotonic())).await;
    postgres.start_again().await;
    for member in &mut cluster.members {
        member.until_ready().await;
    }
    let store = cluster.store().await;
    let processed = eventually("everything is processed", async || {
        let (all, _) = store.events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
        let processed = all.iter().filter(|instance| instance.status == InstanceStatus::Processed).count();
        (all.len() >= WEBHOOKS && processed == all.len() && cluster.is_idle().await).then_some(all)
    })
    .await;
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for instance in &processed {
        let n = instance.payload.pointer("/body/n").and_then(Value::as_u64).expect("only ours");
        *times.entry(n).or_default() += 1;
    }
    assert_eq!((times.len(), processed.len()), (WEBHOOKS, WEBHOOKS), "each is there once");
    let enforcements = store.events().enforcement_list(None, None, ALL).await.unwrap();
    assert_eq!(enforcements.len(), WEBHOOKS / ONE_IN);
    let executions = cluster.door(0).count("/v1/executions?action=core.noop&status=succeeded&limit=1").await;
    assert_eq!(executions, WEBHOOKS / ONE_IN);
    assert_eq!(store.dead_letters().dead_letter_list(ALL).await.unwrap().1, 0);
    cluster.assert_alive();
}
