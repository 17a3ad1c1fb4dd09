//! Real children under real guards: how they end, and that they do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use petrel::model::action::{Action, OnLost, ParameterSpec};
use petrel::model::execution::ExecutionStatus;
use petrel::model::refs::ExecutionId;
use petrel::runners::process::GuardDir;
use petrel::runners::shell::ShellCommand;
use petrel::runners::shell_script::ShellScript;
use petrel::runners::shortage::Shortage;
use petrel::runners::{Call, Outcome, OutputChunk, OutputSink, RunEnd, Runner, Stop};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

const EXECUTION: ExecutionId = ExecutionId::from_bytes([9; 12]);
const GRACE: Duration = Duration::from_millis(100);

struct Host {
    dir: TempDir,
    guards: Arc<GuardDir>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let guards = GuardDir::new(dir.path().join("guards"), env!("CARGO_BIN_EXE_petrel")).unwrap();
        let guards = guards.with_grace(GRACE).with_environment([("PATH".to_owned(), path)]);
        Self { dir, guards: Arc::new(guards) }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn command(&self, parameters: Value) -> Outcome {
        finished(ShellCommand::new(Arc::clone(&self.guards)).run(call(&parameters), Stop::default()).await)
    }

    async fn script(&self, script: PathBuf, declared: Value, parameters: Value) -> Outcome {
        let mut call = call(&parameters);
        let action = Arc::make_mut(&mut call.action);
        action.entry_point = script;
        action.parameters = declared.as_object().unwrap().iter().map(|(name, how)| (name.clone(), spec(how))).collect();
        finished(ShellScript::new(Arc::clone(&self.guards)).run(call, Stop::default()).await)
    }

    /// What is left when the end is written down.
    async fn left_files(&self) -> usize {
        self.guards.forget_ended(&[EXECUTION]).await.unwrap();
        fs::read_dir(self.dir.path().join("guards")).unwrap().count()
    }
}

fn spec(how: &Value) -> ParameterSpec {
    let position = how["position"].as_u64().map(|position| u32::try_from(position).unwrap());
    ParameterSpec { position, secret: how["secret"] == true, ..ParameterSpec::default() }
}

fn call(parameters: &Value) -> Call {
    let action = Action {
        reference: "core.local".parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "local-shell-cmd".to_owned(),
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

fn finished(end: RunEnd) -> Outcome {
    match end {
        RunEnd::Finished(outcome) => outcome,
        other => panic!("it did not end: {other:?}"),
    }
}

/// Starts a command that announces itself with a line; gives back that line while it runs on.
async fn running(host: &Host, cmd: &str, stop: &Stop) -> (tokio::task::JoinHandle<Outcome>, String, Reader) {
    running_attempt(1, host, cmd, stop).await
}

async fn running_attempt(
    attempt: u64,
    host: &Host,
    cmd: &str,
    stop: &Stop,
) -> (tokio::task::JoinHandle<Outcome>, String, Reader) {
    let (output, mut reader) = OutputSink::channel(100);
    let runner = ShellCommand::new(Arc::clone(&host.guards));
    let call = Call { output, attempt, ..call(&json!({ "cmd": cmd })) };
    let stop = stop.clone();
    #[expect(clippy::disallowed_methods, reason = "the test has no supervisor")]
    let task = tokio::spawn(async move { finished(runner.run(call, stop).await) });
    let line = reader.recv().await.unwrap().text;
    (task, line.trim().to_owned(), reader)
}

type Reader = mpsc::Receiver<OutputChunk>;

/// Not there, or only not yet picked up by its parent.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

fn parent_of(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned()
}

fn kill(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_command_gives_its_output_and_its_return_code() {
    let host = Host::new();
    let cases = [
        ("echo out; echo err >&2", json!("out"), "err", 0),
        ("exit 3", json!(""), "", 3),
        ("echo '{\"a\": [1]}'", json!({"a": [1]}), "", 0),
        ("kill -KILL $$", json!(""), "", -9),
        ("printf 'a\nb'", json!("a\nb"), "", 0),
    ];
    for (cmd, stdout, stderr, code) in cases {
        let outcome = host.command(json!({ "cmd": cmd })).await;
        let status = if code == 0 { ExecutionStatus::Succeeded } else { ExecutionStatus::Failed };
        assert_eq!(outcome.status, status, "{cmd}: {outcome:?}");
        let result = &outcome.result;
        assert_eq!((&result["stdout"], &result["stderr"]), (&stdout, &json!(stderr)), "{cmd}");
        assert_eq!(result["return_code"], code, "{cmd}");
        assert_eq!((&result["succeeded"], &result["failed"]), (&json!(code == 0), &json!(code != 0)), "{cmd}");
    }
    assert_eq!(host.left_files().await, 0);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let host = Host::new();
    let outcome = host.command(json!({"cmd": "true", "cwd": "/does/not/exist"})).await;
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert!(outcome.result["error"].as_str().unwrap().contains("`/does/not/exist` does not exist"), "{outcome:?}");
}

#[tokio::test]
async fn a_child_finds_a_clean_environment_and_its_own_identity() {
    let host = Host::new();
    let outcome = host.command(json!({"cmd": "env; pwd", "cwd": "/usr", "env": {"MINE": "a b", "N": 1}})).await;
    let stdout = outcome.result["stdout"].as_str().unwrap();
    let mut names: Vec<&str> = stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let shells_own = ["OLDPWD", "PWD", "SHLVL", "_"];
    names.retain(|name| !shells_own.contains(name));
    let expected =
        ["LANG", "MINE", "N", "PATH", "PETREL_EXECUTION_ID", "ST2_ACTION_EXECUTION_ID", "ST2_ACTION_PACK_NAME"];
    assert_eq!(names, expected);
    assert!(stdout.contains("MINE=a b\n") && stdout.contains(&format!("PETREL_EXECUTION_ID={EXECUTION}\n")));
    assert!(stdout.ends_with("\n/usr"));
}

#[tokio::test]
async fn a_timeout_ends_grandchildren_that_ignore_the_polite_signal() {
    let host = Host::new();
    let cmd = "set -m; (trap '' TERM; while :; do sleep 1; done) & echo $!; trap '' TERM; while :; do sleep 1; done";
    let call = Call { timeout: Some(Duration::from_millis(400)), ..call(&json!({ "cmd": cmd })) };
    let outcome = finished(ShellCommand::new(Arc::clone(&host.guards)).run(call, Stop::default()).await);
    assert_eq!(outcome.status, ExecutionStatus::Timeout);
    assert_eq!(outcome.result["error"], "Action failed to complete in 0.4 seconds");
    assert_eq!(outcome.result["return_code"], -9);
    assert!(is_dead(outcome.result["stdout"].as_str().unwrap()));
}

#[tokio::test]
async fn a_stop_ends_a_command_politely() {
    let host = Host::new();
    let stop = Stop::default();
    let (task, pid, _reader) = running(&host, "trap 'echo bye; exit 0' TERM; echo $$; sleep 100 & wait", &stop).await;
    stop.raise();
    let outcome = task.await.unwrap();
    assert_eq!(outcome.status, ExecutionStatus::Canceled);
    assert_eq!(outcome.result["stdout"], format!("{pid}\nbye"));
    assert!(is_dead(&pid));
}

#[tokio::test]
async fn whoever_is_left_behind_ends_with_the_action_unless_in_a_session_of_his_own() {
    let host = Host::new();
    let outcome = host
        .command(json!({"cmd": "sleep 100 & echo $!; mkfifo leaves; setsid sh -c 'echo $$ > leaves; exec sleep 100' & cat leaves", "cwd": host.dir.path()}))
        .await;
    assert_eq!(outcome.status, ExecutionStatus::Succeeded, "an inherited pipe does not keep the action open");
    let stdout = outcome.result["stdout"].as_str().unwrap();
    let (stays, leaves) = stdout.split_once('\n').unwrap();
    assert!(is_dead(stays));
    assert!(!is_dead(leaves));
    kill(leaves);
}

#[tokio::test]
async fn a_flood_of_output_is_bounded() {
    let host = Host::new();
    let (output, mut reader) = OutputSink::channel(4);
    let call = Call { output, ..call(&json!({"cmd": "echo first; yes | head -c 20000000; echo last"})) };
    let count = async {
        let mut streamed = 0;
        while let Some(chunk) = reader.recv().await {
            streamed += chunk.text.len();
        }
        streamed
    };
    let runner = ShellCommand::new(Arc::clone(&host.guards));
    let (end, streamed) = tokio::join!(runner.run(call, Stop::default()), count);
    let outcome = finished(end);
    let stdout = outcome.result["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("first\ny\n") && stdout.ends_with("y\nlast"));
    assert!(stdout.contains("bytes left out") && stdout.len() < 1_100_000);
    assert!(streamed < 1_200_000, "{streamed}");
}

#[tokio::test]
async fn a_guard_that_cannot_run_is_an_error_with_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let guards = Arc::new(GuardDir::new(dir.path().join("guards"), dir.path().join("nothing")).unwrap());
    let outcome = finished(ShellCommand::new(guards).run(call(&json!({"cmd": "true"})), Stop::default()).await);
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    let error = outcome.result["error"].as_str().unwrap();
    assert!(error.starts_with("cannot run a child process under guard: No such file"), "{error}");
}

#[tokio::test]
async fn a_guard_ends_everything_when_its_daemon_is_gone() {
    let host = Host::new();
    let (task, pid, mut reader) =
        running(&host, "trap '' TERM; echo $$; while :; do sleep 1; done", &Stop::default()).await;
    task.abort();
    assert_eq!(reader.recv().await, None, "the dropped call closed its pipes");
    host.guards.prove_dead(EXECUTION, 1).await.unwrap();
    assert!(is_dead(&pid));
    assert_eq!(host.left_files().await, 0);
}

#[tokio::test]
async fn what_a_killed_guard_guarded_is_ended_by_the_daemon() {
    let host = Host::new();
    let (task, pid, _reader) =
        running(&host, "trap '' TERM; echo $$; while :; do sleep 1; done", &Stop::default()).await;
    kill(&parent_of(&pid));
    let outcome = task.await.unwrap();
    assert_eq!(outcome.status, ExecutionStatus::Abandoned, "{outcome:?}");
    assert!(is_dead(&pid));
    assert_eq!(host.left_files().await, 0);
}

#[tokio::test]
async fn g03_a_second_attempt_starts_only_after_the_first_ones_processes_are_dead() {
    let host = Host::new();
    let (task, pid, _reader) =
        running(&host, "trap '' TERM; echo $$; while :; do sleep 1; done", &Stop::default()).await;
    let guard = parent_of(&pid);
    // Daemon and guard die together: nobody is left who could end the child but the next attempt.
    stop_process(&guard);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    kill(&guard);
    assert!(!is_dead(&pid));
    assert_eq!(host.guards.left_behind().unwrap(), [EXECUTION]);
    let second = host.command(json!({"cmd": format!("test -d /proc/{pid} && cat /proc/{pid}/stat || true")})).await;
    assert_eq!(second.status, ExecutionStatus::Succeeded, "{second:?}");
    let seen = second.result["stdout"].as_str().unwrap();
    assert!(seen.is_empty() || seen.contains(") Z "), "alive beside the second attempt: {seen}");
    assert!(is_dead(&pid));
}

#[tokio::test]
async fn g03_a_later_attempt_ends_an_earlier_one_of_a_daemon_that_does_not_move_and_never_the_other_way_round() {
    let host = Host::new();
    let (_first, pid, _reader) =
        running(&host, "trap '' TERM; echo $$; while :; do sleep 1; done", &Stop::default()).await;
    // Of the first attempt's daemon nothing is heard: its guard has no reason to end.
    host.guards.prove_dead(EXECUTION, 2).await.unwrap();
    assert!(is_dead(&pid));

    let (second, pid, _reader) = running_attempt(2, &host, "echo $$; sleep 100", &Stop::default()).await;
    let late = host.guards.prove_dead(EXECUTION, 1).await.unwrap_err().to_string();
    assert!(late.contains("a later attempt"), "{late}");
    assert!(!is_dead(&pid));
    second.abort();
}

/// A host whose guards are started by a script that does `before` first.
fn host_with_guards_after(before: &str) -> Host {
    let mut host = Host::new();
    let program =
        host.file("guard.sh", &format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_petrel")));
    let guards = GuardDir::new(host.dir.path().join("guards"), program).unwrap().with_grace(GRACE);
    let path = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    host.guards = Arc::new(guards.with_environment(path));
    host
}

async fn end_of(host: &Host, parameters: Value) -> RunEnd {
    ShellCommand::new(Arc::clone(&host.guards)).run(call(&parameters), Stop::default()).await
}

#[tokio::test]
async fn a_command_runs_or_has_not_begun_however_few_descriptors_there_are() {
    let mut lacked = 0;
    for limit in 3..16 {
        let host = host_with_guards_after(&format!("ulimit -n {limit}"));
        let effect = host.dir.path().join("effect");
        match end_of(&host, json!({"cmd": format!("echo ran >> {}", effect.display())})).await {
            RunEnd::NotBegun(why) => {
                assert!(why.shortage.is_none_or(|shortage| shortage == Shortage::Descriptors), "{limit}: {why:?}");
                assert!(!effect.exists(), "{limit}: {why:?}");
                lacked += usize::from(why.shortage.is_some());
            }
            end => {
                let Outcome { status, result } = finished(end);
                let times = fs::read_to_string(&effect).unwrap_or_default().lines().count();
                // A shell that cannot even open a file says so itself.
                let expected = usize::from(status == ExecutionStatus::Succeeded);
                assert_eq!(times, expected, "{limit}: {result}");
                assert!(result["return_code"].is_i64(), "{limit}: {result}");
            }
        }
    }
    assert!(lacked > 0, "some limit lets the guard begin and not its child");
}

#[tokio::test]
async fn a_command_whose_guard_finds_the_disk_full_has_not_begun() {
    let host = host_with_guards_after("trap '' XFSZ; ulimit -f 0");
    let end = end_of(&host, json!({"cmd": "true"})).await;
    assert!(matches!(&end, RunEnd::NotBegun(why) if why.shortage == Some(Shortage::Disk)), "{end:?}");
}

#[tokio::test]
async fn a_command_whose_guard_is_killed_before_it_has_not_begun() {
    let host = host_with_guards_after("kill -9 $$");
    let end = end_of(&host, json!({"cmd": "true"})).await;
    assert!(matches!(&end, RunEnd::NotBegun(why) if why.shortage.is_none()), "{end:?}");
}

#[tokio::test]
async fn what_is_proven_not_to_have_begun_never_begins() {
    let host = Host::new();
    assert!(!host.guards.seal_unstarted(EXECUTION, 1, "daemon").await.unwrap(), "a life that was never seen here");
    host.guards.begin_life("daemon").unwrap();
    assert!(host.guards.seal_unstarted(EXECUTION, 1, "daemon").await.unwrap());
    // A guard of that attempt that is still on its way finds that it is too late.
    let late = host.command(json!({"cmd": "true"})).await;
    assert_eq!(late.status, ExecutionStatus::Abandoned, "{late:?}");
    let next = Call { attempt: 2, ..call(&json!({"cmd": "echo second"})) };
    let next = finished(ShellCommand::new(Arc::clone(&host.guards)).run(next, Stop::default()).await);
    assert_eq!(next.result["stdout"], "second", "{next:?}");
    assert!(!host.guards.seal_unstarted(EXECUTION, 2, "daemon").await.unwrap(), "it ran, and its end is not written");
}

fn stop_process(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
}

#[tokio::test]
async fn g09_no_command_line_shows_a_secret() {
    let host = Host::new();
    // A builtin that waits, so that only processes of Petrel's making are looked at.
    let cmd = "echo hunter2 $$; read -t 100 line < <(sleep 100)";
    let stop = Stop::default();
    let (task, line, _reader) = running(&host, cmd, &stop).await;
    let pid = line.split(' ').nth(1).unwrap();
    assert!(Path::new(&format!("/proc/{pid}/cmdline")).exists());
    assert_eq!(command_lines_with("hunter2"), Vec::<String>::new());
    stop.raise();
    task.await.unwrap();
}

fn command_lines_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let lines =
        processes.filter_map(|path| fs::read(path).ok()).map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(text)).collect()
}

#[tokio::test]
async fn a_script_gets_named_arguments_then_positional_ones() {
    let host = Host::new();
    let script = host.file(
        "args.sh",
        "#!/bin/bash -e\nfor word in \"$@\"; do echo \"<$word>\"; done; echo $0; pwd; false; echo on\n",
    );
    let declared = json!({"name": {}, "flag": {}, "off": {}, "second": {"position": 1}, "first": {"position": 0}});
    let given = json!({"name": "it's $HOME", "flag": true, "off": false, "second": [1, 2], "first": true, "cwd": null});
    let outcome = host.script(script.clone(), declared, given).await;
    let dir = host.dir.path().canonicalize().unwrap();
    let expected = format!("<--flag>\n<--name=it's $HOME>\n<1>\n<1,2>\n{}\n{}", script.display(), dir.display());
    assert_eq!(outcome.result["stdout"], expected, "{outcome:?}");
    assert_eq!(outcome.result["return_code"], 1, "the interpreter line's -e holds");
}

#[tokio::test]
async fn secret_arguments_of_scripts_are_on_no_command_line() {
    let host = Host::new();
    let declared = json!({"password": {"secret": true, "position": 0}, "user": {"position": 1}});
    let given = json!({"password": "hunter3", "user": "joe"});
    let shown = "tr '\\0' ' ' < /proc/$$/cmdline";
    let shell = host.file("shell.sh", &format!("echo \"$1 $2\"\n{shown}\n"));
    let outcome = host.script(shell, declared.clone(), given.clone()).await;
    let stdout = outcome.result["stdout"].as_str().unwrap();
    let (arguments, command_line) = stdout.split_once('\n').unwrap();
    assert_eq!(arguments, "hunter3 joe");
    assert!(command_line.contains("shell.sh") && !command_line.contains("hunter3"), "{command_line}");

    let other = host.file("other.awk", "#!/usr/bin/env -S sh\necho \"$1 $PETREL_PARAM_PASSWORD\"\n");
    let outcome = host.script(other, declared, given).await;
    assert_eq!(outcome.result["stdout"], "joe hunter3", "{outcome:?}");
}

#[tokio::test]
async fn sudo_gets_its_password_and_the_command_its_environment_unseen() {
    let host = Host::new();
    let sudo = "#!/bin/bash\nwords=\"$*\"\nread -r password\n\
        while [ \"$1\" != -- ]; do shift; done; shift\n\
        echo \"$words|$password\"\nexec env -i PATH=/usr/bin:/bin \"$@\"\n";
    host.file("sudo", sudo);
    let parameters = json!({"cmd": "echo \"$MINE $ST2_ACTION_PACK_NAME\"; cat; ls -l $0", "sudo": true,
        "sudo_password": "hunter4", "env": {"MINE": "it's mine"}});
    let outcome = host.command(parameters).await;
    let stdout = outcome.result["stdout"].as_str().unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    let script = host.dir.path().join(format!("guards/{EXECUTION}.script"));
    assert_eq!(lines[0], format!("-S -p  -H -- /bin/bash {}|hunter4", script.display()));
    assert_eq!(lines[1], "it's mine core");
    assert!(lines[2].starts_with("-rw------- "), "{stdout}");
    assert_eq!(host.left_files().await, 0, "the private script is gone");
}

#[tokio::test]
async fn a_very_long_command_runs() {
    let host = Host::new();
    let cmd = format!(": {}\necho done", "x".repeat(300_000));
    assert_eq!(host.command(json!({ "cmd": cmd })).await.result["stdout"], "done");
}
