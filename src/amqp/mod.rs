//! RabbitMQ in front of the store: what it has confirmed is accepted, also while the store is away, and lands when the
//! store answers. It also carries hints between daemons. Nobody else knows the library that speaks AMQP.
//!
//! ```text
//!  doors ─► intake ─► front ─► publisher ─► [queue] ─► consumer ─► landing ─► store, bus
//!                                 ▲                       ▲
//!                         publishing (connection)   receiving (connection) ─► hints of other daemons
//! ```
//!
//! The broker holds no truth: the queue's messages are events on their way to the store, where repetitions are recognised.

mod address;
mod connection;
mod consumer;
mod front;
mod hints;
mod message;
mod pack;
mod publisher;
mod publishing;
mod receiving;
mod standing;
mod topology;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub use address::AddressError;
pub use message::{Undecodable, Unsigned, decode};
pub use pack::{Publish, Queues};
pub use standing::Refusal;

use crate::bus::Bus;
use crate::clock::{Clock, Ids};
use crate::config;
use crate::intake::{Front, Landing};
use crate::metrics::Metrics;
use crate::secrets::MessageKey;
use crate::store::DeadLetters;
use crate::supervise::{Backoff, OnEnd, Supervisor};
use address::Address;
use connection::Connector;
use consumer::Arrivals;
use front::BrokerFront;
use hints::SharedBus;
use publisher::{Publisher, Window};
use publishing::Publishing;
use receiving::Receiving;
use standing::Standing;
use topology::Names;

/// A broker that is away is asked soon, and then every few seconds: who waits for it is turned away meanwhile.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// The broker as the rest of the daemon sees it.
pub struct Broker {
    connector: Connector,
    names: Names,
    settings: config::Bus,
    key: MessageKey,
    world: World,
    standing: watch::Sender<Standing>,
    publisher: Arc<Publisher>,
    bus: Arc<SharedBus>,
}

/// Time, chance and what is counted.
#[derive(Clone)]
pub struct World {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who we are among other daemons.
    pub ids: Arc<dyn Ids>,
    /// What is counted.
    pub metrics: Metrics,
}

/// Where deliveries land.
#[derive(Debug, Clone)]
pub struct Shore {
    /// As events.
    pub landing: Landing,
    /// If nothing can be made of them.
    pub dead_letters: DeadLetters,
    /// What is done with those that nobody signed.
    pub unsigned: Unsigned,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("amqp::World")
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Broker").field(&self.connector).finish()
    }
}

impl Broker {
    /// The broker of these settings, if they name one. Nothing is connected yet.
    /// Messages are signed with `key`, which all daemons of the installation have.
    pub fn new(settings: &config::Bus, key: &MessageKey, world: World) -> Result<Option<Self>, AddressError> {
        let Some(url) = &settings.url else { return Ok(None) };
        let address = Address::parse(url.expose(), settings.ca_file.as_deref())?;
        if address.is_exposed() {
            tracing::warn!(broker = %address, "user, password and events cross the network in clear; use amqps://");
        }
        let World { clock, ids, metrics } = world.clone();
        let names = Names::with_prefix(&settings.queue);
        let (standing, watched) = watch::channel(Standing::away("not connected yet".to_owned()));
        let publisher = Publisher {
            standing: watched,
            window: Window::default(),
            names: names.clone(),
            key: key.clone(),
            clock: Arc::clone(&clock),
            metrics,
            queue_gone: Arc::new(Notify::new()),
            turn: Mutex::default(),
        };
        Ok(Some(Self {
            connector: Connector::new(address, clock),
            names,
            settings: settings.clone(),
            key: key.clone(),
            world,
            standing,
            publisher: Arc::new(publisher),
            bus: Arc::new(SharedBus::new(ids.uuid_v4())),
        }))
    }

    /// The bus of this process, which also hears the hints of other daemons.
    pub fn bus(&self) -> Arc<dyn Bus> {
        hints::as_bus(&self.bus)
    }

    /// What makes deliveries durable.
    pub fn front(&self) -> Arc<dyn Front> {
        Arc::new(BrokerFront(Arc::clone(&self.publisher)))
    }

    /// Keeps the connections, and lands deliveries where there is a `shore`: where rules run.
    pub fn start(&self, supervisor: &Supervisor, shore: Option<Shore>) {
        let publishing = Arc::new(self.publishing());
        supervisor.spawn("broker: publishing", OnEnd::Restart(BACKOFF), move |stop| {
            let publishing = Arc::clone(&publishing);
            async move { publishing.run(stop).await }
        });
        let receiving = Arc::new(self.receiving(shore));
        supervisor.spawn("broker: receiving", OnEnd::Restart(BACKOFF), move |stop| {
            let receiving = Arc::clone(&receiving);
            async move { receiving.run(stop).await }
        });
        let (bus, clock, names) = (Arc::clone(&self.bus), Arc::clone(&self.world.clock), self.names.clone());
        let standing = self.standing.subscribe();
        supervisor.spawn("broker: hints", OnEnd::Restart(BACKOFF), move |stop| {
            let (bus, clock, names, standing) = (Arc::clone(&bus), Arc::clone(&clock), names.clone(), standing.clone());
            async move {
                bus.send(standing, &names, &*clock, &stop).await;
                Ok(())
            }
        });
    }

    /// Why no deliveries are taken just now, if none are.
    pub fn refusal(&self) -> Option<Refusal> {
        self.standing.borrow().refusal().cloned()
    }

    /// Puts a message into the queue as it is; it is there when this returns.
    pub async fn publish_again(&self, body: &[u8]) -> Result<(), Refusal> {
        self.publisher.publish(body).await
    }

    fn publishing(&self) -> Publishing {
        Publishing {
            connector: self.connector.clone(),
            names: self.names.clone(),
            grace: self.settings.fresh_queue_grace,
            clock: Arc::clone(&self.world.clock),
            metrics: self.world.metrics.clone(),
            standing: self.standing.clone(),
            queue_gone: Arc::clone(&self.publisher.queue_gone),
            publisher: Arc::clone(&self.publisher),
            is_ours_and_unused: AtomicBool::new(false),
        }
    }

    fn receiving(&self, shore: Option<Shore>) -> Receiving {
        let World { clock, metrics, .. } = self.world.clone();
        let arrivals = shore.map(|Shore { landing, dead_letters, unsigned }| Arrivals {
            landing,
            dead_letters,
            names: self.names.clone(),
            key: self.key.clone(),
            unsigned,
            prefetch: self.settings.prefetch,
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
        });
        Receiving {
            connector: self.connector.clone(),
            names: self.names.clone(),
            bus: Arc::clone(&self.bus),
            arrivals,
            clock,
            metrics,
            queue_gone: Arc::clone(&self.publisher.queue_gone),
            standing: self.standing.subscribe(),
        }
    }
}
