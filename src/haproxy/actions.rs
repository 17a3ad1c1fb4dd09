//! The actions of the pack `haproxy`. All can be repeated: each looks at what HAProxy has and goes on from there.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::commands::Seat;
use super::names::Name;
use super::pool::{Drained, Pool, Removal};
use super::runtime::{Runtime, RuntimeError};
use super::servers::Server;
use super::settings::Settings;
use crate::clock::Clock;
use crate::model::access::Permission;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::pack::Catalogue;
use crate::model::time::deserialize_duration;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Adds all actions of the pack. Each call goes by the pack's configuration as it is then.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>, clock: &Arc<dyn Clock>) {
    let haproxy = || Haproxy { catalogue: catalogue.clone(), clock: Arc::clone(clock) };
    native.add("haproxy.add_backend", Permission::GroupOperate, Arc::new(AddBackend(haproxy())));
    native.add("haproxy.drain_backend", Permission::GroupOperate, Arc::new(DrainBackend(haproxy())));
    native.add("haproxy.remove_backend", Permission::GroupOperate, Arc::new(RemoveBackend(haproxy())));
    native.add("haproxy.list_backends", Permission::ExecutionRun, Arc::new(ListBackends(haproxy())));
    native.add("haproxy.create_pool", Permission::GroupWrite, Arc::new(CreatePool(haproxy())));
    native.add("haproxy.delete_pool", Permission::GroupWrite, Arc::new(DeletePool(haproxy())));
}

/// What every action needs.
struct Haproxy {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    clock: Arc<dyn Clock>,
}

impl Haproxy {
    fn settings(&self, call: &Call) -> anyhow::Result<Settings> {
        Settings::of(&self.catalogue.borrow(), &call.parameters)
    }

    fn pool(&self, settings: &Settings) -> Pool {
        let runtime = Runtime::new(settings.socket.clone(), Arc::clone(&self.clock));
        Pool { runtime, check: settings.check.clone() }
    }
}

fn seat(settings: &Settings, group: &GroupName, name: &NodeName) -> Seat {
    Seat { backend: settings.backend.backend_of(group), server: name.into() }
}

struct AddBackend(Haproxy);

#[derive(Deserialize)]
struct Add {
    group: GroupName,
    name: NodeName,
    address: String,
    port: Option<NonZeroU16>,
    #[serde(default = "default_check", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for AddBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |add: Add| {
            let Add { group, name, address, port, within } = add;
            let settings = self.0.settings(call)?;
            let address = place_of(&address, port, settings.port)?;
            let seat = seat(&settings, &group, &name);
            let server = self.0.pool(&settings).add(&seat, address, within).await?;
            let mut said = row(&server);
            said["group"] = json!(group);
            said["backend"] = json!(seat.backend);
            Ok(said)
        })
        .await
    }
}

struct DrainBackend(Haproxy);

#[derive(Deserialize)]
struct Drain {
    group: GroupName,
    name: NodeName,
    #[serde(default = "default_drain", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for DrainBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |drain: Drain| {
            let Drain { group, name, within } = drain;
            let settings = self.0.settings(call)?;
            let drained = self.0.pool(&settings).drain(&seat(&settings, &group, &name), within).await?;
            let (found, sessions) = match drained {
                Drained::NotThere => (false, 0),
                Drained::Left(sessions) => (true, sessions),
            };
            let is_drained = sessions == 0;
            Ok(json!({ "group": group, "name": name, "found": found, "drained": is_drained, "sessions": sessions }))
        })
        .await
    }
}

struct RemoveBackend(Haproxy);

#[derive(Deserialize)]
struct Remove {
    group: GroupName,
    name: NodeName,
}

#[async_trait]
impl NativeAction for RemoveBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |remove: Remove| {
            let Remove { group, name } = remove;
            let settings = self.0.settings(call)?;
            let seat = seat(&settings, &group, &name);
            let removal = self.0.pool(&settings).remove(&seat).await?;
            let mut said = removed(&seat.server, removal);
            said["group"] = json!(group);
            Ok(said)
        })
        .await
    }
}

struct ListBackends(Haproxy);

#[derive(Deserialize)]
struct OfGroup {
    group: GroupName,
}

#[async_trait]
impl NativeAction for ListBackends {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |OfGroup { group }: OfGroup| {
            let settings = self.0.settings(call)?;
            let backend = settings.backend.backend_of(&group);
            let servers = self.0.pool(&settings).runtime.servers(&backend).await?;
            let rows: Vec<Value> = servers.iter().map(row).collect();
            Ok(json!({ "group": group, "backend": backend, "backends": rows }))
        })
        .await
    }
}

struct CreatePool(Haproxy);

#[async_trait]
impl NativeAction for CreatePool {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |OfGroup { group }: OfGroup| {
            let settings = self.0.settings(call)?;
            let backend = settings.backend.backend_of(&group);
            if !self.0.pool(&settings).runtime.takes_servers(&backend).await? {
                bail!(RuntimeError::NotDynamic(backend));
            }
            Ok(json!({ "group": group, "backend": backend }))
        })
        .await
    }
}

struct DeletePool(Haproxy);

#[derive(Deserialize)]
struct Clear {
    group: GroupName,
    #[serde(default = "default_drain", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for DeletePool {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Clear { group, within }: Clear| {
            let settings = self.0.settings(call)?;
            let backend = settings.backend.backend_of(&group);
            let removals = self.0.pool(&settings).clear(&backend, within).await?;
            let rows: Vec<Value> = removals.iter().map(|(name, removal)| removed(name, *removal)).collect();
            Ok(json!({ "group": group, "backend": backend, "backends": rows }))
        })
        .await
    }
}

/// Where a node serves. An address may have its port with it, as providers give it who have but one text for both.
fn place_of(address: &str, port: Option<NonZeroU16>, default_port: Option<NonZeroU16>) -> anyhow::Result<SocketAddr> {
    let (ip, own_port) = match (address.parse::<IpAddr>(), address.parse::<SocketAddr>()) {
        (Ok(ip), _) => (ip, None),
        (Err(_), Ok(place)) => (place.ip(), NonZeroU16::new(place.port())),
        (Err(_), Err(_)) => bail!("address `{address}` is not an IP address"),
    };
    if let (Some(port), Some(own_port)) = (port, own_port) {
        ensure!(port == own_port, "address `{address}` has another port than {port}, which is given as the port");
    }
    ensure!(!ip.is_unspecified() && !ip.is_multicast(), "address `{address}` is not the address of a node");
    let port = port.or(own_port).or(default_port).context(
        "nobody says on which port the node serves: give `port`, or write `port: 80` into configs/haproxy.yaml",
    )?;
    Ok(SocketAddr::new(ip.to_canonical(), port.get()))
}

fn row(server: &Server) -> Value {
    let Server { name, address, check, load, .. } = server;
    json!({
        "name": name,
        "address": address.map(|address| address.ip()),
        "port": address.map(|address| address.port()),
        "state": server.state(),
        "check": check.result,
        "check_said": check.said,
        "sessions": load.sessions,
        "queued": load.queued,
    })
}

fn removed(name: &Name, removal: Removal) -> Value {
    match removal {
        Removal::NotThere => json!({ "name": name, "found": false, "deleted": false }),
        Removal::Deleted => json!({ "name": name, "found": true, "deleted": true }),
        Removal::LeftInMaintenance => json!({
            "name": name,
            "found": true,
            "deleted": false,
            "why": "haproxy.cfg refers to it by name, so HAProxy does not delete it; it stays in maintenance and gets \
                    no requests",
        }),
    }
}

const fn default_check() -> Duration {
    Duration::from_secs(30)
}

const fn default_drain() -> Duration {
    Duration::from_mins(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_ip_address_and_a_port_that_somebody_said() {
        let port = NonZeroU16::new;
        let cases = [
            ("10.0.0.7", port(81), port(80), Ok("10.0.0.7:81")),
            ("10.0.0.7", None, port(80), Ok("10.0.0.7:80")),
            ("10.0.0.7:82", None, port(80), Ok("10.0.0.7:82")),
            ("10.0.0.7:82", port(82), None, Ok("10.0.0.7:82")),
            ("::1", port(81), None, Ok("[::1]:81")),
            ("[::1]:82", None, None, Ok("[::1]:82")),
            ("::ffff:10.0.0.7", port(81), None, Ok("10.0.0.7:81")),
            ("10.0.0.7", None, None, Err("write `port: 80` into configs/haproxy.yaml")),
            ("10.0.0.7:82", port(81), None, Err("has another port than 81")),
            ("0.0.0.0", port(81), None, Err("is not the address of a node")),
            ("10.0.0.7 check; help", port(81), None, Err("is not an IP address")),
            ("10.0.0.7\nhelp", port(81), None, Err("is not an IP address")),
            ("node.example", port(81), None, Err("is not an IP address")),
        ];
        for (address, port, default_port, expected) in cases {
            match (place_of(address, port, default_port), expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place.to_string(), expected),
                (Err(problem), Err(expected)) => assert!(problem.to_string().contains(expected), "{problem}"),
                (found, _) => panic!("{address:?}: {found:?}"),
            }
        }
    }
}
