//! Servers that come as packages for Node.js: each in a folder of its own below the folder of the build, with the Node.js
//! that it needs, installed at its first use and kept for later runs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::packages::NPM;

/// A server that comes from the registry of npm, in a version that was tried.
pub(super) struct Module {
    pub(super) name: &'static str,
    /// As `npm` takes them.
    packages: &'static [&'static str],
    /// One word for the folder.
    folder: &'static str,
    /// What Node.js runs, below `node_modules`.
    program: &'static str,
}

/// It is called `emulate` and needs a newer Node.js than Debian has. Without its version, `npm` brings another program.
pub(super) const EMULATE: Module = Module {
    name: "emulate",
    packages: &["node@22.23.3", "emulate@0.12.2"],
    folder: "emulate-0.12.2",
    program: "emulate/dist/index.js",
};

impl Module {
    /// Where it will come from, in words.
    pub(super) fn source(&self) -> String {
        let way = if self.is_complete() { "from" } else { "after `npm install` into" };
        format!("a private one on a free port, {way} {}", self.place().display())
    }

    /// Node.js with the program, both installed if they have to be.
    pub(super) async fn command(&'static self) -> Command {
        if !self.is_complete() {
            tokio::task::spawn_blocking(|| self.install()).await.expect("an installation");
        }
        let modules = self.place().join("node_modules");
        let mut command = Command::new(modules.join("node/bin/node"));
        command.arg(modules.join(self.program));
        command
    }

    fn install(&self) {
        let place = self.place();
        fs::create_dir_all(place.parent().expect("a parent")).expect("the folder of the build");
        let lock = File::create(place.with_extension("lock")).expect("a file to lock");
        lock.lock().expect("whoever installs comes to an end");
        if self.is_complete() {
            return;
        }
        if place.exists() {
            fs::remove_dir_all(&place).expect("what somebody left by halves");
        }
        fs::create_dir_all(&place).expect("the folder of the build");
        let install = |npm: PathBuf| {
            let mut npm = Command::new(npm);
            npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&place);
            npm.args(self.packages).current_dir(&place).output()
        };
        let output = match install("npm".into()) {
            Err(error) if error.kind() == ErrorKind::NotFound => install(NPM.find_or_install().join("npm")),
            ended => ended,
        };
        let said = match &output {
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        let is_there = place.join("node_modules/node/bin/node").exists() && output.is_ok_and(|it| it.status.success());
        assert!(
            is_there,
            "these tests need {} ({}): `npm install` failed: {said}. They need npm (on Debian: `apt-get install npm`) and a \
             registry of packages",
            self.name,
            self.packages.join(", ")
        );
        File::create(place.join("complete")).expect("our own folder");
    }

    fn is_complete(&self) -> bool {
        self.place().join("complete").exists()
    }

    fn place(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("node").join(self.folder)
    }
}
