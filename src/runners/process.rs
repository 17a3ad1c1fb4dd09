//! Starts child processes, each under a guard (see [`super::guard`]), and nobody else in the daemon does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::attempt_file::{self, AttemptFile, Cause, ChildEnd, FIRST_ATTEMPT, Record, Report};
use super::captured::capture;
use super::descriptors;
use super::guard::{Order, STOP_LINE};
use super::session::boot_id;
use super::shortage::{NotBegun, Shortage};
use super::user::ActionUser;
use super::{Call, OutputStream, Stop};
use crate::model::refs::ExecutionId;

/// Between SIGTERM and SIGKILL: time to remove a temporary file, short enough for a shutdown grace of 10 s.
const GRACE: Duration = Duration::from_secs(3);

/// With this code the system's loader ends a program for which it cannot open or map a library.
const NOT_LOADED: i32 = 127;
/// Files that say in which boot a daemon began to start attempts.
const LIFE: &str = "life";
/// A daemon that was stopped for longer than this has lost more than a lease.
const KEPT: Duration = Duration::from_hours(1);

/// The folder where guards of this host keep their attempt files, and how children are started there.
#[derive(Debug, Clone)]
pub struct GuardDir {
    dir: PathBuf,
    guard_program: PathBuf,
    environment: BTreeMap<String, String>,
    grace: Duration,
    action_user: Option<ActionUser>,
}

/// No process of any earlier attempt of this execution is alive on this host.
#[derive(Debug)]
pub struct Proof(ExecutionId);

impl Proof {
    /// Whose attempts are dead.
    pub fn execution(&self) -> ExecutionId {
        self.0
    }
}

/// Why there is no proof that an attempt is dead.
#[derive(Debug, thiserror::Error)]
pub enum StillAlive {
    /// They hang in the kernel or belong to another user.
    #[error("{count} processes of execution {execution} cannot be ended; see `{}`", file.display())]
    Survivors {
        /// Whose they are.
        execution: ExecutionId,
        /// How many.
        count: usize,
        /// Names their session.
        file: PathBuf,
    },
    /// This attempt is the old one.
    #[error("a later attempt of execution {execution} is at work")]
    Superseded {
        /// Whose attempts they are.
        execution: ExecutionId,
    },
    /// Nobody knows.
    #[error("cannot find out whether processes of execution {execution} are alive")]
    Unknown {
        /// Whose they would be.
        execution: ExecutionId,
        /// Why not.
        source: io::Error,
    },
}

/// What to run. Holds secrets: never printed.
#[derive(Default)]
pub struct ProcessSpec {
    /// Program and arguments; everybody on the host can read them.
    pub argv: Vec<String>,
    /// Over the clean base environment.
    pub env: BTreeMap<String, String>,
    /// By default the base environment's `HOME`, else `/`.
    pub cwd: Option<PathBuf>,
    /// Given on standard input, which is empty otherwise.
    pub stdin: Option<String>,
    /// Put into a private file for as long as the process runs; its path becomes the last argument.
    pub script: Option<String>,
    /// Put into another private file for as long; whoever starts the process knows its path (see [`super::parts`]).
    pub private_file: Option<String>,
    /// As whom it runs.
    pub runs_as: RunsAs,
}

/// As whom a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunsAs {
    /// As `runners.local.user`, if it is set: whatever content and its users decide.
    #[default]
    ActionUser,
    /// As the daemon: a program of ours whose command line we decide, with files that are the daemon's own.
    Daemon,
}

/// What came out of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// How it ended.
    pub ending: Ending,
    /// Beginning and end of what it wrote, invalid UTF-8 replaced.
    pub stdout: String,
    /// As `stdout`.
    pub stderr: String,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signaled(i32),
    /// It did not even start, for this reason.
    NotStarted(String),
    /// It was ended because its time was up.
    TimedOut,
    /// It was ended on request.
    Stopped,
}

/// Why nobody knows how a process ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Pipes, files or the guard's program.
    #[error("cannot run a child process under guard")]
    Io(#[from] io::Error),
    /// The guard itself failed or was killed; what it guarded has been ended.
    #[error("the guard of the child process ended early ({status}): {message}")]
    GuardLost {
        /// How the guard ended.
        status: ExitStatus,
        /// The last words on standard error.
        message: String,
    },
    /// The guard is gone and what it guarded is not.
    #[error("the child process was lost")]
    StillAlive(#[from] StillAlive),
    /// The child was provably never started: it may be tried again.
    #[error("the child process could not be started")]
    NotBegun(#[from] NotBegun),
}

/// What becomes of a record when everything of its attempt is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settle {
    /// It stays until the execution's end is written down: a file that is not there proves that nothing was started.
    Keep,
    /// The folder of parts says as much.
    Remove,
}

impl GuardDir {
    /// Uses `dir`, made if need be; `guard_program` is Petrel's own binary.
    pub fn new(dir: impl Into<PathBuf>, guard_program: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let environment =
            [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Ok(Self {
            dir: std::path::absolute(dir)?,
            guard_program: guard_program.into(),
            environment,
            grace: GRACE,
            action_user: None,
        })
    }

    /// Runs processes as this user, unless their runner needs the daemon's.
    #[must_use]
    pub fn with_action_user(mut self, user: ActionUser) -> Self {
        self.action_user = Some(user);
        self
    }

    /// Adds to what every child finds in its environment, as `HOME`, `USER` or another `PATH`.
    #[must_use]
    pub fn with_environment(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// Lets this much time pass between SIGTERM and SIGKILL.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Ends whatever attempts of `execution` before `attempt` have left alive on this host (G3), also those of another
    /// daemon that was stopped or cut off and lost its lease.
    pub async fn prove_dead(&self, execution: ExecutionId, attempt: u64) -> Result<Proof, StillAlive> {
        let parts = self.folder_of_parts(execution);
        let unknown = |source| StillAlive::Unknown { execution, source };
        for part in attempt_file::attempt_files_in(&parts).map_err(unknown)? {
            self.prove_one_dead(execution, attempt, part, Settle::Remove).await?;
        }
        attempt_file::remove_folder_if_there(&parts).map_err(unknown)?;
        self.prove_one_dead(execution, attempt, self.attempt_file(execution), Settle::Keep).await
    }

    async fn prove_one_dead(
        &self,
        execution: ExecutionId,
        attempt: u64,
        file: PathBuf,
        how: Settle,
    ) -> Result<Proof, StillAlive> {
        let (path, grace) = (file.clone(), self.grace);
        let settled = blocking(move || settle(&path, attempt, grace, how)).await;
        match settled {
            Ok(Settled::Dead) => Ok(Proof(execution)),
            Ok(Settled::Survivors(count)) => Err(StillAlive::Survivors { execution, count, file }),
            Ok(Settled::Superseded) => Err(StillAlive::Superseded { execution }),
            Err(source) => Err(StillAlive::Unknown { execution, source }),
        }
    }

    /// Removes private files whose guard was killed together with its daemon. Who is at work keeps them.
    pub fn clear_private_files(&self) -> io::Result<()> {
        attempt_file::clear_private_files(&self.dir)?;
        self.action_user.as_ref().map_or(Ok(()), |user| attempt_file::clear_scripts(&user.scripts, &self.dir))
    }

    /// Executions whose last attempt was not cleared away: it runs, or its daemon died. After a start it is the latter,
    /// and [`Self::prove_dead`] clears it.
    pub fn left_behind(&self) -> io::Result<Vec<ExecutionId>> {
        let mut executions = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let id = name.to_str().map(|name| name.strip_suffix(".lock").unwrap_or(name));
            executions.extend(id.and_then(|id| id.parse::<ExecutionId>().ok()));
        }
        executions.sort_unstable();
        executions.dedup();
        Ok(executions)
    }

    /// Runs a process for `call` until it, its time limit or `stop` ends it; with it ends its whole session.
    ///
    /// First it is proven that no earlier attempt is alive. Dropping the future ends the process as well.
    pub async fn run(&self, call: &Call, spec: ProcessSpec, stop: &Stop) -> Result<ProcessEnd, ProcessError> {
        let proof = self.prove_dead(call.execution, call.attempt).await.map_err(not_begun_if_lacking)?;
        let file = self.attempt_file(call.execution);
        let order = self.order(file.clone(), call, spec);
        match self.guard(&proof, call, order, stop).await? {
            Guarded { report: Some(report), stdout, stderr, .. } => ended(report, stdout, stderr),
            lost => self.guard_lost(call, file, lost, Settle::Keep).await,
        }
    }

    /// The same where the attempt file is not the execution's only one.
    pub(super) async fn run_at(
        &self,
        file: PathBuf,
        proof: &Proof,
        call: &Call,
        spec: ProcessSpec,
        stop: &Stop,
    ) -> Result<ProcessEnd, ProcessError> {
        let order = self.order(file.clone(), call, spec);
        match self.guard(proof, call, order, stop).await? {
            Guarded { report: Some(report), stdout, stderr, .. } => {
                let survivors = report.survivors;
                blocking(move || clear_away(&file, survivors)).await?;
                ended(report, stdout, stderr)
            }
            lost => self.guard_lost(call, file, lost, Settle::Remove).await,
        }
    }

    /// A guard that ended without a report. If it was killed, or lacked something, before it let the child go, nothing began.
    async fn guard_lost(
        &self,
        call: &Call,
        file: PathBuf,
        lost: Guarded,
        how: Settle,
    ) -> Result<ProcessEnd, ProcessError> {
        let Guarded { status, stderr, .. } = lost;
        let message = stderr.lines().last().unwrap_or_default().to_owned();
        let shortage = status.code().and_then(Shortage::of_exit_code);
        let attempt = call.attempt;
        let path = file.clone();
        // It has been waited for, so it starts nothing any more.
        let began = blocking(move || {
            let Some(mut file) = AttemptFile::try_take(&path)? else { return Ok(true) };
            Ok(file.read()?.is_some_and(|last| last.attempt >= attempt && !last.proves_nothing_began()))
        });
        let began = began.await?;
        let was_killed = status.signal().is_some() || status.code() == Some(NOT_LOADED);
        if !began && (shortage.is_some() || was_killed) {
            let reason = format!("the guard of the child process ended before it started it ({status}): {message}");
            return Err(NotBegun { shortage, reason }.into());
        }
        self.prove_one_dead(call.execution, attempt, file, how).await?;
        Err(ProcessError::GuardLost { status, message })
    }

    /// Runs a guard to its end.
    async fn guard(&self, proof: &Proof, call: &Call, order: Order, stop: &Stop) -> Result<Guarded, ProcessError> {
        let file = order.attempt_file.clone();
        let order = serde_json::to_string(&order).map_err(io::Error::from)? + "\n";
        // Without its order a guard starts nothing.
        let started = Guard::start(&self.guard_program, proof);
        let Guard { mut child, stdin, stdout, stderr } = started.map_err(|error| {
            NotBegun::for_want("cannot start the guard of a child process", &error)
                .map_or_else(|| ProcessError::Io(error), ProcessError::NotBegun)
        })?;
        let ended = CancellationToken::new();
        let (status, stdout, stderr) = tokio::join!(
            async {
                let _whatever_happens = ended.clone().drop_guard();
                attend(&mut child, stdin, order, stop).await
            },
            capture(stdout, OutputStream::Stdout, &call.output, &ended),
            capture(stderr, OutputStream::Stderr, &call.output, &ended),
        );
        let (status, stdout, stderr) = (status?, stdout?, stderr?);
        let report = if status.success() { self.read_report(call.execution, file).await? } else { None };
        Ok(Guarded { status, report, stdout, stderr })
    }

    /// Notes that a daemon begins to start attempts here, in this boot: see [`Self::seal_unstarted`].
    pub fn begin_life(&self, owner: &str) -> io::Result<()> {
        let boot = boot_id()?;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != LIFE) {
                continue;
            }
            // Of what was under way before the host was started again nothing can be proven.
            match fs::read_to_string(&path) {
                Ok(of_life) if of_life == boot => {}
                Ok(_) => attempt_file::remove_if_there(&path)?,
                // Another daemon of this host has just ended that life.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        attempt_file::forget_old(&self.dir, KEPT)?;
        let life = self.life_file(owner);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(life)?;
        file.write_all(boot.as_bytes())
    }

    /// Nothing of that daemon's is in question any more.
    pub fn end_life(&self, owner: &str) -> io::Result<()> {
        attempt_file::remove_if_there(&self.life_file(owner))
    }

    /// Is it certain that this attempt of a daemon that is gone started nothing, and will not? It was to run on this host, in
    /// this boot and over this folder, and its attempt file is absent or says so.
    ///
    /// A file is removed only after the execution's end was written down, so one that is absent was never there.
    pub async fn seal_unstarted(&self, execution: ExecutionId, attempt: u64, owner: &str) -> io::Result<bool> {
        let (life, parts, file) =
            (self.life_file(owner), self.folder_of_parts(execution), self.attempt_file(execution));
        blocking(move || {
            let boot = match fs::read_to_string(&life) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                boot => boot?,
            };
            Ok(boot == boot_id()? && !parts.exists() && attempt_file::seal_unstarted(&file, attempt)?)
        })
        .await
    }

    /// The ends of these executions are written down: what was kept of their attempts can go.
    pub async fn forget_ended(&self, executions: &[ExecutionId]) -> io::Result<()> {
        let files: Vec<PathBuf> = executions.iter().map(|execution| self.attempt_file(*execution)).collect();
        blocking(move || files.iter().try_for_each(|file| attempt_file::forget_ended(file))).await
    }

    fn life_file(&self, owner: &str) -> PathBuf {
        self.dir.join(format!("{owner}.{LIFE}"))
    }

    /// The variables by which a child knows on whose behalf it runs.
    pub(super) fn identity(call: &Call) -> BTreeMap<String, String> {
        let execution = call.execution.to_string();
        BTreeMap::from([
            ("PETREL_EXECUTION_ID".to_owned(), execution.clone()),
            ("ST2_ACTION_EXECUTION_ID".to_owned(), execution),
            ("ST2_ACTION_PACK_NAME".to_owned(), call.action.reference.pack().to_owned()),
        ])
    }

    fn order(&self, attempt_file: PathBuf, call: &Call, spec: ProcessSpec) -> Order {
        let user = match spec.runs_as {
            RunsAs::ActionUser => self.action_user.clone(),
            RunsAs::Daemon => None,
        };
        let mut env = self.environment.clone();
        env.extend(user.iter().flat_map(ActionUser::environment));
        let home = env.get("HOME").map(PathBuf::from).filter(|home| home.is_dir());
        env.extend(Self::identity(call));
        env.extend(spec.env);
        Order {
            attempt_file,
            attempt: call.attempt,
            argv: spec.argv,
            env,
            cwd: spec.cwd.or(home).unwrap_or_else(|| PathBuf::from("/")),
            user,
            stdin: spec.stdin,
            script: spec.script,
            private_file: spec.private_file,
            timeout: call.timeout,
            grace: self.grace,
            open_files: descriptors::limit_of_children(),
        }
    }

    fn attempt_file(&self, execution: ExecutionId) -> PathBuf {
        self.dir.join(format!("{execution}.lock"))
    }

    /// Where the processes of an execution have their files that has several at a time.
    pub(super) fn folder_of_parts(&self, execution: ExecutionId) -> PathBuf {
        self.dir.join(execution.to_string())
    }

    /// Reads what the guard, which has ended, has to say.
    async fn read_report(&self, execution: ExecutionId, path: PathBuf) -> io::Result<Option<Report>> {
        blocking(move || {
            let Some(mut file) = AttemptFile::try_take(&path)? else { return Ok(None) };
            let Some(Record { report: Some(report), .. }) = file.read()? else { return Ok(None) };
            if report.survivors > 0 {
                tracing::warn!(%execution, count = report.survivors, "processes outlived their action and cannot be ended");
            }
            Ok(Some(report))
        })
        .await
    }
}

/// Removes the file of a part unless somebody survived. After a retry it stays for a while: a daemon that was stopped before it
/// started the first attempt is told there that it is too late.
fn clear_away(path: &Path, survivors: usize) -> io::Result<()> {
    if survivors > 0 {
        return Ok(());
    }
    let Some(mut file) = AttemptFile::try_take(path)? else { return Ok(()) };
    if file.read()?.is_none_or(|last| last.attempt == FIRST_ATTEMPT) {
        return file.remove();
    }
    drop(file);
    attempt_file::forget_old(path.parent().unwrap_or(path), KEPT)
}

/// What is known when a guard has ended.
struct Guarded {
    status: ExitStatus,
    report: Option<Report>,
    stdout: String,
    stderr: String,
}

fn ended(report: Report, stdout: String, stderr: String) -> Result<ProcessEnd, ProcessError> {
    if let ChildEnd::Lacks { shortage, reason } = report.end {
        return Err(NotBegun { shortage: Some(shortage), reason }.into());
    }
    Ok(ProcessEnd { ending: ending(report), stdout, stderr })
}

/// Whoever cannot even look has started nothing.
pub(super) fn not_begun_if_lacking(problem: StillAlive) -> ProcessError {
    let want = match &problem {
        StillAlive::Unknown { source, .. } => NotBegun::for_want(&problem, source),
        StillAlive::Survivors { .. } | StillAlive::Superseded { .. } => None,
    };
    want.map_or_else(|| problem.into(), Into::into)
}

/// What was found of an execution's earlier attempts.
enum Settled {
    Dead,
    Survivors(usize),
    Superseded,
}

fn settle(path: &Path, attempt: u64, grace: Duration, how: Settle) -> io::Result<Settled> {
    if !path.exists() {
        return Ok(Settled::Dead);
    }
    let mut file = match AttemptFile::try_take(path)? {
        Some(mut file) => match file.read()? {
            Some(later) if later.attempt > attempt => return Ok(Settled::Superseded),
            Some(_) | None => file,
        },
        None => match AttemptFile::peek(path)? {
            Some(holder) if holder.attempt > attempt => return Ok(Settled::Superseded),
            holder => {
                if let Some(earlier) = holder.filter(|holder| holder.attempt < attempt) {
                    earlier.session.end(grace)?;
                }
                // A guard whose child is gone, or whose daemon is, writes its report and lets go.
                AttemptFile::take(path)?
            }
        },
    };
    match (file.settle()?, how) {
        (Err(survivors), _) => return Ok(Settled::Survivors(survivors)),
        (Ok(()), Settle::Remove) => file.remove()?,
        (Ok(()), Settle::Keep) => {
            // A guard of an earlier attempt that is still on its way is told that it is too late.
            if file.read()?.is_none_or(|last| last.attempt < attempt) {
                file.write(&Record::announced(attempt))?;
            }
        }
    }
    Ok(Settled::Dead)
}

fn ending(report: Report) -> Ending {
    match (report.cause, report.end) {
        (_, ChildEnd::NotStarted(reason) | ChildEnd::Lacks { reason, .. }) => Ending::NotStarted(reason),
        (Cause::TimeUp, _) => Ending::TimedOut,
        (Cause::Stopped | Cause::DaemonGone, _) | (Cause::Itself, ChildEnd::Unknown) => Ending::Stopped,
        (Cause::Itself, ChildEnd::Exited(code)) => Ending::Exited(code),
        (Cause::Itself, ChildEnd::Signaled(signal)) => Ending::Signaled(signal),
    }
}

/// A running guard, seen from the daemon.
struct Guard {
    child: Child,
    /// As long as this is open, the guard knows that we live.
    stdin: ChildStdin,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Guard {
    fn start(program: &Path, _earlier_attempts_are_dead: &Proof) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this file is the one that starts processes")]
        let mut command = Command::new(program);
        command.arg("guard").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || io::Error::other("a pipe to the guard is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?.into_owned_fd()?;
        let stderr = child.stderr.take().ok_or_else(missing)?.into_owned_fd()?;
        Ok(Self { child, stdin, stdout, stderr })
    }
}

/// Gives the order, passes a stop on, and waits for the end.
async fn attend(child: &mut Child, mut stdin: ChildStdin, order: String, stop: &Stop) -> io::Result<ExitStatus> {
    tell(&mut stdin, &order).await?;
    tokio::select! {
        status = child.wait() => return status,
        () = stop.raised() => {}
    }
    tell(&mut stdin, STOP_LINE).await?;
    child.wait().await
}

/// A guard that does not listen any more has ended, and why is seen when it is waited for.
async fn tell(stdin: &mut ChildStdin, line: &str) -> io::Result<()> {
    match stdin.write_all(line.as_bytes()).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// File locks and the process table are read by blocking calls.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    #[expect(clippy::disallowed_methods, reason = "awaited at once: it cannot outlive its caller unseen")]
    let task = tokio::task::spawn_blocking(work);
    task.await?
}
