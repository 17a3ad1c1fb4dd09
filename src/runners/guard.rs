//! The small process that stands over every child: `petrel guard`, spoken to only by [`super::process`].
//!
//! It gets its order as one JSON line on standard input, so that no command line shows a secret, and from then on
//! listens there: the line `stop`, or end-of-file because the daemon died, ends everything it started, as does the
//! timeout, and as does the child's own end. Its standard output and error are the child's, inherited and not copied,
//! so that output costs nothing and back-pressure reaches the child. Its own word therefore goes elsewhere: into the
//! attempt file, which it holds locked as long as it lives. That also survives both it and the daemon, needs no extra
//! file descriptor, and is where the next attempt looks.
//!
//! The file says first that the attempt is prepared, and that the child may run only immediately before it is let go.
//! Whoever finds "prepared" therefore knows that nothing was started; in the moment between the two words and the child's
//! first instruction it is taken for started, and a command never runs twice on a guess.
//!
//! If the guard itself is killed, its daemon or the next attempt ends the session named in the attempt file. That is
//! why no parent-death signal is needed, which would reach only the direct child and cost a `pre_exec`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::as_user;
use super::attempt_file::{self, AttemptFile, Cause, ChildEnd, Record, Report};
use super::descriptors;
use super::session::Session;
use super::shortage::Shortage;
use super::user::ActionUser;

/// The line that asks a guard to end its child.
pub(super) const STOP_LINE: &str = "stop\n";
/// An order is parameters plus environment; what is larger than this is not one.
const MAX_ORDER_BYTES: u64 = 64 << 20;
/// After the session is empty the child's exit status needs only to be picked up.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a guard is to do. Holds secrets: never printed.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) attempt_file: PathBuf,
    pub(super) attempt: u64,
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: PathBuf,
    pub(super) stdin: Option<String>,
    /// Put into a file that only its owner can read; the file's path becomes the last argument.
    pub(super) script: Option<String>,
    /// Put into another such file, which the arguments name already.
    pub(super) private_file: Option<String>,
    /// As whom it runs, if not as the guard.
    pub(super) user: Option<ActionUser>,
    pub(super) timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// The soft limit of open files that the child gets, if it is another one than the guard's.
    pub(super) open_files: Option<u64>,
}

impl Order {
    /// Where the script lies: beside the attempt file, or where the user that must read it gets to.
    fn script_path(&self) -> PathBuf {
        let beside = attempt_file::script_path(&self.attempt_file);
        match (&self.user, beside.file_name()) {
            (Some(user), Some(name)) => user.scripts.join(name),
            (None, _) | (_, None) => beside,
        }
    }

    /// What is started, with which environment and in which folder: what becomes another user first comes to the
    /// program's environment and folder as that user.
    fn command_line(&self) -> (Vec<String>, BTreeMap<String, String>, &Path) {
        match &self.user {
            Some(user) => (as_user::wrap(user, &self.cwd, &self.argv), as_user::set_aside(&self.env), Path::new("/")),
            None => (self.argv.clone(), self.env.clone(), &self.cwd),
        }
    }
}

/// The subcommand `petrel guard`.
pub fn guard_main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon reads this as its guard's last words; if it is gone, nobody is left to be told.
            drop(writeln!(io::stderr(), "petrel guard: {error}"));
            Shortage::of(&error).map_or(ExitCode::FAILURE, |shortage| ExitCode::from(shortage.exit_code()))
        }
    }
}

fn guard() -> io::Result<()> {
    let (events, happened) = mpsc::sync_channel(4);
    let order = listen(events.clone())?;
    let session = Session::found()?;
    let mut file = AttemptFile::try_take(&order.attempt_file)?
        .ok_or_else(|| io::Error::other("an earlier attempt of this execution is still running"))?;
    if file.read()?.is_some_and(|later| later.attempt > order.attempt) {
        return Err(io::Error::other("a later attempt of this execution has been at work"));
    }
    let mut record = Record { attempt: order.attempt, session, started: false, report: None };
    file.write(&record)?;
    let report = match start(&order, events, &mut file, &mut record) {
        Ok(()) => run(&order, &record.session, &happened)?,
        Err(error) => Report { end: not_started(&error), cause: Cause::Itself, survivors: 0 },
    };
    attempt_file::remove_private_files(&order.attempt_file)?;
    attempt_file::remove_if_there(&order.script_path())?;
    record.report = Some(report);
    file.write(&record)
}

fn not_started(error: &io::Error) -> ChildEnd {
    // The record must fit into its block whatever the reason says.
    const MOST_CHARACTERS: usize = 1000;
    let reason: String = error.to_string().chars().take(MOST_CHARACTERS).collect();
    // A cause that was given words of its own keeps its kind as its source.
    let source = || error.get_ref()?.source()?.downcast_ref::<io::Error>();
    match Shortage::of(error).or_else(|| source().and_then(Shortage::of)) {
        Some(shortage) => ChildEnd::Lacks { shortage, reason },
        None => ChildEnd::NotStarted(reason),
    }
}

/// An error of the system with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct Failed {
    what: String,
    source: io::Error,
}

fn failed(what: String, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Failed { what, source })
}

/// Attends the child to its end, or to another.
fn run(order: &Order, session: &Session, happened: &Receiver<Event>) -> io::Result<Report> {
    match first_event(happened, order.timeout)? {
        Event::Exited(status) => Ok(Report {
            end: child_end(status?),
            cause: Cause::Itself,
            survivors: session.end_after_a_moment(order.grace)?.len(),
        }),
        Event::Stop(cause) => {
            let survivors = session.end(order.grace)?.len();
            let end = reap(happened)?;
            Ok(Report { end, cause, survivors })
        }
    }
}

/// What a guard waits for.
enum Event {
    Exited(io::Result<ExitStatus>),
    Stop(Cause),
}

/// Reads the order, then leaves a thread behind that hears the daemon's wish or its death.
fn listen(events: SyncSender<Event>) -> io::Result<Order> {
    let mut input = io::BufReader::new(io::stdin());
    let mut line = String::new();
    input.by_ref().take(MAX_ORDER_BYTES).read_line(&mut line)?;
    let order = serde_json::from_str(&line)?;
    spawn_thread("daemon", move || {
        let mut line = String::new();
        let cause = match input.read_line(&mut line) {
            Ok(0) | Err(_) => Cause::DaemonGone,
            Ok(_) => Cause::Stopped,
        };
        send(&events, Event::Stop(cause));
    })?;
    Ok(order)
}

/// Prepares everything that can fail, notes that the child may run from now on, and lets it go.
fn start(order: &Order, events: SyncSender<Event>, file: &mut AttemptFile, record: &mut Record) -> io::Result<()> {
    let (argv, env, cwd) = order.command_line();
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("nothing to run"))?;
    check_folder(&order.cwd)?;
    #[expect(clippy::disallowed_methods, reason = "the guard is the one that starts children")]
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(cwd);
    if let Some(script) = &order.script {
        let path = order.script_path();
        write_private(&path, script, order.user.as_ref())?;
        command.arg(path);
    }
    if let Some(text) = &order.private_file {
        write_private(&attempt_file::private_path(&order.attempt_file), text, None)?;
    }
    command.stdin(if order.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    // A group of its own, so that a child that signals its group does not hit the guard.
    command.process_group(0);
    if let Some(soft) = order.open_files {
        descriptors::lower_limit(soft)?;
    }
    let attendants = Attendants::start(order.stdin.clone(), events)?;
    record.started = true;
    file.write(record)?;
    let child = command.spawn().map_err(|error| failed(format!("cannot start `{program}`"), error))?;
    attendants.attend(child);
    Ok(())
}

fn check_folder(folder: &Path) -> io::Result<()> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Err(error) if Shortage::of(&error).is_some() => {
            Err(failed(format!("cannot look at the working directory `{}`", folder.display()), error))
        }
        Ok(_) | Err(_) => Err(io::Error::other(format!("the working directory `{}` does not exist", folder.display()))),
    }
}

/// The file is the reader's own from the moment that it is whole.
fn write_private(path: &Path, text: &str, reader: Option<&ActionUser>) -> io::Result<()> {
    attempt_file::remove_if_there(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    reader.map_or(Ok(()), |user| fchown(&file, Some(user.uid), Some(user.gid)))
}

/// Threads that feed the child and wait for it, and end with it. They exist before it does: once it runs, nothing may be
/// lacking. If it never comes, they end at once.
struct Attendants {
    feeder: SyncSender<ChildStdin>,
    waiter: SyncSender<Child>,
}

impl Attendants {
    fn start(stdin: Option<String>, events: SyncSender<Event>) -> io::Result<Self> {
        let (feeder, pipe) = mpsc::sync_channel::<ChildStdin>(1);
        if let Some(text) = stdin {
            spawn_thread("stdin", move || {
                if let Ok(mut pipe) = pipe.recv() {
                    // A child that does not want its input closes the pipe; that is its right.
                    drop(pipe.write_all(text.as_bytes()));
                }
            })?;
        }
        let (waiter, child) = mpsc::sync_channel::<Child>(1);
        spawn_thread("child", move || {
            if let Ok(mut child) = child.recv() {
                send(&events, Event::Exited(child.wait()));
            }
        })?;
        Ok(Self { feeder, waiter })
    }

    fn attend(self, mut child: Child) {
        if let Some(pipe) = child.stdin.take() {
            drop(self.feeder.send(pipe));
        }
        drop(self.waiter.send(child));
    }
}

fn first_event(happened: &Receiver<Event>, timeout: Option<Duration>) -> io::Result<Event> {
    let event = match timeout {
        None => happened.recv().map_err(RecvTimeoutError::from),
        Some(timeout) => happened.recv_timeout(timeout),
    };
    match event {
        Ok(event) => Ok(event),
        Err(RecvTimeoutError::Timeout) => Ok(Event::Stop(Cause::TimeUp)),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("nobody watches the child any more")),
    }
}

/// Picks up how a child ended that was told to. Anything else that is heard now changes nothing.
fn reap(happened: &Receiver<Event>) -> io::Result<ChildEnd> {
    loop {
        match happened.recv_timeout(REAP_TIMEOUT) {
            Ok(Event::Exited(status)) => return Ok(child_end(status?)),
            Ok(Event::Stop(_)) => {}
            Err(_) => return Ok(ChildEnd::Unknown),
        }
    }
}

fn child_end(status: ExitStatus) -> ChildEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ChildEnd::Exited(code),
        (None, Some(signal)) => ChildEnd::Signaled(signal),
        (None, None) => ChildEnd::Unknown,
    }
}

/// The receiver lives until the guard ends, and then nobody cares any more.
fn send(events: &SyncSender<Event>, event: Event) {
    drop(events.send(event));
}

/// The guard is a process of its own, without the daemon's supervisor; its threads end with it.
fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
