//! Other machines by SSH: the runners `remote-shell-cmd` and `remote-shell-script`, and the visits they are made of.
//!
//! The machine's own OpenSSH client is driven, as a child like any other: the operator's configuration, agents,
//! certificates and jump hosts keep working, and whoever ends the child's session has ended the connection. What goes on
//! on the other side then is not ours to end, and results say so.

pub mod askpass;
mod hosts;
mod openssh;
mod payload;
mod said;
mod script;
mod visits;

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::declared::{as_texts, parameter, read, required, secret, with_default};
use super::process::{GuardDir, ProcessError};
use super::shell::{TIMED_OUT_RETURN_CODE, lost, parsed_if_structured, without_last_newline};
use super::shortage::NotBegun;
use super::{Call, Outcome, RunEnd, Runner, Stop, Workplace};
use crate::model::action::ParameterSpec;
use crate::model::execution::ExecutionStatus;

pub use self::hosts::{BadHost, BadHosts, BadUsername, Host, Username};
pub use self::openssh::{Login, PrivateKey};
pub use self::payload::{BadVariable, Rights, Task, word};
pub use self::script::{RemoteScript, written};
pub use self::visits::{Remote, VisitEnd, Visited, Visits, Whom};

/// Connections of one call that are open at the same time: each is a process here.
const MOST_AT_ONCE: usize = 20;
/// What StackStorm reports for a connection that failed, as the client does.
const NO_CONNECTION_RETURN_CODE: i32 = 255;
const MAY_GO_ON: &str = "the connection was closed; what was started on the host may still be at work";

/// Runs a command line in a shell on other machines.
#[derive(Debug)]
pub struct RemoteCommand {
    remote: Remote,
}

impl RemoteCommand {
    /// Machines are reached by `remote`.
    pub const fn new(remote: Remote) -> Self {
        Self { remote }
    }

    /// The parameters of the runner, also without one.
    pub fn takes() -> BTreeMap<String, ParameterSpec> {
        let mut parameters = remote_parameters();
        parameters.extend([required(parameter("cmd", "string", "Command line for the shell of each host."))]);
        parameters
    }
}

#[async_trait]
impl Runner for RemoteCommand {
    fn name(&self) -> &'static str {
        "remote-shell-cmd"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        Self::takes()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        #[derive(Deserialize)]
        struct CommandParameters {
            cmd: String,
            #[serde(flatten)]
            remote: RemoteParameters,
        }
        match read::<CommandParameters>(&call.parameters) {
            Ok(CommandParameters { cmd, remote }) => run_on_hosts(&self.remote, &call, remote, cmd, &stop).await,
            Err(outcome) => outcome.into(),
        }
    }

    fn workplace(&self) -> Workplace {
        Workplace::Child
    }
}

/// What both runners take.
#[derive(Deserialize)]
struct RemoteParameters {
    hosts: String,
    #[serde(flatten)]
    login: Login,
    cwd: Option<String>,
    #[serde(default)]
    env: Map<String, Value>,
    #[serde(default)]
    sudo: bool,
    sudo_password: Option<String>,
    #[serde(default = "yes")]
    parallel: bool,
    dir: Option<String>,
    kwarg_op: Option<String>,
}

const fn yes() -> bool {
    true
}

/// Declares [`RemoteParameters`].
fn remote_parameters() -> BTreeMap<String, ParameterSpec> {
    BTreeMap::from([
        required(parameter(
            "hosts",
            "string",
            "Names or addresses with commas between them, each with `:port` or without.",
        )),
        parameter("username", "string", "As whom to log in; else as the SSH client's configuration says."),
        secret(parameter("password", "string", "By which password to log in.")),
        secret(parameter(
            "private_key",
            "string",
            "By which key to log in: its text, or the absolute path of its file.",
        )),
        secret(parameter("passphrase", "string", "What opens the key.")),
        parameter("port", "integer", "Where the hosts listen that do not say it themselves."),
        parameter("bastion_host", "string", "The host through which the others are reached, with the same login."),
        with_default(
            parameter("parallel", "boolean", "All hosts at once, at most 20; else one after another."),
            json!(true),
        ),
        with_default(parameter("cwd", "string", "Working directory on the hosts."), json!("/tmp")),
        with_default(parameter("dir", "string", "Where scripts are put on the hosts while they run."), json!("/tmp")),
        parameter("env", "object", "Environment variables, on top of those of a login."),
        with_default(
            parameter("kwarg_op", "string", "Put before the names of a script's named arguments."),
            json!("--"),
        ),
        with_default(parameter("sudo", "boolean", "Run as root."), json!(false)),
        secret(parameter("sudo_password", "string", "Given to sudo if it needs one.")),
        with_default(parameter("timeout", "integer", "Ended after this many seconds."), json!(60)),
    ])
}

/// Does the same on each of the hosts, and gives the results StackStorm's shape.
async fn run_on_hosts(remote: &Remote, call: &Call, given: RemoteParameters, lines: String, stop: &Stop) -> RunEnd {
    let RemoteParameters { hosts, login, cwd, env, sudo, sudo_password, parallel, dir: _, kwarg_op: _ } = given;
    let hosts = match Host::list(&hosts) {
        Ok(hosts) => hosts,
        Err(problem) => return Outcome::error(problem.to_string()).into(),
    };
    let mut env = as_texts(&env);
    env.extend(GuardDir::identity(call));
    let rights = if sudo { Rights::Root(sudo_password) } else { Rights::Own };
    let task = Task { lines, env, cwd, rights };
    if let Err(problem) = task.check() {
        return Outcome::error(problem.to_string()).into();
    }
    let visits = match remote.begin(call).await {
        Ok(visits) => visits,
        Err(ProcessError::NotBegun(why)) => return why.into(),
        Err(problem) => return lost(&problem).into(),
    };
    let at_once = if parallel { MOST_AT_ONCE } else { 1 };
    let is_one = hosts.len() == 1;
    let (login, task, to_all) = (&login, &task, &visits);
    let done = stream::iter(hosts.into_iter().enumerate()).map(|(number, host)| async move {
        let whom = Whom { host: &host, login, known_as: None };
        let label = format!("[{}] ", host.given());
        let label = (!is_one).then_some(label.as_str());
        (host.given().to_owned(), to_all.visit(number, whom, task, label, stop).await)
    });
    let done: Vec<_> = done.buffer_unordered(at_once).collect().await;
    if let Err(problem) = visits.end() {
        tracing::warn!(execution = %call.execution, %problem, "files of ended connections could not be removed");
    }
    match nowhere_begun(&done) {
        Some(why) => why.into(),
        None => outcome(done, call).into(),
    }
}

/// Why it was begun on none of the hosts, if so: then it may be tried again.
fn nowhere_begun(done: &[(String, Result<Visited, ProcessError>)]) -> Option<NotBegun> {
    let begun = |visited: &Result<Visited, ProcessError>| !matches!(visited, Err(ProcessError::NotBegun(_)));
    match done.first() {
        Some((_, Err(ProcessError::NotBegun(why)))) if !done.iter().any(|(_, visited)| begun(visited)) => {
            Some(why.clone())
        }
        Some(_) | None => None,
    }
}

fn outcome(done: Vec<(String, Result<Visited, ProcessError>)>, call: &Call) -> Outcome {
    let mut statuses = Vec::new();
    let mut results = Map::new();
    for (host, visited) in done {
        let Outcome { status, result } = match visited {
            Ok(visited) => outcome_of_one(visited, call),
            Err(problem) => lost(&problem),
        };
        statuses.push(status);
        results.insert(host, result);
    }
    // The worst of them: what nobody knows, then what somebody wanted, then what took too long.
    let order =
        [ExecutionStatus::Abandoned, ExecutionStatus::Canceled, ExecutionStatus::Timeout, ExecutionStatus::Failed];
    let worst = order.into_iter().find(|status| statuses.contains(status));
    Outcome { status: worst.unwrap_or(ExecutionStatus::Succeeded), result: Value::Object(results) }
}

fn outcome_of_one(visited: Visited, call: &Call) -> Outcome {
    let Visited { end, stdout, stderr } = visited;
    let (status, return_code, error) = match end {
        VisitEnd::Exited(0) => (ExecutionStatus::Succeeded, 0, None),
        VisitEnd::Exited(code) => (ExecutionStatus::Failed, code, None),
        VisitEnd::NoConnection(reason) => (ExecutionStatus::Failed, NO_CONNECTION_RETURN_CODE, Some(reason)),
        VisitEnd::TimedOut => {
            let seconds = call.timeout.unwrap_or_default().as_secs_f64();
            let error = format!("Action failed to complete in {seconds} seconds; {MAY_GO_ON}");
            (ExecutionStatus::Timeout, TIMED_OUT_RETURN_CODE, Some(error))
        }
        VisitEnd::Stopped => {
            (ExecutionStatus::Canceled, TIMED_OUT_RETURN_CODE, Some(format!("stopped on request; {MAY_GO_ON}")))
        }
    };
    let succeeded = status == ExecutionStatus::Succeeded;
    let mut result = json!({
        "stdout": parsed_if_structured(without_last_newline(stdout)),
        "stderr": without_last_newline(stderr),
        "return_code": return_code,
        "succeeded": succeeded,
        "failed": !succeeded,
    });
    if let (Some(error), Some(result)) = (error, result.as_object_mut()) {
        result.insert("error".to_owned(), Value::String(error));
    }
    Outcome { status, result }
}
