//! A site in a temporary folder with an engine in this process: real SQLite, real processes, real time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use petrel::config::Config;
use petrel::daemon::{Engine, Home, World};
use petrel::model::execution::ExecutionStatus;
use petrel::model::refs::ExecutionId;
use petrel::requests::{Requester, Requests, Wanted};
use petrel::store::rows::ExecutionRow;
use serde_json::{Map, Value};

use super::eventually;

/// A folder with content.
pub struct Site {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
}

impl Site {
    /// An empty site.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), settings: Vec::new() }
    }

    /// An empty site whose files cost no disk, where the machine has room for such.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { folder: folder.expect("a temporary folder"), settings: Vec::new() }
    }

    /// Leaves the folder behind, for whoever wants to look into it.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the site.
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// Writes a file below the site, also while an engine runs.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// A workflow of the site: script and metadata without parameters.
    pub fn workflow(self, name: &str, script: &str) -> Self {
        self.workflow_with(name, script, "{}")
    }

    /// A workflow with parameters, as YAML.
    pub fn workflow_with(self, name: &str, script: &str, parameters: &str) -> Self {
        let metadata = format!("name: {name}\nrunner_type: workflow\nparameters: {parameters}\n");
        self.file(&format!("workflows/{name}.yaml"), &metadata).file(&format!("workflows/{name}.rhai"), script)
    }

    /// A key of the configuration.
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The keys of the configuration that were set.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The configuration.
    pub fn config(&self) -> Config {
        let mut environment: std::collections::BTreeMap<String, String> = self
            .settings
            .iter()
            .map(|(key, value)| (format!("PETREL__{}", key.replace('.', "__").to_uppercase()), value.clone()))
            .collect();
        let data_dir = self.path().join("data");
        environment.insert("PETREL__DATA_DIR".to_owned(), data_dir.display().to_string());
        environment.insert("PETREL__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
        std::fs::create_dir_all(&data_dir).expect("the data folder");
        Config::load(None, &environment.into_iter().collect()).expect("a good configuration")
    }

    /// Opens an engine over this site and starts it.
    pub async fn start(&self) -> Running {
        let config = self.config();
        let home = Home { site: self.path().to_owned(), program: PathBuf::from(env!("CARGO_BIN_EXE_petrel")) };
        let engine = Engine::open(&config, &home, World::real()).await.expect("the engine opens");
        engine.start(&config).await.expect("the engine starts");
        Running { engine }
    }
}

/// An engine at work.
pub struct Running {
    pub engine: Engine,
}

impl Running {
    /// Requests an execution.
    pub async fn request(&self, action: &str, parameters: Value) -> ExecutionId {
        let parameters: Map<String, Value> = parameters.as_object().cloned().unwrap_or_default();
        let wanted = Wanted::new(action.parse().expect("a reference"), parameters, Requester::Content);
        let plan = self.engine.dispatcher.plan(wanted).expect("the request fits");
        self.engine.store.executions().execution_request(plan.execution()).await.expect("the request is written");
        let id = plan.execution().id;
        plan.committed();
        id
    }

    /// The execution once it is in one of these states.
    pub async fn until(&self, id: ExecutionId, wanted: impl Fn(&ExecutionRow) -> bool) -> ExecutionRow {
        let executions = self.engine.store.executions();
        let what = format!("execution {id} gets where the story wants it");
        eventually(&what, async || {
            let row = executions.execution_get(id).await.expect("the execution is there");
            wanted(&row).then_some(row)
        })
        .await
    }

    /// The execution when it is over.
    pub async fn end_of(&self, id: ExecutionId) -> ExecutionRow {
        self.until(id, |row| row.status.is_completed()).await
    }

    /// Runs an action to its end.
    pub async fn run(&self, action: &str, parameters: Value) -> ExecutionRow {
        let id = self.request(action, parameters).await;
        self.end_of(id).await
    }

    /// Runs an action to its good end and gives back the result.
    pub async fn succeed(&self, action: &str, parameters: Value) -> Value {
        let row = self.run(action, parameters).await;
        assert_eq!(row.status, ExecutionStatus::Succeeded, "{:?}", row.result);
        row.result.expect("a result")
    }

    /// Stops everything in order.
    pub async fn stop(self) {
        self.engine.dispatcher.stop_all();
        let late = self.engine.world.supervisor.shutdown(Duration::from_secs(10)).await;
        assert!(late.is_empty(), "late: {late:?}");
        self.engine.dispatcher.take_leave();
    }
}
