//! The pack `dns` against a real BIND, looked at with BIND's own tools.

mod daemon;
mod faults;
mod liars;
mod names;
mod refusals;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use petrel::clock::{Clock, SystemClock};
use petrel::dns::actions::add_actions;
use petrel::model::execution::ExecutionStatus;
use petrel::model::pack::{Catalogue, Pack};
use petrel::runners::native::Native;
use petrel::runners::{Call, Outcome, RunEnd, Runner, Stop};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::servers::bind::{Bind, ZONE};
use crate::support::native;

/// The actions of the pack with a configuration.
struct Desk {
    native: Native,
    /// Kept: whoever lets go of it takes the configuration away.
    _catalogue: watch::Sender<Arc<Catalogue>>,
}

impl Desk {
    /// As the key `petrel`, which may do everything.
    fn at(bind: &Bind) -> Self {
        Self::with(bind, json!({}))
    }

    /// The same with differences.
    fn with(bind: &Bind, differences: Value) -> Self {
        Self::by(bind, differences, Arc::new(SystemClock::new()))
    }

    fn by(bind: &Bind, differences: Value, clock: Arc<dyn Clock>) -> Self {
        let mut config = json!({ "server": bind.address(), "key_name": "petrel", "key_secret": bind.secret("petrel") });
        config.as_object_mut().unwrap().extend(differences.as_object().unwrap().clone());
        let pack = Pack {
            reference: "dns".to_owned(),
            name: "dns".to_owned(),
            description: String::new(),
            version: "1.0.0".to_owned(),
            author: String::new(),
            email: String::new(),
            keywords: Vec::new(),
            dependencies: Vec::new(),
            path: Path::new("/packs/dns").to_owned(),
            config_schema: BTreeMap::new(),
            config: serde_json::from_value(config).unwrap(),
        };
        let catalogue = Catalogue { packs: [("dns".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        let (catalogue, now) = watch::channel(Arc::new(catalogue));
        let mut native = Native::default();
        add_actions(&mut native, &now, &clock);
        Self { native, _catalogue: catalogue }
    }

    async fn run(&self, action: &str, parameters: Value, stop: Stop) -> Outcome {
        match self.native.run(call(action, &parameters), stop).await {
            RunEnd::Finished(outcome) => outcome,
            other => panic!("it did not end: {other:?}"),
        }
    }

    async fn succeed(&self, action: &str, parameters: Value) -> Value {
        let outcome = self.run(action, parameters, Stop::default()).await;
        assert_eq!(outcome.status, ExecutionStatus::Succeeded, "{action}: {:?}", outcome.result);
        outcome.result
    }

    async fn fail(&self, action: &str, parameters: Value) -> String {
        let outcome = self.run(action, parameters, Stop::default()).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{action}: {:?}", outcome.result);
        outcome.result["error"].as_str().unwrap().to_owned()
    }

    async fn upsert(&self, name: &str, data: &str) -> Value {
        self.succeed("upsert_record", record(name, data)).await
    }

    async fn delete(&self, name: &str) -> Value {
        self.succeed("delete_record", at(name)).await
    }
}

fn record(name: &str, data: &str) -> Value {
    let mut record = at(name);
    record["data"] = json!(data);
    record
}

fn at(name: &str) -> Value {
    json!({ "domain": ZONE, "name": format!("{name}.{ZONE}") })
}

/// What a name of ours looks like in the zone.
fn ours(name: &str, address: &str) -> [String; 2] {
    [format!("{name}.{ZONE} A {address}"), format!("{name}.{ZONE} TXT \"petrel-owner={name}.{ZONE}\"")]
}

/// All records of a zone that has these beside its server's own.
fn zone_with(records: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = records.into_iter().chain([format!("ns.{ZONE} A 127.0.0.1")]).collect();
    all.sort();
    all
}

fn call(action: &str, parameters: &Value) -> Call {
    native::call(&format!("dns.{action}"), parameters)
}
