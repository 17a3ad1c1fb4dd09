//! Content files: those of this repository, changed, loaded and checked as the daemon and `petrel validate` do.

use std::fs;
use std::path::{Path, PathBuf};

use petrel::content::check;
use petrel::packs::check::Runners;
use petrel::packs::layout::ContentRoots;

use crate::mutation::mutate;
use crate::random::Random;

/// A file of the corpus: where it lies in a site, and its text.
pub type CorpusFile = (PathBuf, String);

const RUNNERS: [&str; 5] = ["local-shell-cmd", "local-shell-script", "http-request", "rhai", "workflow"];

/// Rules, workflows and the packs that have something of every kind.
pub fn read_corpus() -> Vec<CorpusFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["rules", "workflows", "packs/core", "packs/newrelic", "packs/prometheus", "packs/chatops"] {
        collect(root, &root.join(folder), &mut files);
    }
    files.sort();
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<CorpusFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            files.push((path.strip_prefix(root).unwrap().to_owned(), text));
        }
    }
}

/// Loads a site of a few files, one of which has been changed.
pub fn check_mutated_site(folder: &Path, corpus: &[CorpusFile], random: &mut Random) {
    let site = folder.join("site");
    let texts: Vec<&str> = corpus.iter().map(|(_, text)| text.as_str()).collect();
    let (path, text) = &corpus[random.below(corpus.len())];
    let mut files = vec![(path.clone(), mutate(text, &texts, random))];
    if let Ok(below) = path.strip_prefix("packs") {
        let pack = Path::new("packs").join(below.components().next().unwrap());
        files.extend(corpus.iter().filter(|(other, _)| *other != *path && other.starts_with(&pack)).cloned());
    }
    for (path, text) in files {
        let path = site.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let runners: Runners = RUNNERS.map(|name| (name.to_owned(), std::collections::BTreeMap::new())).into();
    let loaded = check(&ContentRoots { packs: vec![site.join("packs")], site: site.clone() }, &runners);
    for diagnostic in &loaded.diagnostics {
        // What people are shown must be printable whatever the file holds.
        drop(diagnostic.render());
    }
    fs::remove_dir_all(site).unwrap();
}
