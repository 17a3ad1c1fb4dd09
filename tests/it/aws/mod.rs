//! The pack `aws` against moto (EC2, ELBv2) and ministack (Route 53). These are emulators: nothing here was tried against
//! AWS itself.

mod capacity;
mod exactly_one;
mod group;
mod names;
mod nodes;
mod pools;
mod refusals;
mod signatures;

use std::sync::Arc;
use std::time::Duration;

use petrel::aws::actions::add_actions;
use petrel::clock::{Clock, SystemClock};
use petrel::model::execution::ExecutionStatus;
use petrel::model::pack::{Catalogue, Pack};
use petrel::model::time::format_duration;
use petrel::runners::native::Native;
use petrel::runners::{Outcome, RunEnd, Runner, Stop};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::servers::aws::Emulator;
use crate::support::native;

/// An image that moto knows.
const IMAGE: &str = "ami-12c6146b";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The actions of the pack with a configuration.
struct Desk {
    native: Native,
    /// Kept: whoever lets go of it takes the configuration away.
    _catalogue: watch::Sender<Arc<Catalogue>>,
}

impl Desk {
    fn at(url: &str) -> Self {
        Self::with(url, json!({}))
    }

    /// The same with differences.
    fn with(url: &str, differences: Value) -> Self {
        Self::by(url, differences, Arc::new(SystemClock::new()))
    }

    fn by(url: &str, differences: Value, clock: Arc<dyn Clock>) -> Self {
        let mut config = config(url);
        config.as_object_mut().unwrap().extend(differences.as_object().unwrap().clone());
        let pack = Pack { config: serde_json::from_value(config).unwrap(), ..Pack::default() };
        let catalogue = Catalogue { packs: [("aws".to_owned(), Arc::new(pack))].into(), ..Catalogue::default() };
        let (catalogue, now) = watch::channel(Arc::new(catalogue));
        let mut native = Native::default();
        add_actions(&mut native, &now, &clock);
        Self { native, _catalogue: catalogue }
    }

    async fn run(&self, action: &str, parameters: Value, stop: Stop) -> Outcome {
        match self.native.run(native::call(&format!("aws.{action}"), &parameters), stop).await {
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

    async fn create(&self, group: &str, name: &str) -> Value {
        self.succeed("create_node", wish(group, name)).await
    }
}

/// Long enough for a busy machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A configuration that does not wait as long as AWS needs.
fn config(url: &str) -> Value {
    json!({
        "region": "us-east-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "endpoint": url,
        "image_id": IMAGE, "instance_type": "t3.micro", "request_timeout": format_duration(REQUEST_TIMEOUT),
        "patience": "40s", "first_rest": "5ms",
        "check_interval": "20ms", "settle": "10ms", "sync_timeout": "10s",
    })
}

/// The same as a file.
fn config_file(url: &str, more: &str) -> String {
    let config = config(url);
    let lines = config.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n"));
    lines.collect::<String>() + more
}

fn node(group: &str, name: &str) -> Value {
    json!({ "group": group, "name": name })
}

fn wish(group: &str, name: &str) -> Value {
    json!({ "group": group, "name": name, "tag": format!("{name}.tag") })
}

/// The instances of a group that moto has, as `state id`, without us.
async fn instances(moto: &Emulator, group: &str) -> Vec<(String, String)> {
    let form =
        format!("Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag:petrel:group&Filter.1.Value.1={group}");
    let answer = moto.ask("ec2", &form).await;
    let document = roxmltree::Document::parse(&answer).unwrap();
    let text = |node: roxmltree::Node<'_, '_>, name: &str| {
        let found = node.children().find(|child| child.tag_name().name() == name);
        found.and_then(|found| found.text().map(str::to_owned)).unwrap_or_default()
    };
    let states = document.descendants().filter(|node| node.tag_name().name() == "instanceState");
    states.map(|state| (text(state, "name"), text(state.parent().unwrap(), "instanceId"))).collect()
}

/// Those that live.
async fn living(moto: &Emulator, group: &str) -> Vec<String> {
    let all = instances(moto, group).await;
    let lives = |state: &str| !matches!(state, "terminated" | "shutting-down");
    all.into_iter().filter(|(state, _)| lives(state)).map(|(_, id)| id).collect()
}

/// A network that moto has.
async fn vpc(moto: &Emulator) -> String {
    let answer = moto.ask("ec2", "Action=DescribeVpcs&Version=2016-11-15").await;
    let document = roxmltree::Document::parse(&answer).unwrap();
    let id = document.descendants().find(|node| node.tag_name().name() == "vpcId").unwrap();
    id.text().unwrap().to_owned()
}
