//! Servers that come as Python packages: each in an environment of its own below the folder of the build, installed at its
//! first use and kept for later runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::PYTHON;

/// A server that comes from the index of Python packages, in a version that was tried.
pub(super) struct Wheel {
    pub(super) name: &'static str,
    /// As `pip` takes it.
    requirement: &'static str,
    /// One word for the folder.
    folder: &'static str,
    program: &'static str,
}

pub(super) const MOTO: Wheel =
    Wheel { name: "moto", requirement: "moto[server]==5.2.5", folder: "moto-5.2.5", program: "moto_server" };

pub(super) const MINISTACK: Wheel =
    Wheel { name: "ministack", requirement: "ministack==1.5.33", folder: "ministack-1.5.33", program: "ministack" };

impl Wheel {
    /// Where it will come from, in words.
    pub(super) fn source(&self) -> String {
        let way = if self.is_complete() { "from" } else { "after `pip install` into" };
        format!("a private one on a free port, {way} {}", self.environment().display())
    }

    /// Its program, which is installed if it has to be.
    pub(super) async fn program(&'static self) -> PathBuf {
        if !self.is_complete() {
            tokio::task::spawn_blocking(|| self.install()).await.expect("an environment");
        }
        self.environment().join("bin").join(self.program)
    }

    /// Runs a program in its environment, which has to be there; what it prints.
    pub(super) async fn run_python(&self, program: &str, arguments: &[&str]) -> String {
        let mut python = tokio::process::Command::new(self.environment().join("bin/python"));
        let output = python.arg("-c").arg(program).args(arguments).output().await.expect("an environment");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "Python: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn install(&self) {
        let environment = self.environment();
        fs::create_dir_all(environment.parent().expect("a parent")).expect("the folder of the build");
        let lock = File::create(environment.with_extension("lock")).expect("a file to lock");
        lock.lock().expect("whoever installs comes to an end");
        if self.is_complete() {
            return;
        }
        if environment.exists() {
            fs::remove_dir_all(&environment).expect("what somebody left by halves");
        }
        let make = |python| Command::new(python).args(["-m", "venv", "--clear"]).arg(&environment).output();
        if !make("python3").is_ok_and(|output| output.status.success()) {
            PYTHON.find_or_install();
            self.run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment));
        }
        let mut pip = Command::new(environment.join("bin/pip"));
        self.run(pip.args(["install", "--quiet", "--disable-pip-version-check", self.requirement]));
        File::create(environment.join("complete")).expect("our own folder");
    }

    fn run(&self, command: &mut Command) {
        let output = command.output();
        let said = match &output {
            Ok(output) if output.status.success() => return,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "these tests need {} ({}): {command:?} failed: {said}. They need Python with its module `venv` (on Debian: \
             `apt-get install python3-venv`) and an index of packages",
            self.name, self.requirement
        )
    }

    fn is_complete(&self) -> bool {
        self.environment().join("complete").exists()
    }

    fn environment(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("python").join(self.folder)
    }
}
