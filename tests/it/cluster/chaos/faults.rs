//! What fails: each daemon, each daemon's network, and the database have dice of their own, so that faults meet.

use std::time::Duration;

use futures_util::future::{join, join_all};
use petrel::clock::{Clock, SystemClock, sleep};

use super::dice::Dice;
use crate::cluster::harness::Cluster;
use crate::cluster::member::Member;
use crate::servers::Postgres;

/// Between two faults of one daemon.
const CALM: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(9));
/// Between two deaths of the database.
const DATABASE_CALM: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(28));
/// The longest that the database is away.
const DATABASE_DOWN: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(5));

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
    kind(What::Cut, 500, 8000),
    kind(What::BlackHole, 500, 20_000),
    kind(What::Delay, 3000, 8000),
    kind(What::Reset, 0, 0),
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

/// All faults that were, and the database, which lives on.
pub(super) struct Faults {
    faults: Vec<Fault>,
    _database: Postgres,
}

impl Faults {
    /// In the order in which they began.
    pub(super) fn list(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        faults.sort_by_key(|fault| fault.began);
        faults
    }
}

/// Lets things fail for so long, then heals all and waits until every daemon is ready.
pub(super) async fn run(cluster: &mut Cluster, mut database: Postgres, seed: u64, lasting: Duration) -> Faults {
    let clock = SystemClock::new();
    let lanes = cluster.members.iter_mut().map(|member| daemon_lane(member, seed, lasting, &clock));
    let (mut of_daemons, of_database) =
        join(join_all(lanes), database_lane(&mut database, seed, lasting, &clock)).await;
    of_daemons.push(of_database);
    for member in &mut cluster.members {
        member.until_ready().await;
    }
    Faults { faults: of_daemons.concat(), _database: database }
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
        What::Cut | What::BlackHole | What::Delay | What::Reset => {
            disturb(member, what, wanted, dice, clock).await;
            format!("database network: {}", name_of(what))
        }
    }
}

async fn disturb(member: &mut Member, what: What, wanted: Duration, dice: &mut Dice, clock: &SystemClock) {
    let network = &mut member.database;
    match what {
        What::Cut => network.cut().await,
        What::BlackHole => network.black_hole().await,
        What::Delay => network.delay(dice.between(Duration::from_millis(10), Duration::from_millis(150))).await,
        What::Reset => network.reset().await,
        What::Kill | What::Stop => unreachable!("not a matter of networks"),
    }
    sleep(clock, wanted).await;
    network.pass().await;
}

const fn name_of(what: What) -> &'static str {
    match what {
        What::Cut => "cut",
        What::BlackHole => "black hole",
        What::Delay => "delay",
        What::Reset => "reset",
        What::Kill => "killed",
        What::Stop => "stopped",
    }
}

async fn database_lane(database: &mut Postgres, seed: u64, lasting: Duration, clock: &SystemClock) -> Vec<Fault> {
    let mut dice = Dice::new(seed, 50);
    let mut faults = Vec::new();
    loop {
        let calm = dice.between(DATABASE_CALM.0, DATABASE_CALM.1);
        let down = dice.between(DATABASE_DOWN.0, DATABASE_DOWN.1);
        if clock.monotonic() + calm + down >= lasting {
            return faults;
        }
        sleep(clock, calm).await;
        let began = clock.monotonic();
        database.kill_9().await;
        sleep(clock, down).await;
        database.start_again().await;
        let lasted = clock.monotonic().saturating_sub(began);
        faults.push(Fault { what: "PostgreSQL killed -9".to_owned(), began, lasted });
    }
}
