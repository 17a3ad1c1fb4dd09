//! `petrel as-user`: becomes another user and then the program that it was told to run. A guard puts it before what it
//! starts when `runners.local.user` is set; the guard itself keeps its privileges, so that it can still end its session.
//!
//! User and groups belong to a thread on Linux, and what a library changes "for the process" it changes for one thread
//! after the other. Here that is no question: this process has one thread, from its `exec` to the next one. The order
//! matters. Groups go first, because a process that has become the user may not set them; the user goes last.
//! Capabilities are taken away explicitly: the kernel drops them for a process that was root, but not for a daemon
//! that has `CAP_SETUID` without being root, whose children would keep it and could become anybody.
//!
//! `no_new_privs` is not set: actions with `sudo: true` are started by `sudo`, as in StackStorm.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Gid, Uid, geteuid, getgid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::user::ActionUser;

/// The running binary, also when its file was replaced by a newer one meanwhile.
const OURSELVES: &str = "/proc/self/exe";
/// Between "no further groups" and their numbers.
const NO_GROUPS: &str = "-";
/// As shells say it: the program is there and cannot be run, or cannot be found.
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Before the names of the program's variables, as long as this process has privileges: `LD_PRELOAD` and its like come
/// from whoever requested the action, and must mean nothing to us.
const SET_ASIDE: &str = "PETREL_AS_USER_";

/// The environment of this process, from the program's.
pub(super) fn set_aside(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    environment.iter().map(|(name, value)| (format!("{SET_ASIDE}{name}"), value.clone())).collect()
}

/// The words that run `argv` as `user` in `cwd`. Nothing in them is secret that was not on the command line already.
pub(super) fn wrap(user: &ActionUser, cwd: &Path, argv: &[String]) -> Vec<String> {
    let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
    let groups = if groups.is_empty() { NO_GROUPS.to_owned() } else { groups.join(",") };
    let cwd = cwd.to_string_lossy().into_owned();
    let own = [OURSELVES.to_owned(), "as-user".to_owned(), user.uid.to_string(), user.gid.to_string(), groups, cwd];
    own.into_iter().chain(argv.iter().cloned()).collect()
}

/// What [`wrap`] wrote.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    cwd: PathBuf,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Words {
    fn read(words: Vec<OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let uid = words.next()?.to_str()?.parse().ok()?;
        let gid = words.next()?.to_str()?.parse().ok()?;
        let groups = match words.next()?.to_str()? {
            NO_GROUPS => Vec::new(),
            list => list.split(',').map(|group| group.parse().ok()).collect::<Option<Vec<_>>>()?,
        };
        let (cwd, program) = (words.next()?.into(), words.next()?);
        Some(Self { uid, gid, groups, cwd, program, arguments: words.collect() })
    }
}

/// The subcommand `petrel as-user`. It comes back only if the program could not be started.
pub fn as_user_main(words: Vec<OsString>, environment: &BTreeMap<String, String>) -> ExitCode {
    let (problem, code) = match Words::read(words) {
        None => ("these are not a guard's words; set runners.local.user instead".to_owned(), NOT_RUNNABLE),
        Some(words) => run(&words, environment),
    };
    // The guard's child has nobody else to tell; what it says is the action's standard error.
    drop(writeln!(io::stderr(), "petrel: {problem}"));
    ExitCode::from(code)
}

fn run(words: &Words, environment: &BTreeMap<String, String>) -> (String, u8) {
    let Words { uid, gid, groups, cwd, program, arguments } = words;
    if let Err(problem) = become_user(*uid, *gid, groups) {
        return (format!("cannot become user {uid} with group {gid} (runners.local.user): {problem}"), NOT_RUNNABLE);
    }
    if let Err(problem) = std::env::set_current_dir(cwd) {
        return (format!("user {uid} cannot enter the working directory {}: {problem}", cwd.display()), NOT_RUNNABLE);
    }
    #[expect(clippy::disallowed_methods, reason = "starts no process: this one becomes the program")]
    let mut command = Command::new(program);
    let own = environment.iter().filter_map(|(name, value)| Some((name.strip_prefix(SET_ASIDE)?, value)));
    let problem = command.args(arguments).env_clear().envs(own).exec();
    let code = if problem.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    (format!("user {uid} cannot start `{}`: {problem}", program.display()), code)
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    clear_ambient_capability_set()?;
    set_thread_res_uid(user, user, user)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    let is_done = (getuid(), geteuid(), getgid()) == (user, user, group);
    let is_final = uid == 0 || set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_err();
    if is_done && is_final { Ok(()) } else { Err(io::Error::other("the system did not let go of the privileges")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_is_read_again() {
        for groups in [vec![], vec![33], vec![33, 999]] {
            let user = ActionUser {
                name: "stanley".to_owned(),
                uid: 991,
                gid: 985,
                groups: groups.clone(),
                home: "/home/stanley".into(),
                scripts: "/scripts".into(),
            };
            let argv = ["/bin/sh", "-c", "true", "-"].map(str::to_owned);
            let wrapped = wrap(&user, Path::new("/srv/a b"), &argv);
            assert_eq!(wrapped[..2], [OURSELVES, "as-user"]);
            let read = Words::read(wrapped.into_iter().skip(2).map(OsString::from).collect());
            let arguments = argv[1..].iter().map(OsString::from).collect();
            let program = OsString::from("/bin/sh");
            assert_eq!(read, Some(Words { uid: 991, gid: 985, groups, cwd: "/srv/a b".into(), program, arguments }));
        }
    }

    #[test]
    fn no_variable_of_the_program_means_anything_before_the_privileges_are_gone() {
        let names = ["LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "MIMALLOC_VERBOSE", "PATH", "PETREL_AS_USER_X"];
        let aside = set_aside(&names.map(|name| (name.to_owned(), "x".to_owned())).into());
        assert_eq!(aside.len(), names.len());
        for name in names {
            assert!(aside.contains_key(&format!("PETREL_AS_USER_{name}")), "{name}");
        }
        assert!(aside.keys().all(|name| name.starts_with("PETREL_AS_USER_")), "{aside:?}");
    }

    #[test]
    fn words_that_no_guard_wrote_are_not_obeyed() {
        for words in [vec![], vec!["1"], vec!["x", "1", "-", "/", "sh"], vec!["1", "1", "1,x", "/", "sh"]] {
            assert_eq!(Words::read(words.into_iter().map(OsString::from).collect()), None);
        }
    }
}
