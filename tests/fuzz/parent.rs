//! Runs the cases of a target in child processes, and names the case that ended or stopped one.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::CHILD;
use crate::targets::Target;

/// One case may take this long in a debug build on a busy machine; what takes longer hangs a daemon.
const LONGEST_CASE: Duration = Duration::from_secs(30);

/// How many cases are run.
#[derive(Debug)]
pub enum Budget {
    /// As many as the target says.
    Default,
    /// As many as fit.
    Seconds(u64),
    /// Only this one.
    One(u64),
}

/// What is run.
#[derive(Debug)]
pub struct Plan {
    /// Where the cases come from.
    pub seed: u64,
    /// How many of them, of each target.
    pub budget: Budget,
}

/// Has every case of this target been survived?
pub fn run_target(target: &Target, plan: &Plan) -> bool {
    let begun = Instant::now();
    let (first, last) = match plan.budget {
        Budget::Default => (0, target.cases),
        Budget::Seconds(_) => (0, u64::MAX),
        Budget::One(case) => (case, case + 1),
    };
    let until = match plan.budget {
        Budget::Seconds(seconds) => Some(begun + Duration::from_secs(seconds)),
        Budget::Default | Budget::One(_) => None,
    };
    let run = Run::start(target.name, plan.seed, first, last);
    let outcome = run.watch(until);
    let took = begun.elapsed().as_secs_f32();
    match outcome {
        Outcome::Survived { cases } => {
            println!("fuzz {}: {cases} cases of seed {} in {took:.1} s ... ok", target.name, plan.seed);
            true
        }
        Outcome::Failed { case, why } => {
            println!("fuzz {}: case {case} of seed {} ... FAILED: {why}", target.name, plan.seed);
            println!(
                "again: PETREL_FUZZ_TARGET={} PETREL_FUZZ_SEED={} PETREL_FUZZ_CASE={case} cargo test --test fuzz",
                target.name, plan.seed
            );
            false
        }
    }
}

enum Outcome {
    Survived { cases: u64 },
    Failed { case: u64, why: String },
}

struct Run {
    child: Child,
    first: u64,
}

impl Run {
    fn start(target: &str, seed: u64, first: u64, last: u64) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.args([CHILD, target, &seed.to_string(), &first.to_string(), &last.to_string()]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, first }
    }

    /// Follows the numbers that the child prints until it ends, hangs, or time is up.
    fn watch(mut self, until: Option<Instant>) -> Outcome {
        let numbers = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let mut errors = self.child.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let (sender, receiver) = sync_channel(1024);
        let reader = thread::spawn(move || numbers.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut case = self.first;
        let ended = loop {
            match receiver.recv_timeout(LONGEST_CASE) {
                Ok(line) => case = line.parse().unwrap(),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => break Some(format!("no end after {} s", LONGEST_CASE.as_secs())),
            }
            if until.is_some_and(|until| Instant::now() > until) {
                break Some(String::new());
            }
        };
        if ended.is_some() {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        drop(receiver);
        drop(reader.join().unwrap());
        let errors = errors.join().unwrap().unwrap();
        match ended {
            Some(why) if !why.is_empty() => Outcome::Failed { case, why },
            Some(_) => Outcome::Survived { cases: case - self.first },
            None if status.success() => Outcome::Survived { cases: case + 1 - self.first },
            None => Outcome::Failed { case, why: describe_end(status, &errors) },
        }
    }
}

fn describe_end(status: ExitStatus, errors: &str) -> String {
    let skipped = errors.lines().count().saturating_sub(12);
    let last_lines: Vec<&str> = errors.lines().skip(skipped).collect();
    format!("{status}\n{}", last_lines.join("\n"))
}
