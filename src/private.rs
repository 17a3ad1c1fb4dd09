//! Files and folders for their owner only. They are made with their mode and not narrowed afterwards, so that there is
//! no moment at which others can open them, whatever the umask; what lies there with a wider mode is repaired, and
//! whoever repairs is told, so that it can be said.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
/// What others may do.
const OTHERS: u32 = 0o077;
/// Who may write to a folder may put something else in the place of what lies in it, unless it is sticky.
const REPLACEABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why something is not for its owner only, and cannot be made so.
#[derive(Debug, thiserror::Error)]
pub enum PrivacyError {
    /// It belongs to another user, so its mode is not ours to change.
    #[error(
        "{} has mode {mode:04o} and belongs to user {owner}, so user {us} cannot close it to others: `chown -R {us} {}` and \
         `chmod {wanted:04o} {}`, or start Petrel as its owner", path.display(), path.display(), path.display()
    )]
    Foreign {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
        /// Its owner.
        owner: u32,
        /// As whom this process runs.
        us: u32,
    },
    /// The system said no.
    #[error("cannot make sure that {} is for its owner only", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was found with a mode that was too wide, and was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What.
    pub path: PathBuf,
    /// The mode that it had.
    pub from: u32,
    /// The mode that it has.
    pub to: u32,
}

impl std::fmt::Display for Repaired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, from, to } = self;
        write!(f, "{} had mode {from:04o}, so other users could look into it; it has {to:04o} now", path.display())
    }
}

/// Makes a folder with its parents, or repairs the one that is there. A link to a folder counts as that folder.
pub fn ensure_folder(path: &Path) -> Result<Option<Repaired>, PrivacyError> {
    create_folder(path).map_err(|source| failed(path, source))?;
    let folder = File::open(path).map_err(|source| failed(path, source))?;
    narrow(&folder, path, FOLDER)
}

/// Makes an empty file, or repairs the one that is there.
pub fn ensure_file(path: &Path) -> Result<Option<Repaired>, PrivacyError> {
    let file = options().create(true).truncate(false).open(path).map_err(|source| failed(path, source))?;
    narrow(&file, path, FILE)
}

/// Repairs a file if it is there.
pub fn repair_file(path: &Path) -> Result<Option<Repaired>, PrivacyError> {
    match File::open(path) {
        Ok(file) => narrow(&file, path, FILE),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// Repairs what lies directly in a folder; what lies deeper is behind the folders in it. Links are left alone, as is
/// what vanishes meanwhile.
pub fn repair_entries(folder: &Path) -> Result<Vec<Repaired>, PrivacyError> {
    let mut repaired = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let is_open = found.mode() & OTHERS != 0;
        if found.is_dir() && is_open {
            repaired.extend(ensure_folder(&path)?);
        } else if found.is_file() && is_open {
            repaired.extend(repair_file(&path)?);
        }
    }
    Ok(repaired)
}

/// The nearest folder above this one in which others could put something else in its place; none is as it should be.
pub fn replaceable_by_others(path: &Path) -> io::Result<Option<PathBuf>> {
    let real = path.canonicalize()?;
    for above in real.ancestors().skip(1) {
        let mode = fs::metadata(above)?.mode();
        if mode & REPLACEABLE != 0 && mode & STICKY == 0 {
            return Ok(Some(above.to_owned()));
        }
    }
    Ok(None)
}

/// Makes a folder with its parents.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// How files are opened for writing, with the mode of those that are made by it.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE);
    options
}

/// A file that was not there.
pub fn create_file(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

/// Puts a file in the place of another in one step: a reader finds the old content or the new one, never a part.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.to_owned().into_os_string();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    remove_if_there(&draft)?;
    let mut file = create_file(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// Copies a file whatever mode it has, over what is there.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    remove_if_there(to)?;
    let mut target = create_file(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

/// For whom unpacked content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The user that runs Petrel.
    Owner,
    /// Also the user that child processes run as, who must find the scripts of packs.
    Everybody,
}

impl Readers {
    /// Makes a folder with its parents.
    pub fn create_folder(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Owner => create_folder(path),
            Self::Everybody => {
                let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
                create_folder(path)?;
                missing.into_iter().try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(0o755)))
            }
        }
    }

    /// Writes a file that is not there; an executable one stays so.
    pub fn write_file(self, path: &Path, content: &[u8], is_executable: bool) -> io::Result<()> {
        let mut file = create_file(path)?;
        file.write_all(content)?;
        match (self, is_executable) {
            (Self::Owner, false) => Ok(()),
            (Self::Owner, true) => file.set_permissions(Permissions::from_mode(0o700)),
            (Self::Everybody, false) => file.set_permissions(Permissions::from_mode(0o644)),
            (Self::Everybody, true) => file.set_permissions(Permissions::from_mode(0o755)),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> PrivacyError {
    PrivacyError::Io { path: path.to_owned(), source }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Over the open file and not its path: nobody can put another one there in between.
fn narrow(file: &File, path: &Path, wanted: u32) -> Result<Option<Repaired>, PrivacyError> {
    let found = file.metadata().map_err(|source| failed(path, source))?;
    let from = found.mode() & 0o7777;
    if from & OTHERS == 0 {
        return Ok(None);
    }
    match file.set_permissions(Permissions::from_mode(wanted)) {
        Ok(()) => Ok(Some(Repaired { path: path.to_owned(), from, to: wanted })),
        Err(problem) if problem.kind() == io::ErrorKind::PermissionDenied => Err(foreign(path, &found, wanted)),
        Err(source) => Err(failed(path, source)),
    }
}

fn foreign(path: &Path, found: &Metadata, wanted: u32) -> PrivacyError {
    let us = rustix::process::geteuid().as_raw();
    PrivacyError::Foreign { path: path.to_owned(), mode: found.mode() & 0o7777, wanted, owner: found.uid(), us }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let (folder, file) = (home.path().join("a/b"), home.path().join("a/b/c"));
        assert_eq!(ensure_folder(&folder).unwrap(), None);
        assert_eq!(ensure_file(&file).unwrap(), None);
        replace_file(&folder.join("d"), b"text").unwrap();
        copy_file(&folder.join("d"), &folder.join("e")).unwrap();
        assert_eq!((mode(&home.path().join("a")), mode(&folder)), (0o700, 0o700));
        assert_eq!(["c", "d", "e"].map(|name| mode(&folder.join(name))), [0o600; 3]);
        assert_eq!(fs::read(folder.join("e")).unwrap(), b"text");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "no draft stays behind");
    }

    #[test]
    fn what_is_too_wide_is_repaired_and_told_with_both_modes() {
        let home = tempfile::tempdir().unwrap();
        let (folder, file) = (home.path().join("data"), home.path().join("data/petrel.db"));
        ensure_folder(&folder).unwrap();
        ensure_file(&file).unwrap();
        for (of_folder, of_file) in [(0o755, 0o644), (0o2770, 0o660), (0o1777, 0o666), (0o701, 0o604)] {
            set(&folder, of_folder);
            set(&file, of_file);
            let told = ensure_folder(&folder).unwrap().unwrap();
            assert_eq!((told.from, told.to, mode(&folder)), (of_folder, 0o700, 0o700));
            assert_eq!(repair_entries(&folder).unwrap().len(), 1);
            assert_eq!(mode(&file), 0o600);
            assert!(told.to_string().contains("other users could look into it"), "{told}");
        }
        assert_eq!((ensure_folder(&folder).unwrap(), repair_entries(&folder).unwrap()), (None, Vec::new()));
    }

    #[test]
    fn links_in_a_folder_are_not_followed_and_missing_files_are_no_mistake() {
        let home = tempfile::tempdir().unwrap();
        let (folder, outside) = (home.path().join("data"), home.path().join("outside"));
        ensure_folder(&folder).unwrap();
        fs::write(&outside, "x").unwrap();
        set(&outside, 0o644);
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        assert_eq!(repair_entries(&folder).unwrap(), Vec::new());
        assert_eq!(mode(&outside), 0o644);
        assert_eq!(repair_file(&folder.join("missing")).unwrap(), None);
        let linked = home.path().join("linked");
        set(&folder, 0o755);
        std::os::unix::fs::symlink(&folder, &linked).unwrap();
        assert!(ensure_folder(&linked).unwrap().is_some(), "a link to the data folder is the data folder");
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn a_parent_that_others_can_write_to_is_found_unless_it_is_sticky() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shared/data");
        ensure_folder(&folder).unwrap();
        let shared = folder.parent().unwrap().canonicalize().unwrap();
        assert_eq!(replaceable_by_others(&folder).unwrap(), None);
        for (mode, found) in [(0o770, Some(&shared)), (0o777, Some(&shared)), (0o1777, None), (0o755, None)] {
            set(&shared, mode);
            assert_eq!(replaceable_by_others(&folder).unwrap().as_ref(), found, "{mode:o}");
        }
    }

    #[test]
    fn content_for_everybody_can_be_read_whatever_the_umask_and_executables_stay_so() {
        let home = tempfile::tempdir().unwrap();
        for (readers, folder_mode, modes) in
            [(Readers::Owner, 0o700, [0o600, 0o700]), (Readers::Everybody, 0o755, [0o644, 0o755])]
        {
            let folder = home.path().join(format!("{readers:?}/packs"));
            readers.create_folder(&folder).unwrap();
            readers.write_file(&folder.join("a.yaml"), b"a", false).unwrap();
            readers.write_file(&folder.join("a.sh"), b"a", true).unwrap();
            assert_eq!((mode(folder.parent().unwrap()), mode(&folder)), (folder_mode, folder_mode));
            assert_eq!(["a.yaml", "a.sh"].map(|name| mode(&folder.join(name))), modes);
        }
    }

    #[test]
    fn what_belongs_to_others_is_refused_with_the_way_out() {
        let path = PathBuf::from("/srv/petrel");
        let refusal = PrivacyError::Foreign { path, mode: 0o775, wanted: 0o700, owner: 7, us: 8 }.to_string();
        assert!(refusal.contains("mode 0775 and belongs to user 7"), "{refusal}");
        assert!(refusal.contains("`chown -R 8 /srv/petrel` and `chmod 0700 /srv/petrel`"), "{refusal}");
    }
}
