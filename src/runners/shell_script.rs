//! The runner `local-shell-script`: a file of the pack with arguments made from the action's parameters.
//!
//! Arguments can be secret. Shell scripts are therefore read by a shell that has set its own arguments, which nobody
//! sees from outside. Other interpreters get arguments in no other way than the visible one: secret parameters come
//! to such scripts as environment variables `PETREL_PARAM_<NAME>` instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::declared::{as_text, as_texts, parameter, read};
use super::process::{GuardDir, ProcessSpec};
use super::shell::{
    MAX_VARIABLE_BYTES, RUN_COMMAND, ShellParameters, quote, run_shell, shell_of_this_host, shell_parameters,
};
use super::shortage::NotBegun;
use super::{Call, Outcome, RunEnd, Runner, Stop, Workplace};
use crate::model::action::ParameterSpec;
use crate::model::refs::ExecutionId;

/// No interpreter line is longer.
const MAX_SHEBANG_BYTES: u64 = 256;
/// The options of an interpreter line that a running shell can still set.
const SHELL_OPTIONS: &str = "abefhkmnuvxBCEHPT";

/// Runs a script file on this host.
#[derive(Debug)]
pub struct ShellScript {
    guards: Arc<GuardDir>,
}

impl ShellScript {
    /// Processes are started in `guards`.
    pub fn new(guards: Arc<GuardDir>) -> Self {
        Self { guards }
    }

    /// The parameters of the runner, also without one.
    pub fn takes() -> BTreeMap<String, ParameterSpec> {
        let mut parameters = shell_parameters();
        parameters.extend([
            parameter("content_version", "string", "Revision of the pack to take the script from."),
            parameter("debug", "boolean", "Debug output of the runner."),
        ]);
        parameters
    }
}

#[async_trait]
impl Runner for ShellScript {
    fn name(&self) -> &'static str {
        "local-shell-script"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        Self::takes()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        match self.spec(&call) {
            Ok(spec) => run_shell(&self.guards, &call, spec, &stop).await,
            Err(end) => end,
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
struct ScriptParameters {
    kwarg_op: Option<String>,
    #[serde(flatten)]
    shell: ShellParameters,
}

impl ShellScript {
    fn spec(&self, call: &Call) -> Result<ProcessSpec, RunEnd> {
        let mut given = read::<ScriptParameters>(&call.parameters)?;
        let script = &call.action.entry_point;
        let interpreter = Interpreter::of(script).map_err(|error| unreadable(script, &error))?;
        given.shell.cwd = given.shell.cwd.or_else(|| script.parent().map(Path::to_owned));
        let own: BTreeSet<String> = self.parameters().into_keys().collect();
        let arguments = Arguments { call, own: &own, kwarg_op: given.kwarg_op.as_deref().unwrap_or("--") };
        Ok(match interpreter {
            Interpreter::Shell { program, options } => {
                let words: Vec<String> = arguments.all().iter().map(|word| quote(word)).collect();
                let text = format!("set -- {}\n{options}. {}\n", words.join(" "), quote(&script.to_string_lossy()));
                sourced(given.shell, call, &program, text)
            }
            Interpreter::Other => {
                given.shell.env.extend(arguments.secrets_as_variables());
                executed(given.shell, call, script, arguments.visible())
            }
        })
    }
}

/// A script that cannot be read: now, for want of a resource, or ever.
pub(super) fn unreadable(script: &Path, error: &io::Error) -> RunEnd {
    let what = format!("cannot read the script `{}`", script.display());
    match NotBegun::for_want(&what, error) {
        Some(why) => why.into(),
        None => Outcome::error(format!("{what}: {error}")).into(),
    }
}

/// A shell reads the script as if it were its own text; `$0` is the script, as if it had been called.
fn sourced(shell: ShellParameters, call: &Call, program: &str, text: String) -> ProcessSpec {
    if shell.sudo || text.len() > MAX_VARIABLE_BYTES {
        return shell.into_scripted_spec(call, program, &text);
    }
    let name = call.action.entry_point.to_string_lossy().into_owned();
    let mut env = as_texts(&shell.env);
    env.insert("PETREL_CMD".to_owned(), text);
    let argv = vec![program.to_owned(), "-c".to_owned(), RUN_COMMAND.to_owned(), name];
    ProcessSpec { argv, env, cwd: shell.cwd, ..ProcessSpec::default() }
}

fn executed(shell: ShellParameters, call: &Call, script: &Path, arguments: Vec<String>) -> ProcessSpec {
    let argv: Vec<String> = std::iter::once(script.to_string_lossy().into_owned()).chain(arguments).collect();
    if shell.sudo {
        let words: Vec<String> = argv.iter().map(|word| quote(word)).collect();
        return shell.into_scripted_spec(call, shell_of_this_host(), &format!("exec {}\n", words.join(" ")));
    }
    ProcessSpec { argv, env: as_texts(&shell.env), cwd: shell.cwd, ..ProcessSpec::default() }
}

/// Who reads a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// A shell, with a line that sets the options of the interpreter line.
    Shell { program: String, options: String },
    /// Anything else, or a shell with options that cannot be set later: it is executed.
    Other,
}

impl Interpreter {
    pub(super) fn of(script: &Path) -> io::Result<Self> {
        let mut start = Vec::new();
        File::open(script)?.take(MAX_SHEBANG_BYTES).read_to_end(&mut start)?;
        let first_line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
        Ok(Self::of_line(&String::from_utf8_lossy(first_line)))
    }

    fn of_line(line: &str) -> Self {
        let Some(words) = line.strip_prefix("#!") else {
            return Self::Shell { program: shell_of_this_host().to_owned(), options: String::new() };
        };
        let mut words = words.split_whitespace().peekable();
        words.next_if(|word| word.ends_with("/env"));
        let program = words.next().unwrap_or_default();
        let is_shell = matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash"));
        let options: Vec<&str> = words.collect();
        if is_shell && options.iter().all(|option| is_settable(option)) {
            let options = options.iter().map(|option| format!("set {option}\n")).collect::<Vec<_>>().concat();
            return Self::Shell { program: program.to_owned(), options };
        }
        Self::Other
    }
}

fn is_settable(option: &str) -> bool {
    let letters = option.strip_prefix(['-', '+']).unwrap_or_default();
    !letters.is_empty() && letters.chars().all(|letter| SHELL_OPTIONS.contains(letter))
}

/// The action's own parameters as a script's arguments, as StackStorm orders and writes them: first those by name,
/// in alphabetical order, then those by position.
pub(super) struct Arguments<'a> {
    pub(super) call: &'a Call,
    /// The runner's parameters are not the script's.
    pub(super) own: &'a BTreeSet<String>,
    pub(super) kwarg_op: &'a str,
}

impl Arguments<'_> {
    pub(super) fn all(&self) -> Vec<String> {
        self.select(|_| true)
    }

    pub(super) fn visible(&self) -> Vec<String> {
        self.select(|spec| !spec.secret)
    }

    pub(super) fn secrets_as_variables(&self) -> Map<String, Value> {
        let secrets = self.given().filter(|(_, spec, _)| spec.secret);
        let variable = |name: &str| format!("PETREL_PARAM_{}", name.to_ascii_uppercase().replace(['-', '.'], "_"));
        secrets.map(|(name, _, value)| (variable(name), value.clone())).collect()
    }

    fn select(&self, wanted: impl Fn(&ParameterSpec) -> bool) -> Vec<String> {
        let mut named = Vec::new();
        let mut positional = BTreeMap::new();
        for (name, spec, value) in self.given().filter(|(_, spec, _)| wanted(spec)) {
            match spec.position {
                Some(position) => drop(positional.insert((position, name), as_text(value))),
                None => named.extend(named_argument(self.kwarg_op, name, value)),
            }
        }
        named.extend(positional.into_values());
        named
    }

    fn given(&self) -> impl Iterator<Item = (&str, &ParameterSpec, &Value)> {
        let declared = self.call.action.parameters.iter().filter(|(name, _)| !self.own.contains(*name));
        declared.map(|(name, spec)| (name.as_str(), spec, self.call.parameters.get(name).unwrap_or(&Value::Null)))
    }
}

/// StackStorm makes a flag of a true boolean, and nothing of what is false, empty or null.
fn named_argument(kwarg_op: &str, name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(format!("{kwarg_op}{name}")),
        Value::String(text) if text.is_empty() => None,
        Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(format!("{kwarg_op}{name}={}", as_text(value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shell_scripts_are_read_and_others_executed() {
        let shell = |program: &str, options: &str| Interpreter::Shell {
            program: program.to_owned(),
            options: options.to_owned(),
        };
        let cases = [
            ("#!/bin/bash", shell("/bin/bash", "")),
            ("#! /bin/sh -eu", shell("/bin/sh", "set -eu\n")),
            ("#!/usr/bin/env bash", shell("bash", "")),
            ("echo no line at all", shell(shell_of_this_host(), "")),
            ("#!/bin/bash --login", Interpreter::Other),
            ("#!/usr/bin/env python3", Interpreter::Other),
            ("#!/usr/bin/env -S bash -e", Interpreter::Other),
        ];
        for (line, interpreter) in cases {
            assert_eq!(Interpreter::of_line(line), interpreter, "{line}");
        }
    }

    #[test]
    fn named_arguments_are_written_as_stackstorm_writes_them() {
        let cases = [
            (json!("v"), Some("--n=v")),
            (json!(""), None),
            (json!(null), None),
            (json!(true), Some("--n")),
            (json!(false), None),
            (json!([1, "b"]), Some("--n=1,b")),
            (json!({"a": 1}), Some("--n={\"a\":1}")),
        ];
        for (value, argument) in cases {
            assert_eq!(named_argument("--", "n", &value).as_deref(), argument, "{value}");
        }
    }
}
