//! Connections of one call: each is a client under a guard, and what came of it is read from how it ended and what it
//! said.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::askpass;
use super::hosts::Host;
use super::openssh::{Connection, Files, Login};
use super::payload::{COMMAND_ENDED_WITH_255, Task};
use super::said::Said;
use crate::clock::Clock;
use crate::runners::attempt_file::remove_if_there;
use crate::runners::parts::Parts;
use crate::runners::process::{Ending, GuardDir, ProcessEnd, ProcessError, ProcessSpec, RunsAs};
use crate::runners::{Call, OutputChunk, OutputSink, Stop};

/// The client's last words fit in here many times.
const MOST_SAID_BYTES: u64 = 16 << 10;
/// Lines that wait for whoever reads the output; when it is full, the other side waits.
const WAITING_CHUNKS: usize = 16;
/// How the client says that it failed, and not what it ran.
const CONNECTION_FAILED: i32 = 255;

/// How machines are reached from here.
#[derive(Debug, Clone)]
pub struct Remote {
    guards: Arc<GuardDir>,
    known_hosts: PathBuf,
    askpass: PathBuf,
    agent: Option<String>,
    clock: Arc<dyn Clock>,
}

impl Remote {
    /// Clients run in `guards`; hosts are remembered in `folder`, where `program` also gets its second name.
    pub fn new(guards: Arc<GuardDir>, folder: &Path, program: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let askpass = folder.join(askpass::NAME);
        let fresh = folder.join(format!("{}.new", askpass::NAME));
        remove_if_there(&fresh)?;
        std::os::unix::fs::symlink(std::path::absolute(program)?, &fresh)?;
        fs::rename(&fresh, &askpass)?;
        Ok(Self { guards, known_hosts: folder.join("known_hosts"), askpass, agent: None, clock })
    }

    /// The agent that clients may ask for keys, as `SSH_AUTH_SOCK` names it.
    #[must_use]
    pub fn with_agent(mut self, agent: Option<String>) -> Self {
        self.agent = agent;
        self
    }

    /// The same, remembering hosts elsewhere.
    #[must_use]
    pub fn knowing(mut self, known_hosts: Option<PathBuf>) -> Self {
        self.known_hosts = known_hosts.unwrap_or(self.known_hosts);
        self
    }

    /// Ends what an earlier attempt of the call has left, and begins.
    pub async fn begin<'r>(&'r self, call: &'r Call) -> Result<Visits<'r>, ProcessError> {
        let parts = Parts::begin(&self.guards, call).await?;
        let until = call.timeout.map(|limit| self.clock.monotonic() + limit);
        Ok(Visits { remote: self, call, parts, until })
    }
}

/// The connections of one call.
#[derive(Debug)]
pub struct Visits<'r> {
    remote: &'r Remote,
    call: &'r Call,
    parts: Parts<'r>,
    /// When the call's time is up, by the monotonic clock.
    until: Option<Duration>,
}

/// Whom to visit.
#[derive(Clone, Copy)]
pub struct Whom<'w> {
    /// The machine.
    pub host: &'w Host,
    /// How to get in.
    pub login: &'w Login,
    /// The name under which its key is remembered, if it is not the host's own: addresses are used again.
    pub known_as: Option<&'w str>,
}

/// What came of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visited {
    /// How it ended.
    pub end: VisitEnd,
    /// Beginning and end of what the task wrote.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
}

/// How a visit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisitEnd {
    /// The task ended with this code.
    Exited(i32),
    /// The connection did not come about or broke, for this reason.
    NoConnection(String),
    /// Its time was up.
    TimedOut,
    /// It was ended on request.
    Stopped,
}

impl Visits<'_> {
    /// Does a task on a machine. Every visit of a call has a number of its own; `label` stands before each line that is
    /// handed on while it runs.
    pub async fn visit(
        &self,
        number: usize,
        whom: Whom<'_>,
        task: &Task,
        label: Option<&str>,
        stop: &Stop,
    ) -> Result<Visited, ProcessError> {
        let left = self.until.map(|until| until.saturating_sub(self.remote.clock.monotonic()));
        let early = if stop.is_raised() { Some(VisitEnd::Stopped) } else { None };
        let early = early.or_else(|| (left == Some(Duration::ZERO)).then_some(VisitEnd::TimedOut));
        if let Some(end) = early {
            return Ok(Visited { end, stdout: String::new(), stderr: String::new() });
        }
        let files = self.files(number);
        let spec = self.spec(whom, task, &files);
        let call = Call { timeout: left, ..self.call.clone() };
        let ended = match label {
            None => self.parts.run(number, &call, spec, stop).await,
            Some(label) => {
                let (output, lines) = OutputSink::channel(WAITING_CHUNKS);
                let call = Call { output, ..call };
                let run = async move { self.parts.run(number, &call, spec, stop).await };
                tokio::join!(run, hand_on(lines, label, &self.call.output)).0
            }
        };
        let said = Said::new(read_and_remove(&files.said)?);
        Ok(visited(ended?, &said, whom))
    }

    /// Clears away.
    pub fn end(self) -> io::Result<()> {
        self.parts.end()
    }

    fn files(&self, number: usize) -> Files {
        Files {
            known_hosts: self.remote.known_hosts.clone(),
            askpass: self.remote.askpass.clone(),
            said: self.parts.file(number, "said"),
            key: self.parts.private_file(number),
        }
    }

    fn spec(&self, whom: Whom<'_>, task: &Task, files: &Files) -> ProcessSpec {
        let Whom { host, login, known_as } = whom;
        let connection = Connection { host, login, files, known_as };
        let mut env = connection.env();
        env.extend(self.remote.agent.iter().map(|agent| ("SSH_AUTH_SOCK".to_owned(), agent.clone())));
        ProcessSpec {
            argv: connection.argv(&task.command()),
            env,
            stdin: Some(task.stdin()),
            private_file: connection.private_file(),
            runs_as: RunsAs::Daemon,
            ..ProcessSpec::default()
        }
    }
}

fn visited(end: ProcessEnd, said: &Said, whom: Whom<'_>) -> Visited {
    let ProcessEnd { ending, stdout, mut stderr } = end;
    let end = match ending {
        Ending::Exited(CONNECTION_FAILED) => match stderr.strip_suffix(COMMAND_ENDED_WITH_255) {
            Some(own) => {
                stderr.truncate(own.len());
                VisitEnd::Exited(CONNECTION_FAILED)
            }
            None => VisitEnd::NoConnection(said.explain(whom, &stderr)),
        },
        Ending::Exited(code) => VisitEnd::Exited(code),
        Ending::Signaled(signal) => VisitEnd::NoConnection(format!("the ssh client was ended by signal {signal}")),
        Ending::NotStarted(reason) => {
            VisitEnd::NoConnection(format!("{reason}; OpenSSH's client is needed (on Debian: openssh-client)"))
        }
        Ending::TimedOut => VisitEnd::TimedOut,
        Ending::Stopped => VisitEnd::Stopped,
    };
    Visited { end, stdout, stderr }
}

/// Whoever watches several machines at once sees which of them a line is from.
async fn hand_on(mut lines: Receiver<OutputChunk>, label: &str, to: &OutputSink) {
    while let Some(OutputChunk { stream, text }) = lines.recv().await {
        let labelled: Vec<String> = text.split_inclusive('\n').map(|line| format!("{label}{line}")).collect();
        to.write(stream, labelled.concat()).await;
    }
}

fn read_and_remove(file: &Path) -> io::Result<String> {
    let mut said = Vec::new();
    match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?.take(MOST_SAID_BYTES).read_to_end(&mut said)?,
    };
    fs::remove_file(file)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
