//! What may be published, and that it comes out as it went in.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::collect::{PackFolder, collect, read_back};
use super::shelf::Shelf;
use super::wire::WirePublication;
use super::*;

fn file(path: &str, content: &str) -> Result<(ContentPath, ContentFile), PublicationError> {
    Ok((path.parse()?, ContentFile { content: content.into(), executable: false }))
}

fn write(folder: &Path, path: &str, content: &str) {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content).unwrap();
}

fn make_executable(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A site with a pack beside it, and all that is not to be published.
fn site() -> (tempfile::TempDir, Vec<PackFolder>) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "site/rules/a.yaml", "name: a\n");
    write(at, "site/workflows/w.rhai", "42");
    write(at, "site/configs/lab.yaml", "x: 1\n");
    write(at, "packs/laboratory/pack.yaml", "ref: lab\n");
    write(at, "packs/laboratory/actions/check.sh", "#!/bin/sh\n");
    make_executable(&at.join("packs/laboratory/actions/check.sh"));
    for left_over in ["site/rules/.a.yaml.swp", "site/rules/a.yaml~", "site/rules/#a.yaml#", "site/notes.txt"] {
        write(at, left_over, "no content");
    }
    write(at, "packs/laboratory/actions/__pycache__/lib.pyc", "no content");
    write(at, "packs/laboratory/.git/config", "no content");
    let packs = vec![PackFolder { reference: "lab".to_owned(), folder: at.join("packs/laboratory") }];
    (folder, packs)
}

fn paths(publication: &Publication) -> Vec<&str> {
    publication.files().map(|(path, _)| path.as_str()).collect()
}

#[test]
fn a_path_stays_where_content_belongs() {
    for good in ["rules/a.yaml", "workflows/lib/b.rhai", "configs/x.yaml", "packs/lab/pack.yaml", "rules/ä b.yaml"] {
        assert_eq!(good.parse::<ContentPath>().unwrap().as_str(), good);
    }
    let deep = format!("rules/{}a.yaml", "x/".repeat(15));
    let long = format!("rules/{}.yaml", "x".repeat(255));
    for bad in [
        "",
        "rules",
        "rules/",
        "/rules/a.yaml",
        "rules//a.yaml",
        "../rules/a.yaml",
        "rules/../../etc/passwd",
        "rules/./a.yaml",
        "rules/.hidden.yaml",
        "packs/.git/config",
        "packs/pack.yaml",
        "petrel.toml",
        "data/petrel.db",
        "site/rules/a.yaml",
        "rules/a\0.yaml",
        "rules/a\n.yaml",
        "rules\\a.yaml",
        "rules/..\\a.yaml",
        &deep,
        &long,
    ] {
        let refused = bad.parse::<ContentPath>();
        assert!(matches!(refused, Err(PublicationError::BadPath { .. })), "{bad}: {refused:?}");
    }
}

#[test]
fn a_publication_keeps_within_its_bounds() {
    let many = (0..=MOST_FILES).map(|number| file(&format!("rules/{number}.yaml"), ""));
    assert!(matches!(Publication::new(many), Err(PublicationError::TooMany)));
    let half = "x".repeat(MOST_BYTES / 2);
    let large = ["a", "b"].map(|name| file(&format!("rules/{name}"), &half));
    assert_eq!(Publication::new(large).unwrap().size_bytes(), MOST_BYTES);
    let larger = [file("rules/a", &half), file("rules/b", &half), file("rules/c", "x")];
    assert!(matches!(Publication::new(larger), Err(PublicationError::TooLarge)));
    assert!(matches!(Publication::new([]), Err(PublicationError::Empty)));
    for twice in [["rules/a", "rules/a"], ["rules/a", "rules/a/b"], ["packs/x/lib/z", "packs/x/lib"]] {
        let refused = Publication::new(twice.map(|path| file(path, "")));
        assert!(matches!(refused, Err(PublicationError::Twice(_))), "{twice:?}");
    }
}

#[test]
fn what_is_stored_reads_back_the_same_and_what_is_damaged_is_refused() {
    let publication = Publication::new([file("rules/b", "two\nlines\n"), file("rules/a", "")]).unwrap();
    let bytes = publication.to_bytes();
    assert_eq!(Publication::from_bytes(&bytes).unwrap(), publication);
    let turned = Publication::new([file("rules/a", ""), file("rules/b", "two\nlines\n")]).unwrap();
    assert_eq!(turned.digest(), publication.digest(), "whatever the order");
    let (cut, more) = (&bytes[..bytes.len() - 1], [&bytes[..], b"x"].concat());
    let evil = b"[{\"path\":\"../evil\",\"size_bytes\":0,\"executable\":true}]\n";
    for damaged in [&b""[..], b"[]", b"{}\n", cut, &more, evil] {
        assert!(Publication::from_bytes(damaged).is_err(), "{:?}", String::from_utf8_lossy(damaged));
    }
}

#[test]
fn collected_are_the_content_folders_and_packs_by_their_names_without_left_overs() {
    let (folder, packs) = site();
    let publication = collect(&folder.path().join("site"), &packs).unwrap();
    let expected =
        ["configs/lab.yaml", "packs/lab/actions/check.sh", "packs/lab/pack.yaml", "rules/a.yaml", "workflows/w.rhai"];
    assert_eq!(paths(&publication), expected);
    let executable = publication.files().filter(|(_, file)| file.executable).map(|(path, _)| path.as_str());
    assert_eq!(executable.collect::<Vec<_>>(), ["packs/lab/actions/check.sh"]);
    assert!(matches!(collect(&folder.path().join("packs"), &[]), Err(PublicationError::Empty)));
    assert!(matches!(collect(&folder.path().join("nowhere"), &[]), Err(PublicationError::Unreadable { .. })));
}

#[test]
fn a_link_is_followed_within_its_folder_and_refused_if_it_leaves_it() {
    let (folder, packs) = site();
    let site = folder.path().join("site");
    symlink("a.yaml", site.join("rules/same.yaml")).unwrap();
    let publication = collect(&site, &packs).unwrap();
    assert!(paths(&publication).contains(&"rules/same.yaml"));
    symlink(folder.path().join("packs/laboratory/pack.yaml"), site.join("rules/other.yaml")).unwrap();
    let refused = collect(&site, &packs).unwrap_err().to_string();
    assert!(refused.contains("rules/other.yaml is a link that leaves its folder"), "{refused}");
    std::fs::remove_file(site.join("rules/other.yaml")).unwrap();
    symlink(&site, site.join("rules/circle")).unwrap();
    let refused = collect(&site, &packs).unwrap_err();
    assert!(matches!(refused, PublicationError::BadPath { .. }), "{refused}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let (folder, packs) = site();
    let pipe = folder.path().join("site/rules/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let refused = collect(&folder.path().join("site"), &packs).unwrap_err();
    assert!(matches!(refused, PublicationError::NoFile(_)), "{refused}");
}

#[test]
fn it_travels_as_json_and_arrives_as_it_left() {
    let (folder, packs) = site();
    let publication = collect(&folder.path().join("site"), &packs).unwrap();
    let text = serde_json::to_string(&WirePublication::from(&publication)).unwrap();
    let arrived: WirePublication = serde_json::from_str(&text).unwrap();
    assert_eq!(Publication::try_from(arrived).unwrap(), publication);
    let bad = |path: &str, content: &str| {
        let wire = serde_json::json!({ "files": [{ "path": path, "content_base64": content }] });
        Publication::try_from(serde_json::from_value::<WirePublication>(wire).unwrap()).unwrap_err().to_string()
    };
    assert!(bad("rules/../a", "").contains("`rules/../a` cannot be published"));
    assert!(bad("rules/a", "%").contains("no base64"));
}

#[test]
fn unpacked_it_is_found_as_long_as_it_is_whole() {
    let (folder, packs) = site();
    let publication = collect(&folder.path().join("site"), &packs).unwrap();
    let shelf = Shelf::new(folder.path().join("shelf"));
    assert_eq!(shelf.find(3, &publication.digest()), None);
    let unpacked = shelf.put(3, &publication).unwrap();
    assert_eq!(shelf.find(3, &publication.digest()), Some(unpacked.clone()));
    assert_eq!(read_back(&unpacked).unwrap(), publication, "with the executable bit");
    assert_eq!(shelf.find(3, "another digest"), None);
    for spoil in [
        |at: &Path| write(at, "rules/a.yaml", "name: b\n"),
        |at: &Path| write(at, "rules/more.yaml", ""),
        |at: &Path| std::fs::remove_file(at.join("workflows/w.rhai")).unwrap(),
        |at: &Path| make_executable(&at.join("rules/a.yaml")),
    ] {
        spoil(&unpacked);
        assert_eq!(shelf.find(3, &publication.digest()), None);
        shelf.put(3, &publication).unwrap();
        assert_eq!(shelf.find(3, &publication.digest()), Some(unpacked.clone()));
    }
}

#[test]
fn a_shelf_keeps_only_what_it_is_told_to_and_drafts_go_by_themselves() {
    let (folder, packs) = site();
    let publication = collect(&folder.path().join("site"), &packs).unwrap();
    let shelf = Shelf::new(folder.path().join("shelf"));
    for version in 1..=4 {
        shelf.put(version, &publication).unwrap();
    }
    write(folder.path(), "shelf/.draft-0-7/rules/a.yaml", "of a daemon that was killed");
    let draft = shelf.draft(&publication).unwrap();
    let seen = draft.roots(Vec::new());
    shelf.keep_only(&[3, 4]).unwrap();
    assert!(seen.site.join("rules/a.yaml").is_file() && seen.packs[0].join("lab/pack.yaml").is_file());
    drop(draft);
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path().join("shelf")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["3", "4"]);
}
