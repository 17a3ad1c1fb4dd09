//! Profiles as people write them: an ordered list of steps, read and checked before a node is touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;

use crate::model::pack::Catalogue;
use crate::runners::remote::Username;

/// The pack that the site's own files form.
const SITE_PACK: &str = "default";
const FOLDER: &str = "profiles";
/// A profile, or a file that it puts on a node; what is larger is fetched by the node itself.
const MOST_BYTES: u64 = 4 << 20;
const MOST_STEPS: usize = 200;

/// What a node must be, step by step.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) steps: Vec<Step>,
}

/// One thing that must be so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) deed: Deed,
}

/// How it is found out, and what is done if it is not so.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// If the check fails the command runs, and the check must hold then.
    Checked { check: String, run: String },
    /// Nothing is done about it.
    CheckOnly(String),
    /// A command that says itself whether all is well; every time it runs counts as a change.
    Always(String),
    /// A file has this content, mode and owner.
    File(FileSpec),
    /// A user may log in with a key.
    AuthorizedKey { user: Username, key: String, file: Option<String> },
}

/// A file on a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileSpec {
    pub(super) path: String,
    pub(super) content: Content,
    pub(super) mode: u32,
    pub(super) owner: Option<String>,
}

/// Where the content comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As it stands in the profile.
    Inline(String),
    /// A Jinja template.
    Template(String),
    /// A file beside the profile, byte by byte.
    Bytes(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(default, rename = "description")]
    _description: Option<String>,
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    name: String,
    check: Option<String>,
    run: Option<String>,
    file: Option<RawFile>,
    authorized_key: Option<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: String,
    content: Option<String>,
    template: Option<String>,
    source: Option<String>,
    mode: Option<String>,
    owner: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    user: Username,
    key: String,
    file: Option<String>,
}

impl Profile {
    /// The profile of that name: `web` is the site's `profiles/web.yaml`, `pack.web` that of a pack.
    pub(super) fn find(catalogue: &Catalogue, name: &str) -> anyhow::Result<Self> {
        let (pack, stem) = name.split_once('.').unwrap_or((SITE_PACK, name));
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        ensure!(
            !stem.is_empty() && stem.chars().all(legal),
            "`{name}` is not the name of a profile: `web` for profiles/web.yaml, `pack.web` for that of a pack"
        );
        let pack =
            catalogue.packs.get(pack).ok_or_else(|| anyhow!("there is no pack `{pack}` for profile `{name}`"))?;
        let folder = pack.path.join(FOLDER);
        let file = folder.join(format!("{stem}.yaml"));
        let text = String::from_utf8(read(&file).with_context(|| format!("there is no profile `{name}`"))?)
            .with_context(|| format!("{} is not UTF-8", file.display()))?;
        Self::parse(&text, &folder).with_context(|| format!("profile `{name}` ({})", file.display()))
    }

    fn parse(text: &str, folder: &Path) -> anyhow::Result<Self> {
        let raw: RawProfile = serde_yaml::from_str(text).context("it cannot be read")?;
        ensure!(!raw.steps.is_empty(), "it has no steps");
        ensure!(raw.steps.len() <= MOST_STEPS, "it has {} steps; at most {MOST_STEPS} are done", raw.steps.len());
        let mut steps: Vec<Step> = Vec::new();
        for raw in raw.steps {
            let name = raw.name.clone();
            ensure!(
                !name.trim().is_empty() && !name.contains(char::is_control),
                "a step has no name: give it one line"
            );
            ensure!(steps.iter().all(|step| step.name != name), "two steps are called `{name}`");
            let deed = deed(raw, folder).with_context(|| format!("step `{name}`"))?;
            steps.push(Step { name, deed });
        }
        Ok(Self { steps })
    }
}

fn deed(raw: RawStep, folder: &Path) -> anyhow::Result<Deed> {
    let RawStep { name: _, check, run, file, authorized_key } = raw;
    Ok(match (check, run, file, authorized_key) {
        (Some(check), Some(run), None, None) => Deed::Checked { check, run },
        (Some(check), None, None, None) => Deed::CheckOnly(check),
        (None, Some(run), None, None) => Deed::Always(run),
        (None, None, Some(file), None) => Deed::File(file_spec(file, folder)?),
        (None, None, None, Some(RawKey { user, key, file })) => {
            if let Some(file) = &file {
                ensure_absolute(file)?;
            }
            Deed::AuthorizedKey { user, key, file }
        }
        _ => bail!(
            "a step is either `check` and `run`, or one of them, or `file`, or `authorized_key`; make several of it"
        ),
    })
}

fn file_spec(raw: RawFile, folder: &Path) -> anyhow::Result<FileSpec> {
    let RawFile { path, content, template, source, mode, owner } = raw;
    ensure_absolute(&path)?;
    let content = match (content, template, source) {
        (Some(text), None, None) => Content::Inline(text),
        (None, Some(name), None) => {
            let text = String::from_utf8(read(&beside(folder, &name)?)?);
            Content::Template(text.with_context(|| format!("the template `{name}` is not UTF-8"))?)
        }
        (None, None, Some(name)) => Content::Bytes(read(&beside(folder, &name)?)?),
        _ => bail!("`file` needs one of `content`, `template` and `source`"),
    };
    let mode = mode.as_deref().unwrap_or("0644");
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        anyhow!("`{mode}` is not a file mode: write four octal digits in quotation marks, as \"0640\"")
    })?;
    if let Some(owner) = &owner {
        let (user, group) = owner.split_once(':').unwrap_or((owner, "root"));
        for name in [user, group] {
            name.parse::<Username>().with_context(|| format!("`owner: {owner}` is not `user` or `user:group`"))?;
        }
    }
    Ok(FileSpec { path, content, mode, owner })
}

fn ensure_absolute(path: &str) -> anyhow::Result<()> {
    let is_file = path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control);
    ensure!(is_file, "`{path}` is not the absolute path of a file");
    Ok(())
}

/// Files of a profile lie in its own folder, or below.
fn beside(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let stays = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    ensure!(stays && !name.is_empty(), "`{name}` must lie beside the profile: write it relative and without `..`");
    Ok(folder.join(name))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("cannot read {}", file.display());
    let size = fs::metadata(file).with_context(reading)?.len();
    ensure!(size <= MOST_BYTES, "{} is larger than {} MiB", file.display(), MOST_BYTES >> 20);
    fs::read(file).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Profile> {
        Profile::parse(text, Path::new("/nonexistent"))
    }

    #[test]
    fn a_profile_is_an_ordered_list_of_steps() {
        let text = r#"
description: a web server
steps:
  - name: nginx is there
    check: command -v nginx
    run: apt-get install -y nginx
  - {name: it listens, check: "true"}
  - {name: always, run: sync}
  - {name: page, file: {path: /srv/index.html, content: "hello", mode: "0640", owner: "www-data:www-data"}}
  - {name: key, authorized_key: {user: root, key: "{{ public_key }}"}}
"#;
        let steps = parse(text).unwrap().steps;
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["nginx is there", "it listens", "always", "page", "key"]);
        assert_eq!(steps[1].deed, Deed::CheckOnly("true".to_owned()));
        let page = FileSpec {
            path: "/srv/index.html".to_owned(),
            content: Content::Inline("hello".to_owned()),
            mode: 0o640,
            owner: Some("www-data:www-data".to_owned()),
        };
        assert_eq!(steps[3].deed, Deed::File(page));
    }

    #[test]
    fn a_profile_of_which_nothing_can_be_made_is_refused_with_the_way_out() {
        let cases = [
            ("steps: []", "it has no steps"),
            ("steps: [{name: a, chek: x}]", "unknown field `chek`"),
            ("steps: [{check: x}]", "missing field `name`"),
            ("steps: [{name: a}]", "a step is either"),
            ("steps: [{name: a, run: x, file: {path: /a, content: x}}]", "a step is either"),
            ("steps: [{name: a, run: x}, {name: a, run: y}]", "two steps are called `a`"),
            ("steps: [{name: a, file: {path: a, content: x}}]", "`a` is not the absolute path"),
            ("steps: [{name: a, file: {path: /a}}]", "needs one of `content`, `template` and `source`"),
            ("steps: [{name: a, file: {path: /a, content: x, mode: \"9\"}}]", "`9` is not a file mode"),
            ("steps: [{name: a, file: {path: /a, content: x, owner: \"a b\"}}]", "is not `user` or `user:group`"),
            ("steps: [{name: a, file: {path: /a, source: ../../x}}]", "must lie beside the profile"),
            ("steps: [{name: a, file: {path: /a, template: x.j2}}]", "cannot read /nonexistent/x.j2"),
            ("steps: [{name: a, authorized_key: {user: -l, key: x}}]", "is not the name of a user"),
        ];
        for (text, wanted) in cases {
            let refused = format!("{:#}", parse(text).err().unwrap());
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
