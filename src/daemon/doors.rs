//! Binds the ports before anything is said to be ready, and puts the routers on them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;

use super::asg::GovernorDoor;
use super::broker::BusDoor;
use super::chat;
use super::engine::Engine;
use super::upkeep::Upkeep;
use crate::api::listeners::{self, Listener};
use crate::api::{self, Bodies, Doors, Gate, GuardSettings, ListenerGuard, Stores, server};
use crate::auth::{WebhookAuth, Withheld};
use crate::config::{Config, Endpoints, Role};
use crate::dispatch;
use crate::sensors::body::BodyLimits;
use crate::sensors::hooks::Hooks;
use crate::slack;
use crate::store::daemons::DaemonRow;
use crate::supervise::{Backoff, OnEnd};

/// Ports that are bound; requests wait in them until [`Bound::open`].
#[derive(Debug)]
pub(super) struct Bound {
    api: TcpListener,
    listeners: BTreeMap<String, (TcpListener, WebhookAuth)>,
    /// What was bound.
    pub(super) endpoints: Endpoints,
}

/// Takes all ports, or says which one cannot be had and what to do.
pub(super) fn bind(config: &Config, engine: &Engine) -> anyhow::Result<Bound> {
    let api = server::bind(config.listen, "--listen ADDRESS:PORT")?;
    let api_url = url_of(&api)?;
    let mut bound =
        Bound { api, listeners: BTreeMap::new(), endpoints: Endpoints { api: api_url, listeners: BTreeMap::new() } };
    let catalogue = engine.catalogue.borrow().clone();
    let answers = config.roles.contains(&Role::Api);
    for (name, default_port) in Hooks::listeners(&catalogue).into_iter().filter(|_| answers) {
        let configured = config.listeners.get(&name);
        if configured.is_some_and(|listener| !listener.enabled) {
            continue;
        }
        // A daemon that took a free port itself is one of several: its listeners take free ports too.
        let port = if config.listen.port() == 0 { 0 } else { default_port };
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let address = configured.and_then(|listener| listener.address).unwrap_or(default);
        let option =
            format!("listeners.{name}.address in petrel.toml, or PETREL__LISTENERS__{}__ADDRESS", name.to_uppercase());
        let listener = server::bind(address, &option).with_context(|| format!("opening the listener `{name}`"))?;
        let auth = configured.and_then(|listener| listener.auth.clone()).unwrap_or(WebhookAuth::ApiKey);
        bound.endpoints.listeners.insert(name.clone(), url_of(&listener)?);
        bound.listeners.insert(name, (listener, auth));
    }
    Ok(bound)
}

fn url_of(listener: &TcpListener) -> anyhow::Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

impl Bound {
    /// Starts to answer.
    pub(super) fn open(self, config: &Config, engine: &Engine, me: &DaemonRow) {
        let hooks = Arc::new(engine.hooks());
        let doors = doors(config, engine, &hooks, me);
        let senders = api::senders(&doors);
        let supervisor = &engine.world.supervisor;
        let guard = guard(config, engine);
        let answers = config.roles.contains(&Role::Api);
        let router = if answers { api::router(&doors) } else { api::router_of_health(&doors) };
        serve(engine, "api", self.api, (router, guard.clone()));
        for (name, (socket, auth)) in self.listeners {
            let listener = Listener {
                name: name.clone(),
                auth,
                senders: senders.clone(),
                hooks: Arc::clone(&hooks),
                limits: BodyLimits { max_depth: config.limits.json_depth },
                body_bytes: config.limits.body_bytes,
                bodies: doors.bodies.clone(),
                metrics: engine.world.metrics.clone(),
            };
            serve(engine, &format!("listener {name}"), socket, (listeners::router(listener), guard.clone()));
        }
        tracing::debug!(tasks = supervisor.status().len(), "the doors are open");
    }
}

/// One for all listeners.
fn guard(config: &Config, engine: &Engine) -> ListenerGuard {
    let settings = GuardSettings {
        connections: server::most_connections(),
        trusted_proxies: config.trusted_proxies.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
    };
    ListenerGuard::new(settings, Arc::clone(&engine.world.clock), engine.world.metrics.clone())
}

fn serve(engine: &Engine, name: &str, socket: TcpListener, (router, guard): (Router, ListenerGuard)) {
    engine.world.supervisor.spawn(name, OnEnd::Restart(Backoff::default()), move |stop| {
        let (socket, router, guard) = (socket.try_clone(), router.clone(), guard.clone());
        async move { server::serve(socket?, router, guard, stop).await }
    });
}

/// What no listener keeps of a request: the credentials of all of them.
fn withheld(config: &Config) -> Withheld {
    let of_listeners = config.listeners.values().filter_map(|listener| listener.auth.as_ref());
    let of_webhooks = config.webhooks.paths.values().chain([&config.webhooks.default_auth]);
    Withheld::new(of_webhooks.chain(of_listeners))
}

fn doors(config: &Config, engine: &Engine, hooks: &Arc<Hooks>, me: &DaemonRow) -> Doors {
    let store = &engine.store;
    let super::World { clock, ids, bus, supervisor, metrics, troubles } = engine.world.clone();
    let upkeep = Arc::new(Upkeep::new(engine));
    Doors {
        stores: Stores {
            events: store.events(),
            executions: store.executions(),
            obligations: store.obligations(),
            journals: store.journals(),
            outputs: store.outputs(),
            contents: store.contents(),
            announcements: store.announcements(),
            dead_letters: store.dead_letters(),
            daemons: store.daemons(),
            suspects: store.suspects(),
        },
        me: me.clone(),
        datastore: engine.datastore.clone(),
        gate: Gate::new(store.identities(), Arc::clone(&clock), supervisor.clone(), metrics.clone())
            .with_act_as(&config.auth.act_as),
        bodies: Bodies::new(&config.limits, Arc::clone(&clock), metrics.clone()),
        withheld: Arc::new(withheld(config)),
        dispatcher: Arc::clone(&engine.dispatcher),
        intake: engine.intake.clone(),
        catalogue: engine.catalogue.clone(),
        content: Arc::clone(&engine.content),
        world: dispatch::World { clock, ids, bus, supervisor, metrics: metrics.clone() },
        limits: config.limits.clone(),
        webhooks: Arc::new(config.webhooks.clone()),
        metrics,
        hooks: Arc::clone(hooks),
        chat: chat::desk(engine),
        guests: slack::router(chat::slack_door(config, engine)),
        governor: Arc::new(GovernorDoor::new(Arc::clone(&engine.governor))),
        workflows: Arc::<Upkeep>::clone(&upkeep),
        backup: upkeep,
        bus: Arc::new(BusDoor::new(engine)),
        troubles,
    }
}

/// Where the endpoints are written for clients.
pub(super) fn endpoints_file(config: &Config) -> PathBuf {
    config.data_dir.join("endpoints.json")
}
