//! `petrel validate`: the daemon's own loading and checking, with all findings at once. Needs no daemon.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args::{Format, ValidateOptions};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::Output;
use crate::config::process_environment;
use crate::content::check;
use crate::packs::check::Runners;
use crate::packs::diagnostic::{Diagnostic, Severity};
use crate::packs::layout::{ContentRoots, find_metadata};
use crate::packs::load::Loaded;
use crate::packs::shipped;

/// Checks the content that `options` name and prints what is wrong with it; the code to end with is 1 if something
/// is. `runners` are the daemon's, so that the answer is the daemon's.
pub fn run(options: &ValidateOptions, runners: &Runners) -> ExitCode {
    let output = Output::of_this_process(options.format);
    match validate(options, runners, &output) {
        Ok(ending) => ending.into(),
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let told = output.complain(&failure);
            tracing::debug!(?told, "the failure was printed");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// [`run`] without a process around it.
fn validate(options: &ValidateOptions, runners: &Runners, output: &Output) -> Result<Ending, Failure> {
    let path = options.path.canonicalize();
    let path = path.map_err(|source| Failure::Local { doing: format!("read {}", options.path.display()), source })?;
    let shipped = ShippedPacks::unpack()?;
    let roots = roots_of(&path, options, &shipped);
    let loaded = check(&roots, runners);
    let findings: Vec<&Diagnostic> =
        loaded.diagnostics.iter().filter(|finding| roots.site.join(&finding.file).starts_with(&path)).collect();
    let has_errors = findings.iter().any(|finding| finding.severity == Severity::Error);
    show(&loaded, &findings, output)?;
    Ok(if has_errors { Ending::ThingFailed } else { Ending::Done })
}

/// Whatever is named, its whole site is loaded, because content refers to other content.
fn roots_of(path: &Path, options: &ValidateOptions, shipped: &ShippedPacks) -> ContentRoots {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let pack = folder.ancestors().find(|folder| is_pack(folder));
    let above = pack.and_then(Path::parent).unwrap_or(folder);
    let site = above.ancestors().find(|folder| is_site(folder)).unwrap_or(above).to_owned();
    let mut packs: Vec<PathBuf> = pack.and_then(Path::parent).map(Path::to_owned).into_iter().collect();
    let others = [site.join("packs")].into_iter().chain(options.packs.iter().cloned()).chain([shipped.root.clone()]);
    for root in others {
        let root = root.canonicalize().unwrap_or(root);
        if !packs.contains(&root) {
            packs.push(root);
        }
    }
    ContentRoots { site, packs }
}

/// The shipped packs as files in a private folder that goes when the check is over: checking leaves no trace.
pub(super) struct ShippedPacks {
    folder: PathBuf,
    /// A root of packs.
    pub(super) root: PathBuf,
}

impl ShippedPacks {
    /// More folders than this that somebody left behind are not skipped.
    const MOST_LEFT_BEHIND: u32 = 100;

    pub(super) fn unpack() -> Result<Self, Failure> {
        Self::try_unpack().map_err(|source| Failure::Local {
            doing: "unpack the shipped packs into a temporary folder".to_owned(),
            source,
        })
    }

    fn try_unpack() -> io::Result<Self> {
        let folder = Self::private_folder()?;
        // From here on the folder goes even if it cannot be filled.
        let mut packs = Self { root: folder.clone(), folder };
        packs.root = shipped::unpack(&packs.folder)?;
        Ok(packs)
    }

    /// A folder that was not there before: nobody else can have put anything into it.
    fn private_folder() -> io::Result<PathBuf> {
        let mut number = 0;
        loop {
            let name = format!("petrel-validate-{}-{number}", std::process::id());
            let folder = temporary_files().join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists && number < Self::MOST_LEFT_BEHIND => {
                    number += 1;
                }
                created => return created.map(|()| folder),
            }
        }
    }
}

impl Drop for ShippedPacks {
    fn drop(&mut self) {
        if let Err(problem) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %problem, "a temporary folder is left behind");
        }
    }
}

fn is_pack(folder: &Path) -> bool {
    find_metadata(folder, "pack").is_some()
}

fn is_site(folder: &Path) -> bool {
    !is_pack(folder) && ["packs", "rules", "workflows"].iter().any(|name| folder.join(name).is_dir())
}

/// All findings, and what was loaded.
pub(super) fn show(loaded: &Loaded, findings: &[&Diagnostic], output: &Output) -> Result<(), Failure> {
    let summary = summary(loaded, findings);
    if output.format() == Format::Table {
        for finding in findings {
            output.answer(&Value::Null, || format!("{finding}\n"))?;
        }
        return output.answer(&Value::Null, || summary);
    }
    let all = json!({ "findings": findings, "summary": summary });
    output.answer(&all, String::new)
}

fn summary(loaded: &Loaded, findings: &[&Diagnostic]) -> String {
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let catalogue = &loaded.catalogue;
    let counts = [
        (catalogue.packs.len(), "pack"),
        (catalogue.rules.len(), "rule"),
        (catalogue.actions.len(), "action"),
        (catalogue.trigger_types.len(), "trigger type"),
    ];
    let loaded = counts.map(|(count, noun)| counted(count, noun)).join(", ");
    let found = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")];
    let mark = if count(Severity::Error) == 0 { "✓" } else { "✗" };
    format!("{mark} {}; {loaded}", found.map(|(count, noun)| counted(count, noun)).join(", "))
}

/// `1 rule`, `2 rules`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Where this system keeps files that nobody misses.
fn temporary_files() -> PathBuf {
    process_environment().get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;

    const GOOD: &str = "name: good\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: a}}\naction: {ref: core.noop}\n";

    struct Site(tempfile::TempDir);

    impl Site {
        fn new(files: &[(&str, &str)]) -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            for (path, text) in files {
                let file = site.0.path().join(path);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            site
        }

        fn validate(&self, path: &str, format: Format) -> (Ending, String) {
            let options = ValidateOptions { path: self.0.path().join(path), packs: Vec::new(), format };
            let any = crate::model::action::ParameterSpec::default();
            let cmd = BTreeMap::from([("cmd".to_owned(), any)]);
            let names =
                ["local-shell-cmd", "http-request", "noop", "native", "inquirer", "remote-shell-cmd", "workflow"];
            let runners: Runners = names.iter().map(|name| ((*name).to_owned(), cmd.clone())).collect();
            let shown = Arc::new(Mutex::new(Vec::new()));
            let output = Output::to(format, Arc::<Mutex<Vec<u8>>>::clone(&shown), Arc::new(Mutex::new(Vec::new())));
            let ending = validate(&options, &runners, &output).unwrap();
            let text = String::from_utf8(shown.lock().unwrap().clone()).unwrap();
            (ending, text)
        }
    }

    #[test]
    fn sound_content_says_what_there_is() {
        let site = Site::new(&[("rules/good.yaml", GOOD)]);
        let (ending, text) = site.validate("", Format::Table);
        assert_eq!(ending, Ending::Done, "{text}");
        assert!(text.starts_with("✓ 0 errors, 0 warnings; ") && text.contains(" 3 rules, "), "{text}");
    }

    #[test]
    fn checking_leaves_no_trace() {
        let folder = {
            let packs = ShippedPacks::unpack().unwrap();
            assert!(packs.root.join("core/pack.yaml").is_file());
            packs.folder.clone()
        };
        assert!(!folder.exists());
        let site = Site::new(&[("rules/good.yaml", GOOD)]);
        assert_eq!(site.validate("", Format::Table).0, Ending::Done);
        let left: Vec<_> = std::fs::read_dir(site.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["rules"]);
    }

    #[test]
    fn all_findings_are_shown_with_their_places() {
        let wrong = GOOD.replace("core.noop", "core.nop");
        let site = Site::new(&[("rules/a.yaml", &wrong), ("rules/b.yaml", "name: [")]);
        let (ending, text) = site.validate("", Format::Table);
        assert_eq!(ending, Ending::ThingFailed);
        assert!(text.contains("--> rules/a.yaml:4:15") && text.contains("did you mean `core.noop`?"), "{text}");
        assert!(text.contains("--> rules/b.yaml:"), "{text}");
        assert!(text.contains("✗ 2 errors"), "{text}");
    }

    #[test]
    fn event_data_in_a_shell_command_is_warned_of_at_its_place() {
        let wash = "name: wash\nrunner_type: local-shell-cmd\nenabled: true\nparameters:\n  host: {type: string}\n  \
                    cmd: {type: string, default: \"wash {{ host }}\", immutable: true}\n";
        let rule = |name: &str, call: &str| GOOD.replace("good", name).replace("{ref: core.noop}", call);
        let indirect = rule("indirect", "{ref: mine.wash, parameters: {host: \"{{ trigger.body.host }}\"}}");
        let direct = rule("direct", "{ref: core.local, parameters: {cmd: \"wash {{ trigger.body.host }}\"}}");
        let remote =
            rule("remote", "{ref: core.remote, parameters: {hosts: h, cmd: \"{{ trigger.body.x | lower }}\"}}");
        let quoted = rule("quoted", "{ref: core.local, parameters: {cmd: \"wash {{ trigger.body.host | quote }}\"}}");
        let site = Site::new(&[
            ("packs/mine/pack.yaml", "name: mine\nversion: 1.0.0\ndescription: d\nauthor: a\nemail: a@b.c\n"),
            ("packs/mine/actions/wash.yaml", wash),
            ("rules/direct.yaml", &direct),
            ("rules/indirect.yaml", &indirect),
            ("rules/remote.yaml", &remote),
            ("rules/quoted.yaml", &quoted),
        ]);
        let (ending, text) = site.validate("", Format::Table);
        assert_eq!(ending, Ending::Done, "they are warnings: {text}");
        assert!(text.contains("0 errors, 3 warnings"), "{text}");
        assert!(
            text.contains("--> rules/direct.yaml:4:") && text.contains("{{ trigger.body.host | quote }}"),
            "{text}"
        );
        assert!(text.contains("--> rules/indirect.yaml:4:") && text.contains("`cmd` of `mine.wash`"), "{text}");
        assert!(text.contains("--> rules/remote.yaml:4:") && !text.contains("rules/quoted.yaml"), "{text}");
    }

    #[test]
    fn a_file_or_a_pack_shows_only_its_own_findings() {
        let wrong = GOOD.replace("core.noop", "core.nop").replace("good", "bad");
        let site = Site::new(&[
            ("rules/bad.yaml", &wrong),
            ("rules/good.yaml", GOOD),
            ("packs/mine/pack.yaml", "name: mine\nversion: 1.0.0\ndescription: d\nauthor: a\nemail: a@b.c\n"),
            ("packs/mine/rules/good.yaml", GOOD),
        ]);
        let (ending, text) = site.validate("rules/good.yaml", Format::Table);
        assert_eq!(ending, Ending::Done, "{text}");
        let (ending, text) = site.validate("packs/mine", Format::Table);
        assert_eq!(ending, Ending::Done, "{text}");
        assert!(text.contains("5 rules"), "its site is loaded as well: {text}");
        assert_eq!(site.validate("rules", Format::Table).0, Ending::ThingFailed);
    }

    #[test]
    fn programs_get_the_findings_as_json() {
        let site = Site::new(&[("rules/b.yaml", "name: [")]);
        let (ending, text) = site.validate("", Format::Json);
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ending, Ending::ThingFailed);
        assert_eq!(json["findings"][0]["severity"], "error");
        assert_eq!(json["findings"][0]["file"], "rules/b.yaml");
    }
}
