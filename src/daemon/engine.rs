//! The composition root: opens the store, builds the parts in the order of the journey, introduces them to each other,
//! hands their loops to the supervisor. No logic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::bus::{Bus, MemoryBus};
use crate::clock::{Clock, Ids, SystemClock, SystemIds};
use crate::config::{Config, MisfirePolicy};
use crate::content::ContentKeeper;
use crate::core_pack::{self, CoreTools};
use crate::datastore::Datastore;
use crate::dispatch::{self, Dispatcher, Neighbours};
use crate::governor::actions::actions as governor_actions;
use crate::governor::service::{Governor, Parts};
use crate::housekeeping::Housekeeping;
use crate::intake::Intake;
use crate::local::nodes::LocalNodes;
use crate::local;
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;
use crate::packs::check::Runners;
use crate::packs::layout::ContentRoots;
use crate::packs::shipped;
use crate::requests::{Cancels, EndHook, Requests};
use crate::rules::engine as rules;
use crate::runners::native::Native;
use crate::runners::process::GuardDir;
use crate::runners::{self, Registry, Runner};
use crate::secrets::Keyring;
use crate::sensors::hooks::Hooks;
use crate::sensors::timer_loop::TimerLoop;
use crate::sensors::timers::Misfire;
use crate::store::Store;
use crate::supervise::{Backoff, OnEnd, Supervisor};
use crate::workflows::parked::Parked;
use crate::workflows::runner::{self as workflows, WorkflowRunner};
use crate::workflows::Limits as ScriptLimits;

/// A run that says nothing about its time ends after this long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Everything that works, without the doors.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The truth.
    pub store: Store,
    /// Time, chance, news, tasks.
    pub world: World,
    /// What runs.
    pub dispatcher: Arc<Dispatcher>,
    /// Admits what changes a group.
    pub governor: Arc<Governor>,
    /// Takes events in.
    pub intake: Intake,
    /// Key-values.
    pub datastore: Datastore,
    /// What is loaded.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Loads it.
    pub content: Arc<ContentKeeper>,
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
        let data_dir = &config.data_dir;
        let database = data_dir.join("petrel.db");
        let store = Store::open_sqlite(&database, config.retention.max_database_bytes)
            .with_context(|| format!("opening {}", database.display()))?;
        let keyring = Arc::new(Keyring::open_or_create(data_dir)?);
        let datastore = Datastore::new(store.key_values(), keyring, Arc::clone(&world.clock));
        let World { clock, ids, bus, supervisor, metrics } = world.clone();
        let intake = Intake::new(store.events(), Arc::clone(&bus), Arc::clone(&clock), Arc::clone(&ids));
        let (publish, catalogue) = watch::channel(Arc::new(Catalogue::default()));
        let owner = ids.uuid_v4();
        let limits =
            dispatch::Limits { worker_slots: config.workers.slots, default_timeout: DEFAULT_TIMEOUT };
        let dispatch_world = dispatch::World { clock, ids, bus, supervisor, metrics };
        let stores = dispatch_stores(&store, &datastore);
        let dispatcher = Dispatcher::new(stores, dispatch_world, catalogue.clone(), limits, owner);
        let governor = Arc::new(Governor::new(governor_parts(&store, &dispatcher, &catalogue, &world)));
        let around = WorldWith { world: &world, dispatcher: &dispatcher, intake: &intake };
        let built = build_runners(config, home, &store, &datastore, &governor, &around)?;
        let roots = ContentRoots { site: home.site.clone(), packs: pack_roots(config)? };
        let content = Arc::new(ContentKeeper::new(
            roots,
            store.contents(),
            parameters_of(&built.registry),
            Arc::clone(&world.bus),
            Arc::clone(&world.clock),
            publish,
        ));
        dispatcher.introduce(built.registry, built.neighbours);
        content.reload().await?;
        Ok(Self { store, world, dispatcher, governor, intake, datastore, catalogue, content })
    }

    /// Starts all loops.
    pub async fn start(&self, config: &Config) -> anyhow::Result<()> {
        let now = self.world.clock.now();
        self.dispatcher.sweep(now, Some(self.dispatcher.owner())).await?;
        let spawn = |name: &str, work: Loop| self.world.supervisor.spawn(name, OnEnd::Restart(Backoff::default()), work);
        let dispatcher = Arc::clone(&self.dispatcher);
        spawn("dispatch", loop_of(dispatcher, |it, stop| async move { it.run(stop).await }));
        let dispatcher = Arc::clone(&self.dispatcher);
        spawn("leases", loop_of(dispatcher, |it, stop| async move { it.keep_leases(stop).await }));
        let dispatcher = Arc::clone(&self.dispatcher);
        spawn("sweeper", loop_of(dispatcher, |it, stop| async move { it.run_sweeper(stop).await }));
        spawn("rules", loop_of(Arc::new(self.rules()), |it, stop| async move { it.run(stop).await }));
        spawn("timers", loop_of(Arc::new(self.timers(config)), |it, stop| async move { it.run(stop).await }));
        spawn("content", loop_of(Arc::clone(&self.content), |it, stop| async move { it.run(stop).await }));
        let housekeeping =
            Housekeeping::new(self.store.retention(), config.retention.clone(), Arc::clone(&self.world.clock));
        spawn("housekeeping", loop_of(Arc::new(housekeeping), |it, stop| async move { it.run(stop).await }));
        Ok(())
    }

    fn rules(&self) -> rules::Engine {
        let World { clock, ids, bus, .. } = self.world.clone();
        let stores = rules::Stores { events: self.store.events(), datastore: self.datastore.clone() };
        let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(&self.dispatcher);
        rules::Engine::new(stores, bus, clock, ids, requests, self.catalogue.clone())
    }

    fn timers(&self, config: &Config) -> TimerLoop {
        let misfire = match config.timers.misfire {
            MisfirePolicy::Once => Misfire::Once,
            MisfirePolicy::Skip => Misfire::Skip,
            MisfirePolicy::All => Misfire::All,
        };
        let clock = Arc::clone(&self.world.clock);
        TimerLoop::new(self.store.events(), self.intake.clone(), clock, self.catalogue.clone(), misfire)
    }

    /// The webhooks of packs, for whoever listens.
    pub fn hooks(&self) -> Hooks {
        let clock = Arc::clone(&self.world.clock);
        Hooks::new(self.intake.clone(), self.store.events(), clock, self.catalogue.clone())
    }
}

type Loop = Box<
    dyn FnMut(tokio_util::sync::CancellationToken) -> futures_util::future::BoxFuture<'static, anyhow::Result<()>> + Send,
>;

fn loop_of<T, W>(it: Arc<T>, run: impl Fn(Arc<T>, tokio_util::sync::CancellationToken) -> W + Send + 'static) -> Loop
where
    T: Send + Sync + 'static,
    W: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    Box::new(move |stop| Box::pin(run(Arc::clone(&it), stop)))
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

/// The packs that the operator names, then those that ship with Petrel.
fn pack_roots(config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let mut roots = config.packs.clone();
    let shipped = shipped::unpack(&config.data_dir.join("shipped-packs")).context("writing the shipped packs")?;
    roots.push(shipped);
    Ok(roots)
}

fn parameters_of(registry: &Registry) -> Runners {
    let names = registry.names().into_iter();
    names.filter_map(|name| Some((name.to_owned(), registry.get(name)?.parameters()))).collect()
}

struct Built {
    registry: Registry,
    neighbours: Neighbours,
}

/// What runners are built from beside the stores.
struct WorldWith<'a> {
    world: &'a World,
    dispatcher: &'a Arc<Dispatcher>,
    intake: &'a Intake,
}

/// The runners, and the neighbours that dispatch asks when something ends.
fn build_runners(
    config: &Config,
    home: &Home,
    store: &Store,
    datastore: &Datastore,
    governor: &Arc<Governor>,
    world: &WorldWith<'_>,
) -> anyhow::Result<Built> {
    let guards = Arc::new(GuardDir::new(config.data_dir.join("guards"), &home.program)?);
    let mut native = Native::default();
    let tools = CoreTools {
        intake: world.intake.clone(),
        announcements: store.announcements(),
        bus: Arc::clone(&world.world.bus),
        clock: Arc::clone(&world.world.clock),
        ids: Arc::clone(&world.world.ids),
    };
    core_pack::register(&mut native, &tools);
    for (name, action) in governor_actions(governor) {
        native.add(name, action);
    }
    let nodes = Arc::new(LocalNodes::new(&config.data_dir, &home.program, Arc::clone(&world.world.clock))?);
    local::actions::add_actions(&mut native, &nodes, &world.world.clock);
    let parked = Arc::new(Parked::new(config.workers.max_parked));
    let workflows = workflow_runner(config, store, datastore, &parked, world);
    let mut registry = plain_runners(guards);
    registry.add(Arc::new(native));
    registry.add(Arc::new(workflows));
    let end_hook: Arc<dyn EndHook> = Arc::<Governor>::clone(governor);
    Ok(Built { registry, neighbours: Neighbours { end_hook, parents: parked } })
}

/// The runners that need nothing of the engine.
fn plain_runners(guards: Arc<GuardDir>) -> Registry {
    let mut registry = Registry::default();
    registry.add(Arc::new(runners::shell::ShellCommand::new(Arc::clone(&guards))));
    registry.add(Arc::new(runners::shell_script::ShellScript::new(guards)));
    registry.add(Arc::new(runners::http::HttpRequest));
    registry.add(Arc::new(runners::noop::Noop));
    registry.add(Arc::new(runners::inquirer::Inquirer));
    registry.add(Arc::new(runners::rhai::RhaiScript::new()));
    registry
}

/// The parameters of every runner there is, for checking content without an engine.
pub fn runner_parameters(data_dir: &Path) -> anyhow::Result<Runners> {
    let guards = Arc::new(GuardDir::new(data_dir.join("guards"), "petrel")?);
    let mut runners = parameters_of(&plain_runners(guards));
    runners.insert("native".to_owned(), Native::default().parameters());
    runners.insert(dispatch::WORKFLOW_RUNNER.to_owned(), BTreeMap::new());
    Ok(runners)
}

fn workflow_runner(
    config: &Config,
    store: &Store,
    datastore: &Datastore,
    parked: &Arc<Parked>,
    world: &WorldWith<'_>,
) -> WorkflowRunner {
    let stores = workflows::Stores {
        journals: store.journals(),
        executions: store.executions(),
        outputs: store.outputs(),
        contents: store.contents(),
        datastore: datastore.clone(),
    };
    let requests: Arc<dyn Requests> = Arc::<Dispatcher>::clone(world.dispatcher);
    let cancels: Arc<dyn Cancels> = Arc::<Dispatcher>::clone(world.dispatcher);
    let World { clock, ids, bus, supervisor, .. } = world.world.clone();
    let parked = Arc::clone(parked);
    let around = workflows::Surroundings { requests, cancels, bus, clock, ids, supervisor, parked };
    // A parked script holds its turn: there must be more turns than may be parked.
    let turns = config.workers.max_parked + config.workers.slots;
    let park = if config.workers.max_parked == 0 { Duration::ZERO } else { config.workers.park };
    WorkflowRunner::new(stores, around, workflows::Settings { turns, park, limits: ScriptLimits::default() })
}
