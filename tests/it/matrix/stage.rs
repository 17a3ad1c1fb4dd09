//! An engine in this process over a data folder that a test has laid out, beside a world and under a clock that leaps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use petrel::bus::MemoryBus;
use petrel::clock::{Clock, SystemIds};
use petrel::daemon::{Engine, Home, World as EngineWorld};
use petrel::governor::view::GroupView;
use petrel::health::Troubles;
use petrel::metrics::Metrics;
use petrel::model::group::GroupName;
use petrel::model::node::NodePhase;
use petrel::model::refs::ExecutionId;
use petrel::supervise::Supervisor;
use serde_json::{Value, json};

use super::clock::LeapClock;
use super::history::Snapshot;
use super::server::{Server, World};
use crate::support::eventually;
use crate::support::site::{Running, Site};

/// The longest leap: the governor looks every ten minutes, and what is longer than two of its rounds is a jump of the clock.
pub(super) const LEAP: Duration = Duration::from_secs(8 * 60);
/// What is under way is extended every five seconds.
const LEAP_BESIDE_WORK: Duration = Duration::from_secs(4);
/// So many looks in a row must find nothing to do: what differs is mended when it was seen twice.
const CALM_LOOKS: usize = 3;
/// More virtual time than all back-offs and deadlines of a story take together.
const ROUNDS: usize = 600;

pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) clock: Arc<LeapClock>,
    pub(super) world: Arc<World>,
    pub(super) running: Running,
    config: petrel::config::Config,
}

pub(super) fn web() -> GroupName {
    "web".parse().unwrap()
}

/// A site whose groups live in the world of this cell.
pub(super) fn site(server: &Server, cell: &str) -> Site {
    let site = Site::in_memory();
    let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    std::os::unix::fs::symlink(workflows, site.path().join("workflows")).unwrap();
    for (name, text) in server.pack(cell) {
        site.write(&name, &text);
    }
    let packs = site.path().join("packs").display().to_string();
    // Long enough for most steps to be hot, short enough that nobody waits for a thread that waits for a time.
    site.setting("packs", &packs).setting("workers.park", "40ms")
}

impl Stage {
    /// Opens an engine over what was left behind; nothing runs yet.
    pub(super) async fn open(server: &Server, cell: &str, left: &Snapshot, later: Duration) -> Self {
        let site = site(server, cell).setting("roles", "workers,governor");
        let data_dir = site.path().join("data");
        left.lay_out(&data_dir, cell);
        server.lend_shipped_packs(&data_dir);
        let world = World::new(left.outside.clone(), left.log.clone());
        server.add(cell, &world);
        let clock = Arc::new(LeapClock::new(left.at.plus(later)));
        let shared: Arc<dyn Clock> = Arc::<LeapClock>::clone(&clock);
        let around = EngineWorld {
            ids: Arc::new(SystemIds::new(Arc::clone(&shared))),
            bus: Arc::new(MemoryBus::default()),
            supervisor: Supervisor::new(Arc::clone(&shared)),
            metrics: Metrics::default(),
            troubles: Troubles::default(),
            clock: shared,
        };
        let config = site.config();
        let home = Home { site: site.path().to_owned(), program: env!("CARGO_BIN_EXE_petrel").into() };
        let engine = Engine::open(&config, &home, around).await.unwrap();
        Self { site, clock, world, running: Running { engine }, config }
    }

    pub(super) async fn start(&self) {
        self.running.engine.start(&self.config).await.unwrap();
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.running.engine
    }

    /// `None`: there is no such group.
    pub(super) async fn group(&self) -> Option<GroupView> {
        self.engine().governor.get(&web()).await.ok()
    }

    /// Asks for the end of everything that was asked for from outside. Gives back how much that was.
    pub(super) async fn cancel_all(&self) -> usize {
        let unfinished = self.engine().store.executions().execution_list_unfinished(100).await.unwrap();
        let mut canceled = 0;
        for row in unfinished.iter().filter(|row| row.parent.is_none()) {
            // It may just have ended by itself.
            canceled += usize::from(self.engine().dispatcher.cancel(row.id).await.is_ok());
        }
        canceled
    }

    pub(super) async fn tick(&self) -> bool {
        let report = self.engine().governor.tick_all().await.unwrap();
        assert_eq!(report.problems, []);
        !report.acted.is_empty()
    }

    /// As the shipped rule on a timer does. Gives back what differs.
    pub(super) async fn look_around(&self) -> Value {
        let id = self.running.request("default.asg_observe", json!({})).await;
        self.quiet().await;
        let row = self.engine().store.executions().execution_get(id).await.unwrap();
        row.result.unwrap_or_default()["output"]["looks"][0]["drift"].clone()
    }

    /// Waits until all that can happen now has happened: what is left waits for a time.
    pub(super) async fn quiet(&self) {
        eventually("what can happen now has happened", async || {
            // What waited in the queue at one look may be at work at the next: only without a commit between they are one.
            let before = self.log_bytes();
            (self.is_quiet().await && self.is_quiet().await && self.log_bytes() == before).then_some(())
        })
        .await;
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.site.path().join("data/petrel.db-wal")).map_or(0, |log| log.len())
    }

    async fn is_quiet(&self) -> bool {
        let (obligations, now) = (self.engine().store.obligations(), self.clock.now());
        for kind in ["lease", "slot"] {
            if !obligations.obligation_list_kind(kind, 1).await.unwrap().is_empty() {
                return false;
            }
        }
        for kind in ["queue", "timer", "signal", "timeout"] {
            let first = obligations.obligation_list_kind(kind, 1).await.unwrap().into_iter().next();
            if first.is_some_and(|first| first.due_at.is_some_and(|due| due <= now)) {
                return false;
            }
        }
        true
    }

    /// Lets the time pass that the next one waits for.
    pub(super) async fn leap(&self) {
        let now = self.clock.now();
        let mut by = LEAP;
        for kind in ["timer", "queue"] {
            let first = self.engine().store.obligations().obligation_list_kind(kind, 1).await.unwrap();
            let left = first.first().and_then(|first| first.due_at).map(|due| due.since(now));
            by = by.min(left.unwrap_or(LEAP).max(Duration::from_millis(1)));
        }
        self.clock.leap(by);
    }

    /// Lets time pass while a call hangs, until the governor finds that it takes too long.
    pub(super) async fn leap_until_given_up(&self) {
        eventually("somebody gives up what hangs", async || {
            self.clock.leap(LEAP_BESIDE_WORK);
            self.tick().await;
            (!self.world.is_hanging()).then_some(())
        })
        .await;
    }

    /// Lets governor and time go on until nothing is left to do. `Err`: that did not come about.
    pub(super) async fn rest(&self, looks: bool) -> Result<(), String> {
        let mut calm = 0;
        for _ in 0..ROUNDS {
            self.quiet().await;
            if looks && self.group().await.is_some() {
                self.look_around().await;
            }
            let acted = self.tick().await;
            let over = !acted && self.is_at_rest().await && (!looks || self.world.shows_all());
            calm = if over { calm + 1 } else { 0 };
            if calm == if looks { CALM_LOOKS } else { 1 } {
                return Ok(());
            }
            self.quiet().await;
            self.leap().await;
        }
        let group = self.group().await;
        let unfinished = self.unfinished().await;
        Err(format!("it does not come to rest: {unfinished:?}\n{group:#?}"))
    }

    /// Lets time pass in which somebody looks and the governor could act.
    pub(super) async fn pass_time(&self) {
        for _ in 0..CALM_LOOKS {
            self.quiet().await;
            if self.group().await.is_some() {
                self.look_around().await;
            }
            self.tick().await;
            self.quiet().await;
            self.leap().await;
        }
    }

    async fn is_at_rest(&self) -> bool {
        let settled = self.group().await.is_none_or(|group| {
            let serves = group.nodes.iter().all(|node| node.phase == NodePhase::InService);
            let mended = group.drift.iter().all(|drifting| !drifting.drift.can_be_mended());
            group.activity.is_none() && !group.deleting && serves && mended && group.in_service >= group.min_nodes
        });
        settled && self.unfinished().await.is_empty()
    }

    pub(super) async fn unfinished(&self) -> Vec<(ExecutionId, String, String)> {
        let rows = self.engine().store.executions().execution_list_unfinished(100).await.unwrap();
        rows.into_iter().map(|row| (row.id, row.action.to_string(), row.status.to_string())).collect()
    }

    /// Ends the engine. The site stays as long as it is held.
    pub(super) async fn stop(self) -> Site {
        self.running.stop().await;
        self.site
    }
}
