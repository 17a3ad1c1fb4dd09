//! Steps of clocks, as they come and go.

use proptest::prelude::*;

use super::*;
use crate::clock::SimClock;
use crate::model::refs::InstanceId;
use crate::model::time::CLOCK_TOLERANCE;
use crate::store::Store;
use crate::store::events::{Arrival, HeldInstance};
use crate::store::rows::NewInstance;

const HOUR: i64 = 3_600_000_000;
const SLEEP: Duration = Duration::from_secs(600);

/// An embedded store, a machine, and the daemon's clock on it.
struct Desk {
    store: Store,
    clock: Arc<SimClock>,
    troubles: Troubles,
    keeper: Timekeeper,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::steady("2026-11-21T12:00:00Z".parse().unwrap()));
        let troubles = Troubles::default();
        let keeper = keeper(&store, &clock, &troubles, "boot-1");
        keeper.begin().await.unwrap();
        Self { store, clock, troubles, keeper, _folder: folder }
    }

    /// As a process that is started anew: its clock begins with what the machine's shows.
    async fn restart(&mut self, boot: &str) {
        self.clock.follow(self.clock.machine().shown);
        self.keeper = keeper(&self.store, &self.clock, &self.troubles, boot);
        self.keeper.begin().await.unwrap();
    }

    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.keeper.tick().await.unwrap();
        }
    }

    /// Something that is to happen in ten minutes.
    async fn hold(&self) {
        let now = self.clock.now();
        let instance = NewInstance {
            id: InstanceId::earliest_at(now),
            trigger: "core.st2.sensor".to_owned(),
            trigger_type: "core.st2.sensor".parse().unwrap(),
            payload: serde_json::Value::Null,
            occurred_at: now,
            trace_tag: "t".to_owned(),
            dedupe: None,
        };
        let held = HeldInstance { key: "k".to_owned(), instance, due_at: now.plus(SLEEP) };
        self.store.events().arrivals_accept(&[Arrival::Held(held)], now).await.unwrap();
    }

    async fn is_over(&self) -> bool {
        self.store.events().holds_release(self.clock.now()).await.unwrap() > 0
    }
}

fn keeper(store: &Store, clock: &Arc<SimClock>, troubles: &Troubles, boot: &str) -> Timekeeper {
    let time: Arc<dyn Clock> = Arc::<SimClock>::clone(clock);
    Timekeeper::new(store.clock_steps(), store.daemons(), time, troubles.clone(), boot.to_owned())
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_seconds_is_never_followed() {
    let desk = Desk::new().await;
    let start = desk.clock.now();
    desk.clock.step(24 * HOUR);
    desk.pass(30).await;
    assert_eq!(desk.clock.now(), start.plus(Duration::from_secs(30)));
    let warned = desk.troubles.list(Severity::Warns);
    assert!(warned[0].contains("1d ahead of") && warned[0].contains("the machine's clock"), "{warned:?}");
    desk.clock.step(-24 * HOUR);
    desk.pass(1).await;
    assert!(desk.troubles.list(Severity::Warns).is_empty());
}

#[tokio::test]
async fn a_step_that_lasts_is_followed_and_what_sleeps_sleeps_on() {
    let desk = Desk::new().await;
    desk.hold().await;
    desk.clock.step(HOUR);
    desk.pass(70).await;
    assert_eq!(desk.clock.now(), desk.clock.machine().shown);
    assert!(desk.troubles.list(Severity::Warns).is_empty());
    desk.pass(520).await;
    assert!(!desk.is_over().await, "ten minutes have not passed");
    desk.pass(15).await;
    assert!(desk.is_over().await);
}

#[tokio::test]
async fn small_corrections_are_followed_at_once() {
    let desk = Desk::new().await;
    desk.clock.step(1_500_000);
    desk.pass(1).await;
    assert_eq!(desk.clock.now(), desk.clock.machine().shown);
    desk.clock.step(-1_500_000);
    desk.pass(1).await;
    assert_eq!(desk.clock.now(), desk.clock.machine().shown);
}

#[tokio::test]
async fn after_a_reboot_nothing_that_a_clock_ahead_has_written_waits_for_that_day() {
    let mut desk = Desk::new().await;
    desk.clock.step(24 * HOUR);
    desk.restart("boot-2").await;
    desk.hold().await;
    desk.clock.step(-24 * HOUR);
    desk.restart("boot-3").await;
    desk.pass(605).await;
    assert!(desk.is_over().await);
}

#[derive(Debug, Clone)]
enum Event {
    Passes(u64),
    Steps(i64),
    Restarts,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1_u64..90).prop_map(Event::Passes),
        3 => (-48 * HOUR..48 * HOUR).prop_map(Event::Steps),
        1 => Just(Event::Restarts),
    ];
    prop::collection::vec(event, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sleep_lasts_as_long_as_it_was_meant_to_under_every_history(history in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut desk = Desk::new().await;
            let slack = CLOCK_TOLERANCE * u32::try_from(history.len() + 1).unwrap();
            desk.hold().await;
            let began = desk.clock.monotonic();
            let mut ended = None;
            for event in history.into_iter().chain([Event::Passes(900)]) {
                match event {
                    Event::Steps(by) => desk.clock.step(by),
                    Event::Restarts => desk.restart("boot-1").await,
                    Event::Passes(seconds) => {
                        for _ in 0..seconds {
                            desk.pass(1).await;
                            if ended.is_none() && desk.is_over().await {
                                ended = Some(desk.clock.monotonic().saturating_sub(began));
                            }
                        }
                    }
                }
            }
            let ended = ended.expect("it ends");
            assert!(ended + slack >= SLEEP && ended <= SLEEP + slack, "it lasted {ended:?}");
        });
    }
}
