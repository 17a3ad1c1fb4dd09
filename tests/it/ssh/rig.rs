//! What the stories share: this host with its runners, and calls of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use petrel::clock::SystemClock;
use petrel::model::action::{Action, OnLost, ParameterSpec};
use petrel::model::execution::ExecutionStatus;
use petrel::model::pack::{Catalogue, Pack};
use petrel::model::refs::ExecutionId;
use petrel::runners::native::Native;
use petrel::runners::process::GuardDir;
use petrel::runners::remote::{Remote, RemoteCommand, RemoteScript};
use petrel::runners::{Call, Outcome, OutputChunk, OutputSink, RunEnd, Runner, Stop};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::servers::sshd::Sshd;
use crate::support::processes::processes_with;

pub(super) const EXECUTION: ExecutionId = ExecutionId::from_bytes([9; 12]);

/// A host from which others are reached.
pub(super) struct Desk {
    dir: TempDir,
    pub(super) guards: Arc<GuardDir>,
    pub(super) remote: Remote,
}

impl Desk {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_petrel");
        let guards = GuardDir::new(dir.path().join("guards"), program).unwrap();
        let guards = Arc::new(guards.with_grace(Duration::from_millis(200)));
        let clock = Arc::new(SystemClock::new());
        let remote = Remote::new(Arc::clone(&guards), dir.path(), Path::new(program), clock).unwrap();
        Self { dir, guards, remote }
    }

    /// A file in a folder of this story.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What guards have left behind.
    pub(super) fn left_files(&self) -> usize {
        fs::read_dir(self.file("guards")).unwrap().count()
    }

    /// Clients that are at work.
    pub(super) fn clients(&self) -> Vec<String> {
        processes_with(&self.file("guards"))
    }

    /// Runs a command to its end.
    pub(super) async fn command(&self, parameters: Value) -> Outcome {
        finished(RemoteCommand::new(self.remote.clone()).run(call(&parameters), Stop::default()).await)
    }

    /// Runs a command that must fail; what came of the host.
    pub(super) async fn fail(&self, host: &str, parameters: Value) -> Value {
        let outcome = self.command(parameters).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{outcome:?}");
        outcome.result[host].clone()
    }

    /// Runs a script of a pack to its end.
    pub(super) async fn script(&self, script: PathBuf, declared: Value, parameters: Value) -> Outcome {
        let mut call = call(&parameters);
        let action = Arc::make_mut(&mut call.action);
        action.entry_point = script;
        action.parameters = declared.as_object().unwrap().iter().map(|(name, how)| (name.clone(), spec(how))).collect();
        finished(RemoteScript::new(self.remote.clone()).run(call, Stop::default()).await)
    }

    /// Starts a command that announces itself with a line; gives back that line while it runs on.
    pub(super) async fn running(&self, parameters: Value, timeout: Option<Duration>, stop: &Stop) -> Running {
        let (output, mut lines) = OutputSink::channel(100);
        let call = Call { output, timeout, ..call(&parameters) };
        let (runner, stop) = (RemoteCommand::new(self.remote.clone()), stop.clone());
        let task = tokio::spawn(async move { finished(runner.run(call, stop).await) });
        let first = lines.recv().await.unwrap().text;
        Running { task, first, lines }
    }

    /// The actions of the pack `ssh` over this site and configuration.
    pub(super) fn pack(&self, config: Value) -> PackDesk {
        let pack = |name: &str, path: PathBuf, config: Value| {
            let pack = Pack {
                reference: name.to_owned(),
                name: String::new(),
                description: String::new(),
                version: String::new(),
                author: String::new(),
                email: String::new(),
                keywords: Vec::new(),
                dependencies: Vec::new(),
                path,
                config_schema: BTreeMap::new(),
                config: serde_json::from_value(config).unwrap(),
            };
            (name.to_owned(), Arc::new(pack))
        };
        let packs = [pack("ssh", "/packs/ssh".into(), config), pack("default", self.file("site"), json!({}))];
        let catalogue = watch::Sender::new(Arc::new(Catalogue { packs: packs.into(), ..Catalogue::default() }));
        let mut native = Native::default();
        petrel::ssh::actions::add_actions(&mut native, &catalogue.subscribe(), &self.remote);
        PackDesk { native, _catalogue: catalogue }
    }

    /// Writes a file below `profiles/` of the site.
    pub(super) fn profile(&self, name: &str, text: &str) {
        let file = self.file("site/profiles").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

/// The pack `ssh`.
pub(super) struct PackDesk {
    native: Native,
    _catalogue: watch::Sender<Arc<Catalogue>>,
}

impl PackDesk {
    /// Configures the node `web-001` of the group `web`, which is on this host.
    pub(super) async fn configure(&self, parameters: Value) -> Outcome {
        let mut given = json!({ "group": "web", "name": "web-001", "address": "127.0.0.1", "port": 8080 });
        given.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let mut call = call(&given);
        Arc::make_mut(&mut call.action).reference = "ssh.configure_node".parse().unwrap();
        finished(self.native.run(call, Stop::default()).await)
    }
}

/// A command at work.
pub(super) struct Running {
    pub(super) task: JoinHandle<Outcome>,
    pub(super) first: String,
    pub(super) lines: mpsc::Receiver<OutputChunk>,
}

/// The parameters of a command for this server.
pub(super) fn on(sshd: &Sshd, cmd: &str) -> Value {
    json!({ "hosts": sshd.host(), "private_key": sshd.private_key(), "cmd": cmd })
}

/// The same with further parameters.
pub(super) fn with(mut parameters: Value, more: Value) -> Value {
    parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    parameters
}

pub(super) fn call(parameters: &Value) -> Call {
    let action = Action {
        reference: "core.remote".parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "remote-shell-cmd".to_owned(),
        entry_point: PathBuf::new(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: OnLost::Fail,
        permission: None,
        metadata_file: String::new(),
    };
    Call {
        execution: EXECUTION,
        attempt: 1,
        action: Arc::new(action),
        parameters: parameters.as_object().unwrap().clone(),
        user: "admin".to_owned(),
        output: OutputSink::ignored(),
        timeout: None,
    }
}

pub(super) fn finished(end: RunEnd) -> Outcome {
    match end {
        RunEnd::Finished(outcome) => outcome,
        other => panic!("it did not end: {other:?}"),
    }
}

fn spec(how: &Value) -> ParameterSpec {
    let position = how["position"].as_u64().map(|position| u32::try_from(position).unwrap());
    ParameterSpec { position, secret: how["secret"] == true, ..ParameterSpec::default() }
}
