//! Publishing content for all daemons: collected and checked here, checked again there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::args::content::PublishArguments;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::{Column, Output};
use crate::cli::validate::{ShippedPacks, counted, show};
use crate::content::check;
use crate::model::pack::Catalogue;
use crate::model::time::Timestamp;
use crate::packs::check::Runners;
use crate::packs::diagnostic::{Diagnostic, Severity};
use crate::packs::layout::{ContentRoots, SITE_PACK};
use crate::packs::publication::Publication;
use crate::packs::publication::collect::{PackFolder, collect};
use crate::packs::publication::wire::WirePublication;

pub(super) async fn publish(session: &Session, arguments: &PublishArguments) -> Outcome {
    if let Some(version) = arguments.version {
        let answer = session.api.post(&["catalogues", &version.to_string(), "publish"], &json!({})).await?;
        return session.say(&answer, sentence(&answer));
    }
    let Some(publication) = checked(arguments, &(session.runners)(), &session.output)? else {
        session.output.remark("nothing was published")?;
        return Ok(Ending::ThingFailed);
    };
    let answer = session.api.post(&["catalogues"], &json!(WirePublication::from(&publication))).await?;
    session.say(&answer, sentence(&answer))
}

pub(super) async fn unpublish(session: &Session) -> Outcome {
    let answer = session.api.post(&["catalogues", "unpublish"], &json!({})).await?;
    let sentence = if answer["changed"] == true { "all daemons go back to" } else { "all daemons already load" };
    session.say(&answer, format!("{sentence} their own files; see `petrel cluster status`"))
}

pub(super) async fn list(session: &Session) -> Outcome {
    const COLUMNS: [Column; 5] = [
        Column::with("version", |row, _| format!("v{}", row["version"])),
        Column::with("", |row, _| if row["current"] == true { "current".to_owned() } else { String::new() }),
        Column::with("digest", digest),
        Column::text("by", "/published_by"),
        Column::moment("when", "/published_at"),
    ];
    session.show_list(&["catalogues"], &[], &COLUMNS).await
}

fn digest(row: &Value, _now: Timestamp) -> String {
    match text(row, "/digest") {
        "" => "(own files)".to_owned(),
        digest => digest.chars().take(12).collect(),
    }
}

fn sentence(answer: &Value) -> String {
    let (version, digest) = (&answer["version"], digest(answer, Timestamp::default()));
    if answer["changed"] != true {
        return format!("v{version} holds already, with the same content ({digest}); nothing was changed");
    }
    let by_noun = ["file", "pack", "rule", "action"].map(|noun| {
        let count = answer["counts"][format!("{noun}s")].as_u64().unwrap_or_default();
        counted(usize::try_from(count).unwrap_or(usize::MAX), noun)
    });
    let counted = if answer["counts"].is_object() { format!(", {}", by_noun.join(", ")) } else { String::new() };
    format!("published v{version} ({digest}{counted}); `petrel cluster status` shows who has it")
}

/// What is to be published; `None`: it has errors, which were shown.
fn checked(arguments: &PublishArguments, runners: &Runners, output: &Output) -> Result<Option<Publication>, Failure> {
    let site = canonical(&arguments.site)?;
    let shipped = ShippedPacks::unpack()?;
    let mut packs = arguments.packs.iter().map(|root| canonical(root)).collect::<Result<Vec<PathBuf>, Failure>>()?;
    if site.join("packs").is_dir() && !packs.contains(&site.join("packs")) {
        output.remark("the packs below packs/ are not among what is published; name their folder with --packs")?;
    }
    packs.push(shipped.root.clone());
    let loaded = check(&ContentRoots { site: site.clone(), packs }, runners);
    let findings: Vec<&Diagnostic> = loaded.diagnostics.iter().collect();
    if loaded.has_errors() {
        show(&loaded, &findings, output)?;
        return Ok(None);
    }
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        output.remark(&finding.to_string())?;
    }
    Ok(Some(collect(&site, &taken_packs(&loaded.catalogue, &shipped.root))?))
}

/// The packs that the loader took: of two with the same name only the first counts.
fn taken_packs(catalogue: &Catalogue, shipped: &Path) -> Vec<PackFolder> {
    let own = catalogue.packs.values().filter(|pack| pack.reference != SITE_PACK && !pack.path.starts_with(shipped));
    own.map(|pack| PackFolder { reference: pack.reference.clone(), folder: pack.path.clone() }).collect()
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    let path_shown = path.display().to_string();
    path.canonicalize().map_err(|source| Failure::Local { doing: format!("read {path_shown}"), source })
}
