//! One file for each group in a folder that Prometheus watches (`file_sd_configs`). A file is replaced as a whole, so
//! that Prometheus reads the old one or the new one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::model::group::GroupName;
use crate::model::pack::Catalogue;
use crate::model::refs::ExecutionId;

/// More than a group may have.
const MOST_TARGETS: usize = 10_000;
/// The label by which alerts find their group.
const GROUP_LABEL: &str = "asg";

/// The targets of a group, each as `host:port`, and the labels that all of them have. One that Prometheus would not
/// take cannot be made: it would go on with the old file and only its log would say so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Targets {
    addresses: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Targets {
    /// All labels that are given, and that of the group.
    pub(super) fn new(
        group: &GroupName,
        addresses: Vec<String>,
        mut labels: BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        ensure!(addresses.len() <= MOST_TARGETS, "a group has at most {MOST_TARGETS} targets");
        for address in &addresses {
            let plain = !address.is_empty() && address.chars().all(|char| char.is_ascii_graphic() && char != '/');
            ensure!(
                plain,
                "the target `{address}` is not `host:port`; a scheme and a path belong into the scrape config"
            );
        }
        for label in labels.keys() {
            let word = label.chars().all(|char| char.is_ascii_alphanumeric() || char == '_');
            let begins = label.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
            ensure!(word && begins, "the label `{label}` is not made of letters, digits and `_`");
        }
        labels.entry(GROUP_LABEL.to_owned()).or_insert_with(|| group.to_string());
        Ok(Self { addresses, labels })
    }

    fn text(&self) -> String {
        let Self { addresses, labels } = self;
        format!("{:#}\n", json!([{ "targets": addresses, "labels": labels }]))
    }
}

/// The folder of `configs/prometheus.yaml`.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The pack's configuration as it is now.
    pub(super) fn of(catalogue: &Catalogue) -> anyhow::Result<Self> {
        let said = catalogue.packs.get("prometheus").and_then(|pack| pack.config.get("targets_folder"));
        let said = said.and_then(|folder| folder.as_str());
        let folder = said.context("no folder is named: write `targets_folder: /…` in configs/prometheus.yaml")?;
        let folder = PathBuf::from(folder);
        ensure!(folder.is_absolute(), "`targets_folder` in configs/prometheus.yaml must begin with `/`");
        Ok(Self(folder))
    }

    /// Where a group's targets are.
    pub(super) fn file(&self, group: &GroupName) -> PathBuf {
        self.0.join(format!("{group}.json"))
    }

    /// Puts them in the place of those that were there. Whoever writes at the same time has a draft of his own.
    pub(super) async fn write(&self, group: &GroupName, targets: &Targets, by: ExecutionId) -> anyhow::Result<()> {
        let (file, draft) = (self.file(group), self.0.join(format!(".{group}.{by}.draft")));
        fs::create_dir_all(&self.0).await.with_context(|| format!("making the folder {}", self.0.display()))?;
        let written = async {
            let mut out = File::create(&draft).await?;
            out.write_all(targets.text().as_bytes()).await?;
            out.sync_all().await?;
            fs::rename(&draft, &file).await
        };
        written.await.with_context(|| format!("writing {}", file.display()))
    }

    /// Prometheus forgets the group. `false`: there was nothing to forget.
    pub(super) async fn remove(&self, group: &GroupName) -> anyhow::Result<bool> {
        let file = self.file(group);
        match fs::remove_file(&file).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("removing {}", file.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> GroupName {
        "web".parse().unwrap()
    }

    fn targets(addresses: &[&str], labels: &[(&str, &str)]) -> anyhow::Result<Targets> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Targets::new(&web(), addresses.iter().map(|it| (*it).to_owned()).collect(), labels.collect())
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = std::fs::read_dir(&folder.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder(place.path().join("made/when/needed"));
        let by = ExecutionId::from_bytes([7; 12]);
        for addresses in [&["127.0.0.1:8080", "[::1]:8080"][..], &["n1:80"], &[], &[]] {
            folder.write(&web(), &targets(addresses, &[("env", "test")]).unwrap(), by).await.unwrap();
            let text = std::fs::read_to_string(folder.file(&web())).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value, json!([{ "targets": addresses, "labels": { "asg": "web", "env": "test" } }]));
            assert_eq!(names(&folder), ["web.json"]);
        }
        assert!(folder.remove(&web()).await.unwrap());
        assert!(!folder.remove(&web()).await.unwrap(), "again is no error");
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn what_prometheus_would_not_take_is_refused() {
        for (addresses, labels, says) in [
            (&["http://n1:80"][..], &[][..], "belong into the scrape config"),
            (&[""], &[], "is not `host:port`"),
            (&["n1 :80"], &[], "is not `host:port`"),
            (&["n1:80"], &[("a-b", "x")], "the label `a-b`"),
            (&["n1:80"], &[("1a", "x")], "the label `1a`"),
            (&["n1:80"], &[("", "x")], "the label ``"),
        ] {
            let refusal = targets(addresses, labels).unwrap_err().to_string();
            assert!(refusal.contains(says), "{refusal}");
        }
        let own = targets(&["n1:80"], &[("asg", "other")]).unwrap();
        assert_eq!(own.labels["asg"], "other", "what is said counts");
    }

    #[test]
    fn without_a_folder_the_way_out_is_said() {
        let refusal = Folder::of(&Catalogue::default()).unwrap_err().to_string();
        assert!(refusal.contains("targets_folder"), "{refusal}");
    }
}
