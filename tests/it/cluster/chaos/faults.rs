//! What fails: each daemon with its networks, the database and the broker have dice of their own, so that faults meet.

use std::time::Duration;

use futures_util::future::{join3, join_all};
use petrel::clock::{Clock, SystemClock, sleep};

use super::dice::Dice;
use crate::cluster::harness::Cluster;
use crate::cluster::member::Member;
use crate::servers::{Postgres, Proxy, RabbitMq};

/// Between two faults of one daemon.
const CALM: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(9));
/// Between two deaths of a server.
const SERVER_CALM: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(28));
/// How long a server is away before it is started again.
const SERVER_DOWN: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(5));

/// A kind of fault, and how long it lasts at least and at most.
#[derive(Debug, Clone, Copy)]
struct Kind {
    what: What,
    least: Duration,
    most: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Kill,
    Stop,
    Network(Way),
}

/// How a network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Cut,
    BlackHole,
    Delay,
    Reset,
}

const KINDS: [Kind; 8] = [
    kind(What::Kill, 0, 1000),
    kind(What::Kill, 1000, 6000),
    kind(What::Stop, 500, 10_000),
    // Past its lease: whatever it had is another's now.
    kind(What::Stop, 17_000, 22_000),
    kind(What::Network(Way::Cut), 500, 8000),
    kind(What::Network(Way::BlackHole), 500, 20_000),
    kind(What::Network(Way::Delay), 3000, 8000),
    kind(What::Network(Way::Reset), 0, 0),
];

const fn kind(what: What, least: u64, most: u64) -> Kind {
    Kind { what, least: Duration::from_millis(least), most: Duration::from_millis(most) }
}

/// A fault that was.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) began: Duration,
    pub(super) lasted: Duration,
}

/// The servers of a run. They live as long as it does.
pub(super) struct Machines {
    pub(super) postgres: Postgres,
    /// There may be none.
    pub(super) rabbit: Option<RabbitMq>,
}

/// Lets things fail for so long, then heals all and waits until every daemon is ready. Gives back what failed, in the
/// order in which it began.
pub(super) async fn run(cluster: &mut Cluster, machines: &mut Machines, seed: u64, lasting: Duration) -> Vec<Fault> {
    let clock = SystemClock::new();
    let Machines { postgres, rabbit } = machines;
    let lanes = cluster.members.iter_mut().map(|member| daemon_lane(member, seed, lasting, &clock));
    let of_database = server_lane(50, seed, lasting, &clock, async |down| {
        postgres.kill_9().await;
        sleep(&clock, down).await;
        postgres.start_again().await;
        "PostgreSQL killed -9"
    });
    let of_broker = async {
        let Some(rabbit) = rabbit else { return Vec::new() };
        let lane = server_lane(51, seed, lasting, &clock, async |down| {
            rabbit.kill_9().await;
            sleep(&clock, down).await;
            rabbit.start_again().await;
            "RabbitMQ killed -9"
        });
        lane.await
    };
    let (of_daemons, of_database, of_broker) = join3(join_all(lanes), of_database, of_broker).await;
    for member in &mut cluster.members {
        member.until_ready().await;
    }
    let mut faults = [of_daemons.concat(), of_database, of_broker].concat();
    faults.sort_by_key(|fault| fault.began);
    faults
}

async fn daemon_lane(member: &mut Member, seed: u64, lasting: Duration, clock: &SystemClock) -> Vec<Fault> {
    let mut dice = Dice::new(seed, member.number() as u64);
    let mut faults = Vec::new();
    loop {
        let calm = dice.between(CALM.0, CALM.1);
        let kind = dice.one_of(&KINDS);
        let wanted = dice.between(kind.least, kind.most);
        if clock.monotonic() + calm >= lasting {
            return faults;
        }
        sleep(clock, calm).await;
        let began = clock.monotonic();
        // The last one ends with the run, unless it would be another kind of fault then.
        let left = lasting.saturating_sub(began);
        let wanted = if kind.what == What::Stop { wanted } else { wanted.min(left) };
        let what = fail(member, kind.what, wanted, &mut dice, clock).await;
        let lasted = clock.monotonic().saturating_sub(began);
        faults.push(Fault { what, began, lasted });
    }
}

async fn fail(member: &mut Member, what: What, wanted: Duration, dice: &mut Dice, clock: &SystemClock) -> String {
    match what {
        What::Kill => {
            member.kill_9().await;
            sleep(clock, wanted).await;
            member.spawn();
            "daemon killed -9".to_owned()
        }
        What::Stop => {
            member.stop().await;
            sleep(clock, wanted).await;
            member.go_on().await;
            let past = wanted > petrel::dispatch::LEASE;
            format!("daemon stopped {} its lease", if past { "past" } else { "within" })
        }
        What::Network(way) => {
            let (name, network) = match &mut member.broker {
                Some(network) if dice.below(2) == 0 => ("broker", network),
                Some(_) | None => ("database", &mut member.database),
            };
            format!("network to the {name}: {}", disturb(network, way, wanted, dice, clock).await)
        }
    }
}

async fn disturb(
    network: &mut Proxy,
    way: Way,
    wanted: Duration,
    dice: &mut Dice,
    clock: &SystemClock,
) -> &'static str {
    let name = match way {
        Way::Cut => {
            network.cut().await;
            "cut"
        }
        Way::BlackHole => {
            network.black_hole().await;
            "black hole"
        }
        Way::Delay => {
            network.delay(dice.between(Duration::from_millis(10), Duration::from_millis(150))).await;
            "delay"
        }
        Way::Reset => {
            network.reset().await;
            "reset"
        }
    };
    sleep(clock, wanted).await;
    network.pass().await;
    name
}

/// `kill` ends a server, waits for so long, and starts it again.
async fn server_lane(
    which: u64,
    seed: u64,
    lasting: Duration,
    clock: &SystemClock,
    mut kill: impl AsyncFnMut(Duration) -> &'static str,
) -> Vec<Fault> {
    let mut dice = Dice::new(seed, which);
    let mut faults = Vec::new();
    loop {
        let calm = dice.between(SERVER_CALM.0, SERVER_CALM.1);
        let down = dice.between(SERVER_DOWN.0, SERVER_DOWN.1);
        if clock.monotonic() + calm + down >= lasting {
            return faults;
        }
        sleep(clock, calm).await;
        let began = clock.monotonic();
        let what = kill(down).await.to_owned();
        let lasted = clock.monotonic().saturating_sub(began);
        faults.push(Fault { what, began, lasted });
    }
}
