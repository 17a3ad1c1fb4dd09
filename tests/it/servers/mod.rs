//! Real servers for the stories. What they need, and where it comes from, is said once per process on standard error:
//!
//! - PostgreSQL: the one that `PETREL_TEST_POSTGRES_URL` names, else a private one on a free port of the loopback;
//! - RabbitMQ: the one that `PETREL_TEST_AMQP_URL` names, else a private one;
//! - HAProxy: a private one for each story;
//! - BIND, ngircd, OpenSSH, Prometheus and Alertmanager: always private ones;
//! - moto and ministack, which stand in for AWS: private ones, installed by `pip` into the folder of the build;
//! - emulate, which stands in for Slack: always private ones, installed by `npm` into the folder of the build.
//!
//! Private ones are started at their first use, shared by all stories of the process, and end with it, whatever ends
//! it. Missing programs are installed where we are root on Debian; else the story fails and says what to do. None is
//! skipped. A story that kills or stops a server starts one of its own: [`Postgres::start`], [`RabbitMq::start`],
//! [`bind::Bind::start`].

pub(crate) mod aws;
pub(crate) mod bind;
mod certificates;
pub(crate) mod faulty_aws;
pub(crate) mod guarded;
pub(crate) mod haproxy;
pub(crate) mod ngircd;
mod node;
pub(crate) mod packages;
mod ports;
pub(crate) mod postgres;
pub(crate) mod prometheus;
mod proxy;
mod python;
pub(crate) mod rabbitmq;
pub(crate) mod slack;
pub(crate) mod sshd;

use std::io::{Write, stderr};
use std::sync::Once;

use tokio::sync::OnceCell;

use packages::{DEMO, Need, POSTGRES, RABBITMQ};
pub(crate) use ports::free_port;
pub(crate) use postgres::Postgres;
pub(crate) use proxy::Proxy;
pub(crate) use rabbitmq::RabbitMq;

/// The server that all stories of this process share.
enum Shared<S> {
    Given(String),
    Private(S),
}

/// A new database on the shared PostgreSQL; its URL.
pub(crate) async fn fresh_database() -> String {
    static SERVER: OnceCell<Shared<Postgres>> = OnceCell::const_new();
    match SERVER.get_or_init(|| share(&POSTGRES, Postgres::start)).await {
        Shared::Given(url) => postgres::create_database(url).await,
        Shared::Private(server) => server.fresh_database().await,
    }
}

/// A new virtual host on the shared RabbitMQ; its URL. One that the environment names is taken as it is: AMQP has no
/// words to make another, so its stories meet there and must name what they declare.
pub(crate) async fn fresh_vhost() -> String {
    static SERVER: OnceCell<Shared<RabbitMq>> = OnceCell::const_new();
    match SERVER.get_or_init(|| share(&RABBITMQ, RabbitMq::start)).await {
        Shared::Given(url) => url.clone(),
        Shared::Private(server) => server.fresh_vhost().await,
    }
}

async fn share<S>(need: &Need, start: impl AsyncFnOnce() -> S) -> Shared<S> {
    announce();
    match need.given() {
        Some(url) => Shared::Given(url),
        None => Shared::Private(start().await),
    }
}

/// Says what is needed and where it comes from, also past a test harness that keeps what is printed to itself.
fn announce() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let needs = [&POSTGRES, &RABBITMQ].into_iter().chain(DEMO);
        let lines: Vec<String> = needs.map(|need| format!("  {}: {}\n", need.name, need.source())).collect();
        let wheels = [&python::MOTO, &python::MINISTACK].map(|wheel| format!("  {}: {}\n", wheel.name, wheel.source()));
        let emulate = format!("  {}: {}\n", node::EMULATE.name, node::EMULATE.source());
        let list = format!("\nservers that these stories talk to:\n{}{}{emulate}", lines.concat(), wheels.concat());
        stderr().write_all(list.as_bytes()).expect("standard error");
    });
}
