//! Puts the runners together: what each needs of the engine, and what content must know of them without one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::broker;
use super::chat;
use super::engine::{Home, World};
use super::installation::Installation;
use crate::aws;
use crate::chat::answers;
use crate::config::{Config, process_environment};
use crate::core_pack::{self, CoreTools};
use crate::datastore::Datastore;
use crate::dispatch::{Dispatcher, Neighbours};
use crate::dns;
use crate::governor::actions::actions as governor_actions;
use crate::governor::service::Governor;
use crate::haproxy;
use crate::intake::Intake;
use crate::local;
use crate::local::nodes::LocalNodes;
use crate::model::access::Permission;
use crate::model::action::WORKFLOW_RUNNER;
use crate::model::pack::Catalogue;
use crate::packs::check::Runners;
use crate::private;
use crate::prometheus;
use crate::requests::{Cancels, EndHook, Requests};
use crate::runners::native::Native;
use crate::runners::process::GuardDir;
use crate::runners::remote::{Remote, RemoteCommand, RemoteScript};
use crate::runners::shell::ShellCommand;
use crate::runners::shell_script::ShellScript;
use crate::runners::{self, Registry, Runner};
use crate::ssh;
use crate::store::Store;
use crate::workflows::Limits as ScriptLimits;
use crate::workflows::parked::Parked;
use crate::workflows::runner::{self as workflows, WorkflowRunner};

/// What the runners of a registry take.
pub(super) fn parameters_of(registry: &Registry) -> Runners {
    let names = registry.names().into_iter();
    names.filter_map(|name| Some((name.to_owned(), registry.get(name)?.parameters()))).collect()
}

/// What dispatch is introduced to.
pub(super) struct Built {
    pub(super) registry: Registry,
    pub(super) neighbours: Neighbours,
    pub(super) guards: Arc<GuardDir>,
}

/// What runners are built from beside the stores.
pub(super) struct WorldWith<'a> {
    pub(super) world: &'a World,
    pub(super) dispatcher: &'a Arc<Dispatcher>,
    pub(super) intake: &'a Intake,
    pub(super) catalogue: &'a watch::Receiver<Arc<Catalogue>>,
}

/// The runners, and the neighbours that dispatch asks when something ends.
pub(super) fn build_runners(
    config: &Config,
    home: &Home,
    installation: &Installation,
    datastore: &Datastore,
    governor: &Arc<Governor>,
    world: &WorldWith<'_>,
) -> anyhow::Result<Built> {
    let store = &installation.store;
    let guards = GuardDir::new(&installation.guards_dir, &home.program)?;
    let guards = Arc::new(match installation.runners.user.clone() {
        Some(user) => guards.with_action_user(user),
        None => guards,
    });
    guards.clear_private_files()?;
    guards.begin_life(world.dispatcher.owner())?;
    let remote = remote(config, home, &guards, world)?;
    let mut native = Native::default();
    let tools = CoreTools {
        intake: world.intake.clone(),
        announcements: store.announcements(),
        bus: Arc::clone(&world.world.bus),
        clock: Arc::clone(&world.world.clock),
        ids: Arc::clone(&world.world.ids),
    };
    core_pack::register(&mut native, &tools);
    let answering = answers::Tools {
        catalogue: world.catalogue.clone(),
        announcements: store.announcements(),
        bus: Arc::clone(&world.world.bus),
        clock: Arc::clone(&world.world.clock),
    };
    answers::register(&mut native, &answering);
    chat::register(&mut native, store, datastore, world);
    for (name, permission, action) in governor_actions(governor) {
        native.add(name, permission, action);
    }
    let nodes = Arc::new(LocalNodes::new(&installation.nodes_dir, &home.program, Arc::clone(&world.world.clock))?);
    local::actions::add_actions(&mut native, &nodes, &world.world.clock);
    haproxy::actions::add_actions(&mut native, world.catalogue, &world.world.clock);
    dns::actions::add_actions(&mut native, world.catalogue, &world.world.clock);
    aws::actions::add_actions(&mut native, world.catalogue, &world.world.clock);
    prometheus::actions::add_actions(&mut native, world.catalogue);
    ssh::actions::add_actions(&mut native, world.catalogue, &remote);
    // It has the daemon's credentials for a broker whose queues may be Petrel's own.
    native.add("amqp.publish", Permission::SystemManage, broker::publish_action(config, world));
    let parked = Arc::new(Parked::new(config.workers.max_parked));
    let workflows = workflow_runner(config, store, datastore, &parked, world);
    let mut registry = plain_runners();
    registry.add(Arc::new(ShellCommand::new(Arc::clone(&guards))));
    registry.add(Arc::new(ShellScript::new(Arc::clone(&guards))));
    registry.add(Arc::new(RemoteCommand::new(remote.clone())));
    registry.add(Arc::new(RemoteScript::new(remote)));
    registry.add(Arc::new(native));
    registry.add(Arc::new(workflows));
    let end_hook: Arc<dyn EndHook> = Arc::<Governor>::clone(governor);
    Ok(Built { registry, neighbours: Neighbours { end_hook, parents: parked }, guards })
}

/// How other machines are reached: with the agent that whoever started the daemon has, if he has one.
fn remote(config: &Config, home: &Home, guards: &Arc<GuardDir>, world: &WorldWith<'_>) -> anyhow::Result<Remote> {
    let clock = Arc::clone(&world.world.clock);
    // The client would make it readable for everybody.
    private::ensure_file(&config.data_dir.join("known_hosts"))?;
    let remote = Remote::new(Arc::clone(guards), &config.data_dir, &home.program, clock)?;
    Ok(remote.with_agent(process_environment().get("SSH_AUTH_SOCK").cloned()))
}

/// The runners that need nothing of the engine.
fn plain_runners() -> Registry {
    let mut registry = Registry::default();
    registry.add(Arc::new(runners::http::HttpRequest::default()));
    registry.add(Arc::new(runners::noop::Noop));
    registry.add(Arc::new(runners::inquirer::Inquirer));
    registry.add(Arc::new(runners::rhai::RhaiScript::new()));
    registry
}

/// The parameters of every runner there is, for checking content without an engine.
pub fn runner_parameters() -> Runners {
    let mut runners = parameters_of(&plain_runners());
    runners.insert("local-shell-cmd".to_owned(), ShellCommand::takes());
    runners.insert("local-shell-script".to_owned(), ShellScript::takes());
    runners.insert("remote-shell-cmd".to_owned(), RemoteCommand::takes());
    runners.insert("remote-shell-script".to_owned(), RemoteScript::takes());
    runners.insert("native".to_owned(), Native::default().parameters());
    runners.insert(WORKFLOW_RUNNER.to_owned(), BTreeMap::new());
    runners
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
