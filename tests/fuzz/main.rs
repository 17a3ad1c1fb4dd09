//! A seeded fuzzer for what comes from outside: templates, content files, webhook bodies, chat commands, archive names.
//!
//! A stack overflow or an exhausted memory cannot be caught by the process that has it. So each target runs in a child
//! process with limits, which reports the number of each case before it begins; the parent knows from the last number
//! which case ended the child, and repeats how to run that case alone. A case depends on seed, target and number only.
//!
//! ```sh
//! cargo test --test fuzz                                            # a fixed number of cases, about a minute
//! PETREL_FUZZ_SECONDS=3600 PETREL_FUZZ_SEED=7 cargo test --test fuzz   # other cases, for an hour
//! PETREL_FUZZ_TARGET=templates PETREL_FUZZ_CASE=812 cargo test --test fuzz
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test program: it starts its own children, reads its own variables and prints for people"
)]

mod child;
mod content;
mod grammar;
mod mutation;
mod parent;
mod random;
mod targets;

use std::env::var;
use std::process::ExitCode;

use child::run_cases;
use parent::{Budget, Plan, run_target};
use targets::TARGETS;

/// The first argument of a child.
const CHILD: &str = "--run-cases-of";

/// Without another one in the environment: the same cases every time.
const DEFAULT_SEED: u64 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, target, seed, first, last] = arguments.as_slice()
        && flag == CHILD
    {
        run_cases(target, seed.parse().unwrap(), first.parse().unwrap(), last.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let plan = Plan { seed: number("PETREL_FUZZ_SEED").unwrap_or(DEFAULT_SEED), budget: budget() };
    let only = var("PETREL_FUZZ_TARGET").ok();
    let chosen: Vec<_> = TARGETS.iter().filter(|it| only.as_deref().is_none_or(|name| name == it.name)).collect();
    let failed = chosen.iter().filter(|target| !run_target(target, &plan)).count();
    println!("{} passed, {failed} failed", chosen.len() - failed);
    if failed == 0 && !chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn budget() -> Budget {
    match (number("PETREL_FUZZ_CASE"), number("PETREL_FUZZ_SECONDS")) {
        (Some(case), _) => Budget::One(case),
        (None, Some(seconds)) => Budget::Seconds(seconds),
        (None, None) => Budget::Default,
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: write a whole number")))
}
