//! A Prometheus of our own, which watches itself.

use std::fs;
use std::process::Command;

use super::guarded::Guarded;
use super::packages::PROMETHEUS;
use super::ports::free_port;
use crate::support::eventually;

/// A server that runs.
pub(crate) struct Prometheus {
    guarded: Guarded,
    port: u16,
}

impl Prometheus {
    /// Makes one and waits until it knows of itself.
    pub(crate) async fn start() -> Self {
        super::announce();
        let program = PROMETHEUS.programs().await.join("prometheus");
        let mut guarded = Guarded::new(PROMETHEUS.name, "TERM");
        let (port, folder) = (free_port(), guarded.folder().to_owned());
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: own\n  static_configs: [{{targets: \
             ['127.0.0.1:{port}']}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), configuration).expect("our own folder");
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        guarded.start(command);
        let mut prometheus = Self { guarded, port };
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let question = format!("{}/api/v1/query?query=up", prometheus.url());
        eventually("Prometheus has looked at itself", async || {
            prometheus.guarded.assert_alive();
            let said = client.get(&question).send().await.ok()?.text().await.ok()?;
            said.contains("\"1\"").then_some(())
        })
        .await;
        prometheus
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
