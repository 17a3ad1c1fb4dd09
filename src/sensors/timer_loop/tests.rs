//! Timers under clocks that are set: forwards, backwards, a little, by days.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bus::MemoryBus;
use crate::clock::{Ids, SeededIds, SimClock};
use crate::intake::Landing;
use crate::store::Store;
use crate::store::events::InstanceFilter;
use crate::store::rows::Page;

const PERIOD: Duration = Duration::from_secs(7);
const DAY: i64 = 86_400_000_000;

struct Desk {
    clock: Arc<SimClock>,
    store: Store,
    timers: TimerLoop,
    armed: Vec<Armed>,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let time: Arc<dyn Clock> = Arc::<SimClock>::clone(&clock);
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(1, Arc::clone(&time)));
        let intake = Intake::new(Landing::new(store.events(), Arc::new(MemoryBus::default())), Arc::clone(&time), ids);
        let (_, catalogue) = watch::channel(Arc::default());
        let defaults = TimerDefaults { misfire: Misfire::Once, timezone: "UTC".to_owned() };
        let timers = TimerLoop::new(store.events(), intake, time, catalogue, defaults);
        let armed = vec![arm(&store, clock.now()).await];
        Self { clock, store, timers, armed, _folder: folder }
    }

    async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.timers.tick(&mut self.armed, self.clock.now()).await.unwrap();
    }

    /// As a daemon that is started again: what it knows of timers is what is stored.
    async fn restart(&mut self) {
        self.armed = vec![arm(&self.store, self.clock.now()).await];
    }

    async fn fired(&self) -> Vec<Timestamp> {
        let page = Page { limit: 10_000, offset: 0 };
        let (all, _) = self.store.events().instance_list(&InstanceFilter::default(), page).await.unwrap();
        all.into_iter().map(|instance| instance.occurred_at).collect()
    }
}

async fn arm(store: &Store, now: Timestamp) -> Armed {
    let parameters = json!({ "unit": "seconds", "delta": PERIOD.as_secs() });
    let parameters = serde_json::from_value(parameters).unwrap();
    let trigger = Trigger { trigger_type: timers::INTERVAL_TIMER.parse().unwrap(), parameters };
    let state = store.events().timer_state(&trigger.identity(), now).await.unwrap();
    let timer = Timer { schedule: Schedule::parse(&trigger).unwrap(), anchor: state.anchor };
    Armed { trigger, timer, last: state.last, misfire: Misfire::Once }
}

/// What happens to the machine.
#[derive(Debug, Clone)]
enum Event {
    Passes(u64),
    Steps(i64),
    Restarts,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (100_u64..9_000).prop_map(Event::Passes),
        2 => (-2 * DAY..2 * DAY).prop_map(Event::Steps),
        1 => (-3_000_000_i64..3_000_000).prop_map(Event::Steps),
        1 => Just(Event::Restarts),
    ];
    prop::collection::vec(event, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_clock_did_each_instant_fires_once_when_it_is_right_again(history in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut desk = Desk::new().await;
            let start = desk.clock.now();
            for event in history {
                match event {
                    Event::Passes(millis) => desk.pass(Duration::from_millis(millis)).await,
                    Event::Steps(by) => desk.clock.step(by),
                    Event::Restarts => desk.restart().await,
                }
            }
            desk.clock.set(start.plus(desk.clock.monotonic()));
            desk.pass(Duration::ZERO).await;
            let right_since = desk.clock.now();
            for _ in 0..30 {
                desk.pass(Duration::from_secs(1)).await;
            }
            let fired = desk.fired().await;
            let once: BTreeSet<Timestamp> = fired.iter().copied().collect();
            assert_eq!(fired.len(), once.len(), "an instant fired twice: {fired:?}");
            let timer = &desk.armed[0].timer;
            let wanted = std::iter::successors(timer.next_after(right_since), |last| timer.next_after(*last));
            for instant in wanted.take_while(|instant| *instant <= desk.clock.now()) {
                assert!(once.contains(&instant), "{instant} was lost, right since {right_since}: {once:?}");
            }
        });
    }
}
