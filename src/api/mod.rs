//! HTTP to domain and back, and nothing more: extract, call, shape. StackStorm's paths and JSON, Petrel's beside them.
//!
//! ```text
//!  request ─► guard ─► trim the slash ─► id, count ─┬─► open: /healthz /readyz
//!                                                  ├─► /tokens ── passwords in turns ─► handler
//!                                                  ├─► /webhooks ─ senders ├ rate ─► handler
//!                                                  └─► everything else ─ gate ├ rate ─► handler
//! ```
//!
//! Each router gets what it reaches for and no more; this file is the only one that sees all of it ([`Doors`]).

mod body;
mod content;
mod error;
mod gate;
mod limits;
mod listen;
mod listing;
mod logins;
mod shape;
mod envelope;
mod actions;
mod aliases;
mod catalogues;
mod cluster;
mod executions;
mod identities;
mod inquiries;
mod known;
mod keys;
mod packs;
mod rule_json;
mod rules;
mod signals;
mod status;
mod stream;
mod triggers;
pub mod asg;
pub mod dead_letters;
pub mod listeners;
pub mod first_start;
pub mod server;
pub mod upkeep;
pub mod webhooks;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::auth::Withheld;
use crate::chat::desk::Desk;
use crate::config::{Limits, Webhooks};
use crate::content::ContentKeeper;
use crate::datastore::Datastore;
use crate::dispatch::{Dispatcher, World};
use crate::health::Troubles;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::model::pack::Catalogue;
use crate::sensors::body::BodyLimits;
use crate::sensors::hooks::Hooks;
use crate::store::daemons::DaemonRow;
use crate::store::{
    Announcements, Contents, Daemons, DeadLetters, Events, Executions, Journals, Obligations, Outputs, Suspects,
};

pub use error::{ApiError, ApiResult};
pub use first_start::first_start;
pub use gate::{Authenticated, Gate};
pub use limits::Bucket;
pub use listen::{Bodies, GuardSettings, ListenerGuard};

use asg::AsgService;
use dead_letters::BusService;
use limits::keep_rate;
use shape::Shaper;
use upkeep::{BackupService, WorkflowCheck};

/// The parts of the store that are shown or written through HTTP.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Trigger instances, enforcements.
    pub events: Events,
    /// Executions.
    pub executions: Executions,
    /// What they wait for.
    pub obligations: Obligations,
    /// Signals, open steps.
    pub journals: Journals,
    /// What executions say.
    pub outputs: Outputs,
    /// The API's layer of rules.
    pub contents: Contents,
    /// The event stream.
    pub announcements: Announcements,
    /// Messages of which nothing could be made.
    pub dead_letters: DeadLetters,
    /// The daemons over it.
    pub daemons: Daemons,
    /// What daemons may have died of.
    pub suspects: Suspects,
}

/// The house as the doors see it; taken apart by [`router`].
#[derive(Clone)]
pub struct Doors {
    /// Rows.
    pub stores: Stores,
    /// Key-values.
    pub datastore: Datastore,
    /// Who may come in.
    pub gate: Gate,
    /// Runs and steers executions.
    pub dispatcher: Arc<Dispatcher>,
    /// Takes events in.
    pub intake: Intake,
    /// What is loaded.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Loads it, and publishes for all daemons.
    pub content: Arc<ContentKeeper>,
    /// Time, ids, news, tasks.
    pub world: World,
    /// Sizes and rates.
    pub limits: Limits,
    /// How webhooks know their senders.
    pub webhooks: Arc<Webhooks>,
    /// What is counted.
    pub metrics: Metrics,
    /// Webhooks that packs declare.
    pub hooks: Arc<Hooks>,
    /// Understands commands.
    pub chat: Desk,
    /// What none of them keeps of a request.
    pub withheld: Arc<Withheld>,
    /// Memory for bodies.
    pub bodies: Bodies,
    /// Webhooks of domains, which know their senders themselves.
    pub guests: Router,
    /// The governor.
    pub governor: Arc<dyn AsgService>,
    /// Dry replays.
    pub workflows: Arc<dyn WorkflowCheck>,
    /// Copies of the store.
    pub backup: Arc<dyn BackupService>,
    /// The way of events into the store.
    pub bus: Arc<dyn BusService>,
    /// What is wrong just now.
    pub troubles: Troubles,
    /// This daemon, as it shows itself to others.
    pub me: DaemonRow,
}

/// Everything that is answered on the API's port.
pub fn router(doors: &Doors) -> Router {
    let api = api(doors);
    let tokens = tokens(doors);
    let stream = closed(doors, stream(doors));
    let paths = Router::new()
        .merge(api.clone())
        .nest("/v1", api.clone())
        .nest("/api/v1", api)
        .merge(tokens.clone())
        .nest("/v1", tokens.clone())
        .nest("/auth", tokens.clone())
        .nest("/auth/v1", tokens)
        .merge(stream.clone())
        .nest("/v1", stream.clone())
        .nest("/api/v1", stream.clone())
        .nest("/stream/v1", stream)
        .fallback(async || ApiError::not_found("The resource could not be found."))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed());
    let body_limits = BodyLimits { max_depth: doors.limits.json_depth };
    let envelope = envelope::Envelope { ids: Arc::clone(&doors.world.ids), metrics: doors.metrics.clone() };
    let inner = paths
        .route_layer(from_fn(envelope::note_route))
        .layer(from_fn(envelope::note_damage))
        .layer(Extension(body_limits))
        .layer(Extension(doors.bodies.clone()))
        .layer(DefaultBodyLimit::max(doors.limits.body_bytes))
        .layer(from_fn_with_state(envelope, envelope::wrap));
    Router::new().fallback_service(inner.map_request(envelope::trim_slash))
}

/// What a daemon answers that has no part in the API: how it is.
pub fn router_of_health(doors: &Doors) -> Router {
    let status = closed(doors, status::router(status_door(doors))).merge(status::open_router(status_door(doors)));
    Router::new()
        .merge(status.clone())
        .nest("/v1", status)
        .fallback(async || ApiError::not_found("This daemon has no part in the API; ask one with the role `api`."))
}

/// What stands under every prefix of the API.
fn api(doors: &Doors) -> Router {
    closed(doors, resources(doors)).merge(hooks(doors)).merge(status::open_router(status_door(doors)))
}

/// Behind the gate, at a bounded rate. Those who do not come in use up none of it.
fn closed(doors: &Doors, routes: Router) -> Router {
    rated(doors, routes).route_layer(from_fn_with_state(doors.gate.clone(), gate::close))
}

fn rated(doors: &Doors, routes: Router) -> Router {
    routes.route_layer(from_fn_with_state(bucket(doors), keep_rate))
}

fn bucket(doors: &Doors) -> Bucket {
    Bucket::new(doors.limits.rate_per_second, Arc::clone(&doors.world.clock))
}

fn resources(doors: &Doors) -> Router {
    let Doors { stores, world, .. } = doors;
    Router::new()
        .merge(executions::router(executions::Door {
            executions: stores.executions.clone(),
            obligations: stores.obligations.clone(),
            journals: stores.journals.clone(),
            outputs: stores.outputs.clone(),
            dispatcher: Arc::clone(&doors.dispatcher),
            shaper: shaper(doors),
            clock: Arc::clone(&world.clock),
        }))
        .merge(actions::router(Arc::clone(&doors.dispatcher)))
        .merge(packs::router(doors.catalogue.clone()))
        .merge(webhooks::list_router(doors.catalogue.clone()))
        .merge(rules::router(rules::Door {
            catalogue: doors.catalogue.clone(),
            dispatcher: Arc::clone(&doors.dispatcher),
            contents: stores.contents.clone(),
            events: stores.events.clone(),
            datastore: doors.datastore.clone(),
            bus: Arc::clone(&world.bus),
            clock: Arc::clone(&world.clock),
        }))
        .merge(triggers::router(triggers::Door {
            catalogue: doors.catalogue.clone(),
            events: stores.events.clone(),
            intake: doors.intake.clone(),
            suspects: stores.suspects.clone(),
        }))
        .merge(keys::router(keys::Door { datastore: doors.datastore.clone(), clock: Arc::clone(&world.clock) }))
        .merge(identities::router(identities_door(doors)))
        .merge(status::router(status_door(doors)))
        .merge(cluster::router(cluster_door(doors)))
        .merge(asg::router(Arc::clone(&doors.governor)))
        .merge(people(doors))
}

/// What people tell executions and the daemon.
fn people(doors: &Doors) -> Router {
    let Doors { stores, world, .. } = doors;
    Router::new()
        .merge(aliases::router(aliases::Door {
            desk: doors.chat.clone(),
            executions: stores.executions.clone(),
            shaper: shaper(doors),
        }))
        .merge(signals::router(signals::Door {
            journals: stores.journals.clone(),
            bus: Arc::clone(&world.bus),
            clock: Arc::clone(&world.clock),
            ids: Arc::clone(&world.ids),
        }))
        .merge(inquiries::router(inquiries::Door {
            dispatcher: Arc::clone(&doors.dispatcher),
            executions: stores.executions.clone(),
            obligations: stores.obligations.clone(),
        }))
        .merge(dead_letters::router(dead_letters::Door {
            dead_letters: stores.dead_letters.clone(),
            bus: Arc::clone(&doors.bus),
        }))
        .merge(catalogues::router(catalogues::Door {
            content: Arc::clone(&doors.content),
            supervisor: world.supervisor.clone(),
        }))
        .merge(upkeep::router(upkeep::Door {
            workflows: Arc::clone(&doors.workflows),
            backup: Arc::clone(&doors.backup),
        }))
}

/// Not at a rate, which strangers could use up: passwords are checked in turns.
fn tokens(doors: &Doors) -> Router {
    identities::login_router(identities_door(doors))
}

fn hooks(doors: &Doors) -> Router {
    let own = webhooks::router(webhooks::Door {
        catalogue: doors.catalogue.clone(),
        senders: senders(doors),
        intake: doors.intake.clone(),
        limits: BodyLimits { max_depth: doors.limits.json_depth },
        metrics: doors.metrics.clone(),
        places: Arc::new(Semaphore::new(doors.limits.intake_queue)),
        rate: bucket(doors),
        hooks: webhooks::HookIndex::default(),
        sensors: Arc::clone(&doors.hooks),
    });
    // There may be none of them, which `route_layer` does not take.
    let guests = doors.guests.clone().layer(from_fn(gate::read_for_guest));
    own.merge(guests.layer(from_fn_with_state(bucket(doors), keep_rate)))
}

/// Who checks the senders of webhooks; listeners of sensors ask the same one.
pub fn senders(doors: &Doors) -> webhooks::Senders {
    let (gate, datastore) = (doors.gate.clone(), doors.datastore.clone());
    let (webhooks, withheld) = (Arc::clone(&doors.webhooks), Arc::clone(&doors.withheld));
    webhooks::Senders::new(gate, datastore, webhooks, withheld, Arc::clone(&doors.world.clock))
}

fn stream(doors: &Doors) -> Router {
    let Doors { stores, world, .. } = doors;
    stream::router(stream::Door {
        announcements: stores.announcements.clone(),
        executions: stores.executions.clone(),
        outputs: stores.outputs.clone(),
        shaper: shaper(doors),
        bus: Arc::clone(&world.bus),
        clock: Arc::clone(&world.clock),
        stop: world.supervisor.token().clone(),
        places: stream::Places::default(),
    })
}

fn shaper(doors: &Doors) -> Shaper {
    Shaper::new(Arc::clone(&doors.dispatcher), doors.datastore.clone())
}

fn identities_door(doors: &Doors) -> identities::Door {
    identities::Door {
        gate: doors.gate.clone(),
        clock: Arc::clone(&doors.world.clock),
        ids: Arc::clone(&doors.world.ids),
        supervisor: doors.world.supervisor.clone(),
    }
}

fn cluster_door(doors: &Doors) -> cluster::Door {
    cluster::Door {
        daemons: doors.stores.daemons.clone(),
        events: doors.stores.events.clone(),
        executions: doors.stores.executions.clone(),
        me: doors.me.clone(),
        catalogue: doors.catalogue.clone(),
        clock: Arc::clone(&doors.world.clock),
    }
}

fn status_door(doors: &Doors) -> status::Door {
    status::Door {
        catalogue: doors.catalogue.clone(),
        events: doors.stores.events.clone(),
        executions: doors.stores.executions.clone(),
        supervisor: doors.world.supervisor.clone(),
        governor: Arc::clone(&doors.governor),
        bus: Arc::clone(&doors.bus),
        troubles: doors.troubles.clone(),
        metrics: doors.metrics.clone(),
        dispatcher: Arc::clone(&doors.dispatcher),
    }
}
