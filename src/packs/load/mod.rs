//! Loads everything there is into one catalogue, and says what is wrong with it.
//!
//! A file that is no good loses only itself; if an earlier version of it was good, that version goes on working.

mod object;
mod read;
mod assemble;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::model::pack::{Catalogue, Pack};
use crate::packs::check::Checks;
use crate::packs::diagnostic::{Diagnostic, Report, Severity};
use crate::packs::layout::{self, ContentFile, ContentRoots, SITE_PACK};
use crate::packs::metadata::Origin;
use crate::packs::metadata::pack::{bare_pack, read_config, read_config_schema, read_pack};

use object::{Object, read_item};
use read::{Parsed, Reader};

/// The text of an object that was good when it was last loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// The file it came from, as in [`Source::file`].
    pub file: String,
    /// The whole file.
    pub text: String,
}

/// The text of an object that works; to be kept, and given back to the next [`load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file it came from, as shown to people.
    pub file: String,
    /// SHA-256 of the text, in hex.
    pub sha256: String,
    /// The whole file.
    pub text: Arc<str>,
}

/// What came out of loading.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Everything that is loaded; `version` is for the caller to set.
    pub catalogue: Catalogue,
    /// All findings, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// By unique id: the text of every object that is good, or that was good before.
    pub sources: BTreeMap<String, Source>,
}

impl Loaded {
    /// Has an error been found?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads all content, checks it, and falls back to the last good version object by object.
pub fn load(roots: &ContentRoots, last_good: &BTreeMap<String, LastGood>, checks: &Checks<'_>) -> Loaded {
    let mut loading = Loading {
        roots,
        reader: Reader::new(last_good),
        packs: BTreeMap::new(),
        objects: BTreeMap::new(),
        sources: BTreeMap::new(),
    };
    loading.read_site();
    for root in &roots.packs {
        loading.read_packs(root);
    }
    assemble::finish(loading, checks)
}

/// Everything read so far.
struct Loading<'a> {
    roots: &'a ContentRoots,
    reader: Reader<'a>,
    packs: BTreeMap<String, Pack>,
    objects: BTreeMap<String, Object>,
    sources: BTreeMap<String, Source>,
}

impl Loading<'_> {
    fn read_site(&mut self) {
        let roots = self.roots;
        self.packs.insert(SITE_PACK.to_owned(), bare_pack(SITE_PACK, &roots.site));
        self.read_config(SITE_PACK);
        self.read_files(SITE_PACK, &roots.site, layout::site_files(&roots.site));
    }

    fn read_packs(&mut self, root: &Path) {
        match layout::pack_folders(root) {
            Ok(folders) => folders.iter().for_each(|folder| self.read_pack(folder)),
            Err(error) => self.unreadable(root, &error),
        }
    }

    fn read_pack(&mut self, folder: &Path) {
        let label = layout::label(folder, &self.roots.site);
        let Some(file) = layout::find_metadata(folder, "pack") else {
            let report = self.reader.remark(&label);
            report.warning(None, "this folder has no pack.yaml, so it is not a pack and is left out");
            return;
        };
        let file_label = layout::label(&file, &self.roots.site);
        let name = |pack: &Pack| format!("pack:{}", pack.reference);
        let parsed = self.reader.read(&file, &file_label, |node, report| read_pack(node, folder, report), name);
        let pack = match parsed {
            Some(parsed) => {
                self.keep_source(&format!("pack:{}", parsed.value.reference), &parsed);
                parsed.value
            }
            None => match folder_pack(folder) {
                Some(pack) => pack,
                None => return,
            },
        };
        let reference = pack.reference.clone();
        if let Some(earlier) = self.packs.get(&reference) {
            let other = layout::label(&earlier.path, &self.roots.site);
            let report = self.reader.remark(&file_label);
            report.note(None, format!("pack `{reference}` is taken from {other}; this one is left out"));
            return;
        }
        self.packs.insert(reference.clone(), pack);
        self.read_config_schema(&reference, folder);
        self.read_config(&reference);
        self.read_files(&reference, folder, layout::pack_files(folder));
    }

    fn read_config_schema(&mut self, reference: &str, folder: &Path) {
        let Some(file) = layout::find_metadata(folder, "config.schema") else {
            return;
        };
        let label = layout::label(&file, &self.roots.site);
        let uid = format!("config_schema:{reference}");
        let parsed =
            self.reader.read(&file, &label, |node, report| Some(read_config_schema(node, report)), |_| uid.clone());
        if let (Some(parsed), Some(pack)) = (parsed, self.packs.get_mut(reference)) {
            self.sources.insert(uid, parsed.source());
            pack.config_schema = parsed.value;
        }
    }

    fn read_config(&mut self, reference: &str) {
        let folder = self.roots.site.join("configs");
        let Some(file) = layout::find_metadata(&folder, reference) else {
            return;
        };
        let Some(pack) = self.packs.get(reference).cloned() else {
            return;
        };
        let label = layout::label(&file, &self.roots.site);
        let uid = format!("config:{reference}");
        let read = |node: &_, report: &mut Report| Some(read_config(node, &pack, report));
        let parsed = self.reader.read(&file, &label, read, |_| uid.clone());
        if let (Some(parsed), Some(pack)) = (parsed, self.packs.get_mut(reference)) {
            self.sources.insert(uid, parsed.source());
            pack.config = parsed.value;
        }
    }

    fn read_files(&mut self, pack: &str, folder: &Path, files: std::io::Result<Vec<ContentFile>>) {
        match files {
            Ok(files) => files.iter().for_each(|file| self.read_object(pack, file)),
            Err(error) => self.unreadable(folder, &error),
        }
    }

    fn read_object(&mut self, pack: &str, file: &ContentFile) {
        let folder = file.path.parent().unwrap_or(&file.path).to_owned();
        let origin = Origin { pack: pack.to_owned(), folder, metadata_file: file.metadata_file.clone() };
        let label = layout::label(&file.path, &self.roots.site);
        let read = |node: &_, report: &mut Report| read_item(file.kind, node, &origin, report);
        let Some(parsed) = self.reader.read(&file.path, &label, read, object::Item::uid) else {
            return;
        };
        let object = Object { uid: parsed.value.uid(), label, kind: file.kind, origin, parsed };
        if let Some(earlier) = self.objects.get(&object.uid) {
            let span = object.parsed.node.locate(&["name"]);
            let what = format!("`{}` is already defined in {}; this one is left out", object.uid, earlier.label);
            let mut report = Report::new(object.label.clone(), Arc::clone(&object.parsed.text));
            report.error(span, what).help("rename one of them");
            self.reader.diagnostics.extend(report.into_diagnostics());
            return;
        }
        self.objects.insert(object.uid.clone(), object);
    }

    fn keep_source<T>(&mut self, uid: &str, parsed: &Parsed<T>) {
        self.sources.insert(uid.to_owned(), parsed.source());
    }

    fn unreadable(&mut self, folder: &Path, error: &std::io::Error) {
        let label = layout::label(folder, &self.roots.site);
        self.reader.remark(&label).error(None, format!("cannot read the folder: {error}"));
    }
}

/// A pack whose `pack.yaml` is no good still has its actions and rules, under the folder's name.
fn folder_pack(folder: &Path) -> Option<Pack> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    crate::packs::metadata::pack::is_pack_name(&name).then(|| bare_pack(&name, folder))
}

#[cfg(test)]
mod tests;
