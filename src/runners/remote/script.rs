//! The runner `remote-shell-script`: a file of the pack with the `lib/` beside it, brought to each host in the same
//! connection that runs it, and taken away after.
//!
//! Arguments are handed over as on this host (see [`crate::runners::shell_script`]): secret ones are on no command line.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::visits::Remote;
use super::{RemoteParameters, remote_parameters, run_on_hosts, word};
use crate::model::action::ParameterSpec;
use crate::runners::declared::{as_texts, parameter, read};
use crate::runners::shell::RUN_COMMAND;
use crate::runners::shell_script::{Arguments, Interpreter, unreadable};
use crate::runners::{Call, RunEnd, Runner, Stop, Workplace};

/// A script with its libraries; what is larger is brought to hosts by other means.
const MOST_BYTES: usize = 8 << 20;
/// Ends circles of symbolic links.
const MOST_LEVELS: usize = 8;

/// Runs a script file on other machines.
#[derive(Debug)]
pub struct RemoteScript {
    remote: Remote,
}

impl RemoteScript {
    /// Machines are reached by `remote`.
    pub const fn new(remote: Remote) -> Self {
        Self { remote }
    }

    /// The parameters of the runner, also without one.
    pub fn takes() -> BTreeMap<String, ParameterSpec> {
        let mut parameters = remote_parameters();
        parameters.extend([
            parameter("content_version", "string", "Revision of the pack to take the script from."),
            parameter("debug", "boolean", "Debug output of the runner."),
        ]);
        parameters
    }
}

#[async_trait]
impl Runner for RemoteScript {
    fn name(&self) -> &'static str {
        "remote-shell-script"
    }

    fn parameters(&self) -> BTreeMap<String, ParameterSpec> {
        Self::takes()
    }

    async fn run(&self, call: Call, stop: Stop) -> RunEnd {
        #[derive(Deserialize)]
        struct ScriptParameters {
            #[serde(flatten)]
            remote: RemoteParameters,
        }
        let prepared = read::<ScriptParameters>(&call.parameters).map_err(RunEnd::from).and_then(|given| {
            let lines = lines(&call, &given.remote).map_err(|error| unreadable(script(&call), &error))?;
            Ok((given.remote, lines))
        });
        match prepared {
            Ok((given, lines)) => run_on_hosts(&self.remote, &call, given, lines, &stop).await,
            Err(end) => end,
        }
    }

    fn workplace(&self) -> Workplace {
        Workplace::Child
    }
}

fn script(call: &Call) -> &Path {
    &call.action.entry_point
}

/// Brings the files, runs the script in a shell of its own, and takes the files away.
fn lines(call: &Call, given: &RemoteParameters) -> io::Result<String> {
    let folder = given.dir.as_deref().unwrap_or("/tmp").trim_end_matches('/');
    let mut lines = format!("folder=$(mktemp -d {}) || exit 1\n", word(&format!("{folder}/petrel-XXXXXXXXXX")));
    for file in Brought::all(script(call))? {
        lines.push_str(&file.lines());
    }
    let name = script(call).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    lines.push_str("script=\"$folder\"/");
    lines.push_str(&word(&name));
    lines.push_str("\nchmod 700 \"$script\"\n(\n");
    lines.push_str(&start(call, given)?);
    lines.push_str(")\ncode=$?\nrm -rf -- \"$folder\"\nexit \"$code\"\n");
    Ok(lines)
}

/// Becomes the script.
fn start(call: &Call, given: &RemoteParameters) -> io::Result<String> {
    let own = RemoteScript::takes().into_keys().collect();
    let arguments = Arguments { call, own: &own, kwarg_op: given.kwarg_op.as_deref().unwrap_or("--") };
    let words = |words: Vec<String>| words.iter().map(|argument| word(argument)).collect::<Vec<_>>().join(" ");
    Ok(match Interpreter::of(script(call))? {
        Interpreter::Shell { program, options } => {
            let text = format!("set -- {}\n{options}. \"$0\"\n", words(arguments.all()));
            let program = word(&program);
            format!("export PETREL_CMD={}\nexec {program} -c {} \"$script\"\n", word(&text), word(RUN_COMMAND))
        }
        Interpreter::Other => {
            let secrets = as_texts(&arguments.secrets_as_variables());
            let exports = secrets.iter().map(|(name, value)| format!("export {name}={}\n", word(value)));
            let exports = exports.collect::<Vec<_>>().concat();
            format!("{exports}exec \"$script\" {}\n", words(arguments.visible()))
        }
    })
}

/// A file that is brought along.
struct Brought {
    /// Below the folder on the host.
    path: PathBuf,
    content: Vec<u8>,
}

impl Brought {
    /// The script, and all that lies in `lib/` beside it.
    fn all(script: &Path) -> io::Result<Vec<Self>> {
        let name = script.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        let mut files = vec![Self { path: name.into(), content: fs::read(script)? }];
        if let Some(lib) = script.parent().map(|folder| folder.join("lib")).filter(|lib| lib.is_dir()) {
            Self::below(&lib, Path::new("lib"), MOST_LEVELS, &mut files)?;
        }
        if files.iter().map(|file| file.content.len()).sum::<usize>() > MOST_BYTES {
            return Err(io::Error::other(format!("with its lib/ it is larger than {} MiB", MOST_BYTES >> 20)));
        }
        Ok(files)
    }

    fn below(folder: &Path, path: &Path, levels: usize, files: &mut Vec<Self>) -> io::Result<()> {
        if levels == 0 {
            return Err(io::Error::other(format!("{} lies too deep", folder.display())));
        }
        for entry in fs::read_dir(folder)? {
            let (from, to) = entry.map(|entry| (entry.path(), path.join(entry.file_name())))?;
            if from.is_dir() {
                Self::below(&from, &to, levels - 1, files)?;
            } else {
                files.push(Self { path: to, content: fs::read(&from)? });
            }
        }
        Ok(())
    }

    fn lines(&self) -> String {
        let folder = self.path.parent().map(|folder| word(&folder.to_string_lossy())).unwrap_or_default();
        let path = word(&self.path.to_string_lossy());
        format!("mkdir -p \"$folder\"/{folder} && {} > \"$folder\"/{path} || exit 1\n", written(&self.content))
    }
}

/// A command that writes these bytes to standard output, whatever they are. Nothing of them is on a command line: what
/// writes is part of the shell.
pub fn written(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains('\0') => format!("printf %s {}", word(text)),
        Ok(_) | Err(_) => format!("printf %s {} | base64 -d", word(&BASE64_STANDARD.encode(content))),
    }
}
