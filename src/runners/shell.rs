//! The runner `local-shell-cmd`, and what it shares with `local-shell-script`: parameters, `sudo`, result shape.
//!
//! A command may hold secrets, and a command line is read by everybody on the host. So the text reaches the shell in
//! its environment, or in a private file where there is none (`sudo` clears it) or it is too long.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::declared::{as_texts, parameter, read, required, secret, with_default};
use super::process::{Ending, GuardDir, ProcessEnd, ProcessError, ProcessSpec};
use super::{Call, Outcome, RunEnd, Runner, Stop, Workplace};
use crate::model::action::ParameterSpec;
use crate::model::execution::ExecutionStatus;
use crate::model::refs::ExecutionId;

/// Linux takes 128 KiB for one variable; beyond this a text goes into a file.
pub(super) const MAX_VARIABLE_BYTES: usize = 100 << 10;
/// Runs the command without showing it, and without handing it on to the command's own children.
pub(super) const RUN_COMMAND: &str = "eval \"unset PETREL_CMD\n$PETREL_CMD\"";
/// What StackStorm reports as the return code of a process that ran out of time.
pub(super) const TIMED_OUT_RETURN_CODE: i32 = -9;
/// What a shell reports for a program that it cannot start.
const NOT_STARTED_RETURN_CODE: i32 = 127;

/// Runs a command line in a shell on this host, as the user of the daemon or, by `sudo`, as root.
#[derive(Debug)]
pub struct ShellCommand {
    guards: Arc<GuardDir>,
    shell: &'static str,
}

impl ShellCommand {
    /// Processes are started in `guards`.
    pub fn new(guards: Arc<GuardDir>) -> Self {
        Self { guards, shell: shell_of_this_host() }
    }

    /// The parameters of the runner, also without one.
    pub fn takes() -> BTreeMap<String, ParameterSpec> {
        let mut parameters = shell_parameters();
        parameters.extend([required(parameter("cmd", "string", "Command line for the shell."))]);
        parameters
    }
}

#[async_trait]
impl Runner for ShellCommand {
    fn name(&self) -> &'static str {
        "local-shell-cmd"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        Self::takes()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        match read::<CommandParameters>(&call.parameters) {
            Ok(given) => run_shell(&self.guards, &call, given.into_spec(&call, self.shell), &stop).await,
            Err(outcome) => outcome.into(),
        }
    }

    fn workplace(&self) -> Workplace {
        Workplace::Child
    }

    async fn seal_unstarted(&self, execution: ExecutionId, attempt: u64, owner: &str) -> io::Result<bool> {
        self.guards.seal_unstarted(execution, attempt, owner).await
    }

    async fn forget_ended(&self, executions: &[ExecutionId]) -> io::Result<()> {
        self.guards.forget_ended(executions).await
    }
}

#[derive(Deserialize)]
struct CommandParameters {
    cmd: String,
    #[serde(flatten)]
    shell: ShellParameters,
}

impl CommandParameters {
    fn into_spec(self, call: &Call, shell: &str) -> ProcessSpec {
        if self.shell.sudo || self.cmd.len() > MAX_VARIABLE_BYTES {
            return self.shell.into_scripted_spec(call, shell, &self.cmd);
        }
        let argv = [shell, "-c", RUN_COMMAND].map(str::to_owned).into();
        let mut env = as_texts(&self.shell.env);
        env.insert("PETREL_CMD".to_owned(), self.cmd);
        ProcessSpec { argv, env, cwd: self.shell.cwd, ..ProcessSpec::default() }
    }
}

/// What both shell runners take.
#[derive(Deserialize)]
pub(super) struct ShellParameters {
    pub(super) cwd: Option<PathBuf>,
    #[serde(default)]
    pub(super) env: Map<String, Value>,
    #[serde(default)]
    pub(super) sudo: bool,
    sudo_password: Option<String>,
}

impl ShellParameters {
    /// Runs `text` from a private file, by `sudo` if asked for.
    pub(super) fn into_scripted_spec(self, call: &Call, shell: &str, text: &str) -> ProcessSpec {
        let env = as_texts(&self.env);
        if !self.sudo {
            let argv = vec![shell.to_owned()];
            return ProcessSpec { argv, env, cwd: self.cwd, script: Some(text.to_owned()), ..ProcessSpec::default() };
        }
        let exported = GuardDir::identity(call).into_iter().chain(env);
        let exports =
            exported.map(|(name, value)| format!("export {name}={}\n", quote(&value))).collect::<Vec<_>>().concat();
        // A `sudo` that needs no password leaves it on standard input: not for the command.
        let script = format!("exec </dev/null\n{exports}{text}");
        let (how, stdin) = match self.sudo_password {
            Some(password) => (["-S", "-p", ""].as_slice(), Some(password + "\n")),
            None => (["-n"].as_slice(), None),
        };
        let argv = ["sudo"].iter().chain(how).chain(&["-H", "--", shell]).map(|&word| word.to_owned()).collect();
        ProcessSpec { argv, cwd: self.cwd, stdin, script: Some(script), ..ProcessSpec::default() }
    }
}

/// Declares [`ShellParameters`].
pub(super) fn shell_parameters() -> BTreeMap<String, ParameterSpec> {
    BTreeMap::from([
        parameter("cwd", "string", "Working directory."),
        parameter("env", "object", "Environment variables, on top of a clean environment."),
        with_default(
            parameter("kwarg_op", "string", "Put before the names of a script's named arguments."),
            json!("--"),
        ),
        with_default(parameter("sudo", "boolean", "Run as root."), json!(false)),
        secret(parameter("sudo_password", "string", "Given to sudo if it needs one.")),
        with_default(parameter("timeout", "integer", "Ended after this many seconds."), json!(60)),
    ])
}

/// `bash` where there is one: StackStorm's packs are written for it.
pub(super) fn shell_of_this_host() -> &'static str {
    if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }
}

/// One word for the shell, whatever is in it.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs it and gives what came out StackStorm's shape.
pub(super) async fn run_shell(guards: &GuardDir, call: &Call, spec: ProcessSpec, stop: &Stop) -> RunEnd {
    match guards.run(call, spec, stop).await {
        Ok(end) => outcome(end, call).into(),
        Err(ProcessError::NotBegun(why)) => why.into(),
        Err(error) => lost(&error).into(),
    }
}

pub(super) fn lost(error: &ProcessError) -> Outcome {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    let reason = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let result = json!({ "error": reason, "succeeded": false, "failed": true });
    let status = match error {
        ProcessError::Io(_) | ProcessError::NotBegun(_) => ExecutionStatus::Failed,
        ProcessError::GuardLost { .. } | ProcessError::StillAlive(_) => ExecutionStatus::Abandoned,
    };
    Outcome { status, result }
}

fn outcome(end: ProcessEnd, call: &Call) -> Outcome {
    let (status, return_code, error) = match end.ending {
        Ending::Exited(0) => (ExecutionStatus::Succeeded, 0, None),
        Ending::Exited(code) => (ExecutionStatus::Failed, code, None),
        Ending::Signaled(signal) => (ExecutionStatus::Failed, -signal, Some(format!("ended by signal {signal}"))),
        Ending::NotStarted(reason) => (ExecutionStatus::Failed, NOT_STARTED_RETURN_CODE, Some(reason)),
        Ending::TimedOut => {
            let seconds = call.timeout.unwrap_or_default().as_secs_f64();
            let error = format!("Action failed to complete in {seconds} seconds");
            (ExecutionStatus::Timeout, TIMED_OUT_RETURN_CODE, Some(error))
        }
        Ending::Stopped => (ExecutionStatus::Canceled, TIMED_OUT_RETURN_CODE, Some("stopped on request".to_owned())),
    };
    let succeeded = status == ExecutionStatus::Succeeded;
    let mut result = json!({
        "stdout": parsed_if_structured(without_last_newline(end.stdout)),
        "stderr": without_last_newline(end.stderr),
        "return_code": return_code,
        "succeeded": succeeded,
        "failed": !succeeded,
    });
    if let (Some(error), Some(result)) = (error, result.as_object_mut()) {
        result.insert("error".to_owned(), Value::String(error));
    }
    Outcome { status, result }
}

pub(super) fn without_last_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Programs that print JSON are read by the next step without a filter; a number or a word stays the text it was.
pub(super) fn parsed_if_structured(text: String) -> Value {
    if !text.trim_start().starts_with(['{', '[']) {
        return Value::String(text);
    }
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_that_is_an_object_or_a_list_is_parsed() {
        let cases = [
            ("{\"a\": 1}\n", json!({"a": 1})),
            ("[1, 2]", json!([1, 2])),
            ("5\n", json!("5")),
            ("true", json!("true")),
            ("{broken", json!("{broken")),
            ("two\nlines\r\n", json!("two\nlines")),
            ("blank\n\n", json!("blank\n")),
            ("", json!("")),
        ];
        for (text, value) in cases {
            assert_eq!(parsed_if_structured(without_last_newline(text.to_owned())), value, "{text}");
        }
    }

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }
}
