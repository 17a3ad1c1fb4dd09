//! The action of the pack `ssh`.

use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::profile::Profile;
use super::settings::Settings;
use super::steps::{Node, StepEnd, StepStatus};
use crate::model::access::Permission;
use crate::model::execution::ExecutionStatus;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::pack::Catalogue;
use crate::runners::native::{Native, NativeAction, parameters};
use crate::runners::process::ProcessError;
use crate::runners::remote::{Host, Login, PrivateKey, Remote, Task, Username, VisitEnd, Whom};
use crate::runners::{Call, Outcome, Stop};

/// Adds all actions of the pack. Each call goes by the pack's configuration and the profiles as they are then.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>, remote: &Remote) {
    let (catalogue, remote) = (catalogue.clone(), remote.clone());
    native.add("ssh.configure_node", Permission::GroupOperate, Arc::new(ConfigureNode { catalogue, remote }));
}

struct ConfigureNode {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    remote: Remote,
}

#[derive(Deserialize)]
struct Configure {
    group: GroupName,
    name: NodeName,
    address: Host,
    /// Where the node serves, which is not where it is configured.
    port: Option<NonZeroU16>,
    profile: Option<String>,
    ssh_port: Option<NonZeroU16>,
    username: Option<Username>,
    private_key: Option<PrivateKey>,
    stored_private_key: Option<String>,
    passphrase: Option<String>,
    bastion_host: Option<Host>,
    sudo: Option<bool>,
    public_key: Option<String>,
    #[serde(default)]
    variables: Map<String, Value>,
}

/// Everything that is known before the node is touched.
struct Plan {
    profile: String,
    host: Host,
    login: Login,
    known_as: String,
    steps: Vec<(super::profile::Step, Task)>,
}

#[async_trait]
impl NativeAction for ConfigureNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let given: Configure = match parameters(call) {
            Ok(given) => given,
            Err(outcome) => return outcome,
        };
        let (group, name) = (given.group.clone(), given.name.clone());
        let prepared = Settings::of(&self.catalogue.borrow()).and_then(|settings| {
            let remote = self.remote.clone().knowing(settings.known_hosts.clone());
            Ok((remote, self.plan(given, settings)?))
        });
        let (remote, plan) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Outcome::error(format!("{error:#}")),
        };
        match plan.carry_out(&remote, call, stop).await {
            Ok((status, mut result)) => {
                result["group"] = json!(group);
                result["name"] = json!(name);
                Outcome { status, result }
            }
            Err(error) => Outcome::error(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

impl ConfigureNode {
    fn plan(&self, given: Configure, settings: Settings) -> anyhow::Result<Plan> {
        let profile = given.profile.or(settings.profile).context(
            "no profile is named: write `profile: web` into configs/ssh.yaml or into the group's `configure_parameters`, \
             for what stands in profiles/web.yaml",
        )?;
        let node = Node {
            group: &given.group,
            name: &given.name,
            address: given.address.name(),
            port: given.port.or_else(|| given.address.port()),
            public_key: given.public_key.as_deref().unwrap_or_default().trim(),
            variables: &given.variables,
        };
        let sudo = given.sudo.unwrap_or(settings.sudo);
        let steps = Profile::find(&self.catalogue.borrow(), &profile)?.steps.into_iter().map(|step| {
            let task = node.task(&step, sudo).with_context(|| format!("profile `{profile}`"))?;
            Ok((step, task))
        });
        let steps = steps.collect::<anyhow::Result<_>>()?;
        let stored = given.stored_private_key.filter(|key| !key.trim().is_empty());
        let stored = stored.map(|key| serde_json::from_value(Value::String(key))).transpose();
        let stored = stored.context("the key `ssh_private_key` of the datastore")?;
        let login = Login {
            username: given.username.or(settings.username),
            private_key: given.private_key.or(settings.private_key).or(stored),
            passphrase: given.passphrase,
            password: None,
            port: given.ssh_port.or(settings.port),
            bastion_host: given.bastion_host,
        };
        let known_as = format!("{}.{}.{}", given.name, given.group, given.address.name());
        Ok(Plan { profile, host: given.address.on_port(None), login, known_as, steps })
    }
}

impl Plan {
    /// Step by step, up to the first that fails.
    async fn carry_out(
        &self,
        remote: &Remote,
        call: &Call,
        stop: &Stop,
    ) -> Result<(ExecutionStatus, Value), ProcessError> {
        let visits = remote.begin(call).await?;
        let whom = Whom { host: &self.host, login: &self.login, known_as: Some(&self.known_as) };
        let mut done: Vec<StepEnd> = Vec::new();
        let mut status = ExecutionStatus::Succeeded;
        for (number, (step, task)) in self.steps.iter().enumerate() {
            let label = format!("[{}] ", step.name);
            let visited = visits.visit(number, whom, task, Some(&label), stop).await?;
            let was_stopped = visited.end == VisitEnd::Stopped;
            let end = StepEnd::of(step, visited);
            let is_failed = end.status == StepStatus::Failed;
            done.push(end);
            if is_failed {
                status = if was_stopped { ExecutionStatus::Canceled } else { ExecutionStatus::Failed };
                break;
            }
        }
        visits.end()?;
        Ok((status, self.result(&done)))
    }

    fn result(&self, done: &[StepEnd]) -> Value {
        let changed = done.iter().filter(|step| step.status == StepStatus::Changed).count();
        let mut result = json!({ "profile": self.profile, "steps": done, "changed": changed });
        if let Some(failed) = done.iter().find(|step| step.status == StepStatus::Failed) {
            let last = failed.stderr.trim().lines().last().map(|line| format!(": {line}")).unwrap_or_default();
            let error = failed.error.as_deref().unwrap_or_default();
            let words = format!("step `{}` of profile `{}` failed: {error}{last}", failed.name, self.profile);
            result["error"] = Value::String(words);
        }
        result
    }
}
