//! The process that runs cases: limited as a daemon on a small machine is, and silent but for the numbers.

use std::io::Write as _;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::random::Random;
use crate::targets::TARGETS;

/// What all cases of a process may take together. One evaluation may take a small part of it.
const ADDRESS_SPACE_BYTES: u64 = 2 << 30;

/// The stack of a worker thread of the daemon.
const STACK_BYTES: usize = 2 << 20;

/// Runs the cases `first..last` of a target, printing the number of each before it begins.
pub fn run_cases(target: &str, seed: u64, first: u64, last: u64) {
    let limit = Rlimit { current: Some(ADDRESS_SPACE_BYTES), maximum: Some(ADDRESS_SPACE_BYTES) };
    setrlimit(Resource::As, limit).unwrap();
    let target = TARGETS.iter().find(|it| it.name == target).unwrap();
    let work = move || {
        let mut numbers = std::io::stdout().lock();
        let mut run_case = (target.prepare)();
        for case in first..last {
            writeln!(numbers, "{case}").unwrap();
            run_case(&mut Random::of_case(seed, target.name, case));
        }
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap();
}
