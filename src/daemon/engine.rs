//! The composition root: opens the store, builds the parts in the order of the journey, introduces them to each other,
//! hands their loops to the supervisor. No logic.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use super::action_user::RunnersHome;
use super::broker;
use super::chat;
use super::former_life;
use super::installation::{Installation, Sharing};
use super::keeping;
use super::runners::{WorldWith, build_runners, parameters_of};
use crate::amqp::Broker;
use crate::bus::{Bus, MemoryBus};
use crate::clock::{Clock, Ids, SystemClock, SystemIds};
use crate::cluster::{Membership, Turns};
use crate::config::{Config, MisfirePolicy, Role};
use crate::content::{self, ContentKeeper, Origins, Writers};
use crate::datastore::Datastore;
use crate::dispatch::{self, Dispatcher};
use crate::evaluation::Trials;
use crate::governor::service::{Governor, Parts};
use crate::health::Troubles;
use crate::intake::{Intake, Landing};
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;
use crate::packs::layout::ContentRoots;
use crate::packs::publication::shelf::Shelf;
use crate::packs::shipped;
use crate::requests::{Cancels, Requests};
use crate::rules::engine as rules;
use crate::runners::process::GuardDir;
use crate::sensors::hooks::Hooks;
use crate::sensors::polling::Polls;
use crate::sensors::timer_loop::{TimerDefaults, TimerLoop};
use crate::sensors::timers::Misfire;
use crate::store::Store;
use crate::store::daemons::DaemonRow;
use crate::store::rows::Share;
use crate::supervise::{Backoff, OnEnd, Supervisor};
use crate::timekeeping::Timekeeper;

/// The pack whose actions are the governor's.
const GOVERNORS_PACK: &str = "autoscale";
/// A run that says nothing about its time ends after this long.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(1);

/// Everything that works, without the doors.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The truth.
    pub store: Store,
    /// Who else may work over it.
    pub sharing: Sharing,
    /// Time, chance, news, tasks.
    pub world: World,
    /// What runs.
    pub dispatcher: Arc<Dispatcher>,
    /// Admits what changes a group.
    pub governor: Arc<Governor>,
    /// In front of the store, if it is configured.
    pub broker: Option<Arc<Broker>>,
    /// Takes events in.
    pub intake: Intake,
    /// Key-values.
    pub datastore: Datastore,
    /// What is loaded.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Loads it.
    pub content: Arc<ContentKeeper>,
    /// Keeps the time of day.
    timekeeper: Arc<Timekeeper>,
    /// What is evaluated, and what daemons may have died of.
    pub trials: Trials,
    pub(super) guards: Arc<GuardDir>,
}

/// Time, chance, news, tasks.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Hints and instances.
    pub bus: Arc<dyn Bus>,
    /// Starts and ends tasks.
    pub supervisor: Supervisor,
    /// What is counted.
    pub metrics: Metrics,
    /// What is wrong just now.
    pub troubles: Troubles,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// The real world.
    pub fn real() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Self {
            ids: Arc::new(SystemIds::new(Arc::clone(&clock))),
            bus: Arc::new(MemoryBus::default()),
            supervisor: Supervisor::new(Arc::clone(&clock)),
            metrics: Metrics::default(),
            troubles: Troubles::default(),
            clock,
        }
    }
}

/// Where an engine lives.
#[derive(Debug, Clone)]
pub struct Home {
    /// The site's root: `rules/`, `workflows/`, `configs/`.
    pub site: PathBuf,
    /// The program that guards processes: Petrel itself.
    pub program: PathBuf,
}

impl Engine {
    /// Opens everything and loads the content; nothing runs yet.
    pub async fn open(config: &Config, home: &Home, world: World) -> anyhow::Result<Self> {
        let installation = Installation::open(config, &world).await?;
        let (world, broker) = broker::introduce(config, installation.keyring.message_key(), world)?;
        let (store, sharing) = (installation.store.clone(), installation.sharing);
        let timekeeper = keeping::begin_time(&store, &world).await?;
        let datastore = Datastore::new(store.key_values(), Arc::clone(&installation.keyring), Arc::clone(&world.clock));
        let World { clock, ids, bus, supervisor, metrics, troubles: _ } = world.clone();
        let landing = Landing::new(store.events(), Arc::clone(&bus));
        let intake = broker::behind(broker.as_deref(), Intake::new(landing, Arc::clone(&clock), Arc::clone(&ids)));
        let (publish, catalogue) = watch::channel(Arc::new(Catalogue::default()));
        let owner = ids.uuid_v4();
        let limits = dispatch::Limits {
            worker_slots: config.workers.slots,
            default_timeout: DEFAULT_TIMEOUT,
            share: share_of(&config.roles),
        };
        let dispatch_world = dispatch::World { clock, ids, bus, supervisor, metrics };
        let stores = dispatch_stores(&store, &datastore);
        let dispatcher = Dispatcher::new(stores, dispatch_world, catalogue.clone(), limits, owner);
        let governor = Arc::new(Governor::new(governor_parts(&store, &dispatcher, &catalogue, &world)));
        let around = WorldWith { world: &world, dispatcher: &dispatcher, intake: &intake, catalogue: &catalogue };
        let built = build_runners(config, home, &installation, &datastore, &governor, &around)?;
        let content = content::Parts {
            origins: origins(config, home, &installation)?,
            writers: if sharing == Sharing::Alone { Writers::Myself } else { Writers::Others },
            contents: store.contents(),
            runners: parameters_of(&built.registry),
            bus: Arc::clone(&world.bus),
            clock: Arc::clone(&world.clock),
        };
        let content = Arc::new(ContentKeeper::new(content, publish));
        let trials = former_life::trials(&store, &world, dispatcher.owner());
        dispatcher.set_trials(trials.clone());
        dispatcher.introduce(built.registry, built.neighbours);
        content.reload().await?;
        let guards = built.guards;
        Ok(Self {
            store,
            sharing,
            world,
            dispatcher,
            governor,
            broker,
            intake,
            datastore,
            catalogue,
            content,
            timekeeper,
            trials,
            guards,
        })
    }

    /// Starts the loops of the roles that this daemon plays.
    pub async fn start(&self, config: &Config) -> anyhow::Result<()> {
        former_life::inherit_suspects(config, &self.trials).await?;
        former_life::take_over(self, &config.data_dir).await?;
        let plays = |role| config.roles.contains(&role);
        self.start_keeping(config);
        broker::start(self, config);
        if plays(Role::Workers) || plays(Role::Governor) {
            let dispatcher = Arc::clone(&self.dispatcher);
            self.spawn("trials", loop_of(dispatcher, |it, stop| async move { it.run_trials(stop).await }));
            let dispatcher = Arc::clone(&self.dispatcher);
            self.spawn("dispatch", loop_of(dispatcher, |it, stop| async move { it.run(stop).await }));
        }
        if plays(Role::Rules) {
            self.spawn("rules", loop_of(Arc::new(self.rules()), |it, stop| async move { it.run(stop).await }));
        }
        if plays(Role::Sensors) {
            self.spawn("timers", loop_of(Arc::new(self.timers(config)), |it, stop| async move { it.run(stop).await }));
            let queues = Arc::new(broker::queues(self, config));
            self.spawn("queues", loop_of(queues, |it, stop| async move { it.run(stop).await }));
            self.spawn("slack", loop_of(Arc::new(chat::slack(self)), |it, stop| async move { it.run(stop).await }));
            self.spawn("irc", loop_of(Arc::new(chat::irc(self)), |it, stop| async move { it.run(stop).await }));
            self.spawn("polls", loop_of(Arc::new(self.polls()?), |it, stop| async move { it.run(stop).await }));
        }
        Ok(())
    }

    /// What every daemon does: its leases, time's work, its content, cleaning.
    fn start_keeping(&self, config: &Config) {
        self.spawn("clock", loop_of(Arc::clone(&self.timekeeper), |it, stop| async move { it.run(stop).await }));
        let dispatcher = Arc::clone(&self.dispatcher);
        self.spawn("leases", loop_of(dispatcher, |it, stop| async move { it.keep_leases(stop).await }));
        let dispatcher = Arc::clone(&self.dispatcher);
        self.spawn("sweeper", loop_of(dispatcher, |it, stop| async move { it.run_sweeper(stop).await }));
        self.spawn("content", loop_of(Arc::clone(&self.content), |it, stop| async move { it.run(stop).await }));
        let housekeeping = keeping::housekeeping(self, config);
        self.spawn("housekeeping", loop_of(Arc::new(housekeeping), |it, stop| async move { it.run(stop).await }));
    }

    /// This daemon as it shows itself to the others.
    pub fn myself(&self, config: &Config, api: &str) -> DaemonRow {
        let now = self.world.clock.now();
        let roles: Vec<&str> = config.roles.iter().map(|role| role.as_str()).collect();
        DaemonRow {
            owner: self.dispatcher.owner().to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            pid: std::process::id().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: roles.join(","),
            api: api.to_owned(),
            catalogue: String::new(),
            started_at: now,
            seen_at: now,
        }
    }

    /// Tells the other daemons over the store, if there may be any, that there is this one.
    pub fn join_others(&self, me: &DaemonRow) {
        if self.sharing == Sharing::Alone {
            return;
        }
        let clock = Arc::clone(&self.world.clock);
        let membership = Membership::new(self.store.daemons(), clock, me.clone(), self.catalogue.clone());
        self.spawn("membership", loop_of(Arc::new(membership), |it, stop| async move { it.run(stop).await }));
    }

    /// A loop that failed, most likely for want of the store, looks again soon: leases must be extended in time.
    fn spawn(&self, name: &str, work: Loop) {
        let backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
        self.world.supervisor.spawn(name, OnEnd::Restart(backoff), work);
    }

    fn rules(&self) -> rules::Engine {
        let World { clock, ids, bus, .. } = self.world.clone();
        let stores = rules::Stores { events: self.store.events(), datastore: self.datastore.clone() };
        let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(&self.dispatcher);
        rules::Engine::new(stores, bus, clock, ids, requests, self.catalogue.clone()).with_trials(self.trials.clone())
    }

    fn timers(&self, config: &Config) -> TimerLoop {
        let misfire = match config.timers.misfire {
            MisfirePolicy::Once => Misfire::Once,
            MisfirePolicy::Skip => Misfire::Skip,
            MisfirePolicy::All => Misfire::All,
        };
        let defaults = TimerDefaults { misfire, timezone: config.timers.timezone.clone() };
        let clock = Arc::clone(&self.world.clock);
        TimerLoop::new(self.store.events(), self.intake.clone(), clock, self.catalogue.clone(), defaults)
    }

    fn polls(&self) -> anyhow::Result<Polls> {
        let World { clock, supervisor, .. } = self.world.clone();
        Polls::new(self.hooks(), self.store.contents(), clock, supervisor, self.catalogue.clone(), self.turns())
    }

    /// What only one daemon does at a time.
    pub(super) fn turns(&self) -> Turns {
        match self.sharing {
            Sharing::Alone => Turns::Alone,
            Sharing::Shared => Turns::Shared {
                daemons: self.store.daemons(),
                owner: self.dispatcher.owner().to_owned(),
                clock: Arc::clone(&self.world.clock),
            },
        }
    }

    /// The webhooks of packs, for whoever listens.
    pub fn hooks(&self) -> Hooks {
        let clock = Arc::clone(&self.world.clock);
        Hooks::new(self.intake.clone(), clock, self.catalogue.clone())
    }
}

type Loop = Box<
    dyn FnMut(tokio_util::sync::CancellationToken) -> futures_util::future::BoxFuture<'static, anyhow::Result<()>>
        + Send,
>;

fn loop_of<T, W>(it: Arc<T>, run: impl Fn(Arc<T>, tokio_util::sync::CancellationToken) -> W + Send + 'static) -> Loop
where
    T: Send + Sync + 'static,
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    Box::new(move |stop| Box::pin(run(Arc::clone(&it), stop)))
}

/// Which executions a daemon of these roles runs.
fn share_of(roles: &BTreeSet<Role>) -> Share {
    match (roles.contains(&Role::Workers), roles.contains(&Role::Governor)) {
        (true, true) => Share::Everything,
        (true, false) => Share::AllBut(GOVERNORS_PACK),
        (false, true) => Share::Only(GOVERNORS_PACK),
        (false, false) => Share::Nothing,
    }
}

fn governor_parts(
    store: &Store,
    dispatcher: &Arc<Dispatcher>,
    catalogue: &watch::Receiver<Arc<Catalogue>>,
    world: &World,
) -> Parts {
    let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(dispatcher);
    let cancels: Arc<dyn Cancels> = Arc::<Dispatcher>::clone(dispatcher);
    Parts {
        groups: store.groups(),
        contents: store.contents(),
        requests,
        cancels,
        catalogue: catalogue.clone(),
        clock: Arc::clone(&world.clock),
        ids: Arc::clone(&world.ids),
        bus: Arc::clone(&world.bus),
    }
}

fn dispatch_stores(store: &Store, datastore: &Datastore) -> dispatch::Stores {
    dispatch::Stores {
        executions: store.executions(),
        obligations: store.obligations(),
        events: store.events(),
        outputs: store.outputs(),
        journals: store.journals(),
        datastore: datastore.clone(),
    }
}

/// What was published, or the daemon's own files: the packs that the operator names, then those that ship with Petrel.
fn origins(config: &Config, home: &Home, installation: &Installation) -> anyhow::Result<Origins> {
    let RunnersHome { dir, readers, .. } = &installation.runners;
    let shipped = shipped::unpack_for(&dir.join("shipped-packs"), *readers).context("writing the shipped packs")?;
    let packs = config.packs.iter().chain([&shipped]).cloned().collect();
    let own = ContentRoots { site: home.site.clone(), packs };
    let shelf = Shelf::with_readers(dir.join("catalogues"), *readers);
    Ok(Origins { own, shipped, shelf, catalogues: installation.store.catalogues() })
}
