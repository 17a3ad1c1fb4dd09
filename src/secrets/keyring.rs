//! The installation's own key, one file in the data directory: without it nothing that was sealed can be read again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, process};

use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Nonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::private;
use crate::secrets::{MessageKey, hex, random_bytes};

/// Names the algorithm and the layout, so that both can change without losing what was sealed before.
const PREFIX: &str = "petrel1:";
const NONCE_BYTES: usize = 12;
/// Begins every encrypted cell of the store. Cells have a key of their own, so that a value of the datastore, which
/// users see in its encrypted form, cannot be passed off as a cell and be read back in clear.
const CELL_PREFIX: &str = "petrel-cell1:";

/// Seals values for the store and makes fingerprints of secrets.
pub struct Keyring {
    cipher: ChaCha20Poly1305,
    cell_cipher: ChaCha20Poly1305,
    fingerprint_key: [u8; 32],
    message_key: MessageKey,
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or written.
    #[error("cannot use the datastore key {}", path.display())]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read it.
    #[error("the datastore key {} can be read by others (mode {mode:03o}); run `chmod 600` on it", path.display())]
    TooOpen {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a key.
    #[error(
        "the datastore key {} has {length} bytes instead of 32; restore it from a backup, or move it away for a new \
         one and lose every encrypted value",
        path.display()
    )]
    Damaged {
        /// The key's file.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
}

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It does not look like something that was sealed here.
    #[error("the value was not encrypted by petrel (it does not begin with `petrel1:`, or is cut off)")]
    NotSealed,
    /// Another key, or it was changed.
    #[error("the value was encrypted with another datastore key, or was changed since")]
    WrongKey,
}

impl Keyring {
    /// Reads `<data-dir>/datastore.key`, or makes it if there is none. Of several daemons that make it at the same
    /// time one wins and the others read its key.
    pub fn open_or_create(data_dir: &Path) -> Result<Self, KeyringError> {
        Self::open_or_create_at(&data_dir.join("datastore.key"))
    }

    /// The same for a key that lies elsewhere, where several daemons find it.
    pub fn open_or_create_at(path: &Path) -> Result<Self, KeyringError> {
        let path = path.to_owned();
        let failed = |source| KeyringError::Io { path: path.clone(), source };
        if !path.try_exists().map_err(failed)? {
            create_key(&path).map_err(failed)?;
        }
        Self::read(&path)
    }

    /// A keyring over a key that is kept elsewhere.
    pub fn from_key(key: &[u8; 32]) -> Self {
        let cipher = ChaCha20Poly1305::new(&derive(key, b"petrel datastore value v1").into());
        let cell_cipher = ChaCha20Poly1305::new(&derive(key, b"petrel store cell v1").into());
        let message_key = MessageKey::new(derive(key, b"petrel messages v1"));
        Self { cipher, cell_cipher, fingerprint_key: derive(key, b"petrel fingerprint v1"), message_key }
    }

    fn read(path: &Path) -> Result<Self, KeyringError> {
        let failed = |source| KeyringError::Io { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyringError::TooOpen { path: path.to_owned(), mode });
        }
        let bytes = fs::read(path).map_err(failed)?;
        let damaged = |_| KeyringError::Damaged { path: path.to_owned(), length: bytes.len() };
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(damaged)?;
        Ok(Self::from_key(&key))
    }

    /// Encrypts a value. The same value looks different each time.
    pub fn seal(&self, plain: &str) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD_NO_PAD.encode(encrypt(&self.cipher, plain.as_bytes())))
    }

    /// Encrypts a text column of the store.
    pub fn seal_cell_text(&self, plain: &str) -> String {
        format!("{CELL_PREFIX}{}", BASE64_STANDARD_NO_PAD.encode(encrypt(&self.cell_cipher, plain.as_bytes())))
    }

    /// Decrypts what [`Keyring::seal_cell_text`] made; `None` for any other text.
    pub fn open_cell_text(&self, sealed: &str) -> Option<String> {
        let bytes = BASE64_STANDARD_NO_PAD.decode(sealed.strip_prefix(CELL_PREFIX)?).ok()?;
        String::from_utf8(decrypt(&self.cell_cipher, &bytes)?).ok()
    }

    /// Encrypts a binary column of the store.
    pub fn seal_cell_bytes(&self, plain: &[u8]) -> Vec<u8> {
        [CELL_PREFIX.as_bytes(), &encrypt(&self.cell_cipher, plain)].concat()
    }

    /// Decrypts what [`Keyring::seal_cell_bytes`] made; `None` for any other bytes.
    pub fn open_cell_bytes(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        decrypt(&self.cell_cipher, sealed.strip_prefix(CELL_PREFIX.as_bytes())?)
    }

    /// Decrypts what [`Keyring::seal`] made.
    pub fn open(&self, sealed: &str) -> Result<String, OpenError> {
        let encoded = sealed.strip_prefix(PREFIX).ok_or(OpenError::NotSealed)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(encoded).map_err(|_| OpenError::NotSealed)?;
        if bytes.len() < NONCE_BYTES {
            return Err(OpenError::NotSealed);
        }
        let plain = decrypt(&self.cipher, &bytes).ok_or(OpenError::WrongKey)?;
        String::from_utf8(plain).map_err(|_| OpenError::WrongKey)
    }

    /// Signs messages between the daemons of this installation.
    pub const fn message_key(&self) -> &MessageKey {
        &self.message_key
    }

    /// Tells whether two secrets are equal without keeping either: the same bytes give the same 64 hex digits, on this
    /// installation only.
    pub fn keyed_hash(&self, bytes: &[u8]) -> String {
        hex(&derive(&self.fingerprint_key, bytes))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

/// A nonce, and behind it the cipher text.
fn encrypt(cipher: &ChaCha20Poly1305, plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = random_bytes();
    let sealed = cipher.encrypt(&Nonce::<ChaCha20Poly1305>::from(nonce), plain);
    let sealed = sealed.expect("values are far smaller than the cipher's 256 GiB");
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(cipher: &ChaCha20Poly1305, bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = bytes.split_first_chunk::<NONCE_BYTES>()?;
    cipher.decrypt(&Nonce::<ChaCha20Poly1305>::from(*nonce), body).ok()
}

fn derive(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Writes the key beside its place and links it in, so that a half-written key is never seen and none is overwritten.
fn create_key(path: &Path) -> io::Result<()> {
    let draft = path.with_extension(format!("key.{}", process::id()));
    let mut file = private::create_file(&draft)?;
    let linked = file
        .write_all(&random_bytes::<32>())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path))
        .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) });
    fs::remove_file(&draft)?;
    linked?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    fn keyring() -> Keyring {
        Keyring::from_key(&[7; 32])
    }

    #[test]
    fn what_was_sealed_opens_again_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = Keyring::open_or_create(folder.path()).unwrap().seal("hünter2");
        assert_eq!(Keyring::open_or_create(folder.path()).unwrap().open(&sealed).as_deref(), Ok("hünter2"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn the_key_is_32_bytes_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        Keyring::open_or_create(folder.path()).unwrap();
        let path = folder.path().join("datastore.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap().len(), 32);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = Keyring::open_or_create(folder.path()).unwrap_err();
        assert!(refusal.to_string().contains("mode 644"), "{refusal}");
    }

    #[test]
    fn a_damaged_key_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("datastore.key");
        fs::write(&path, b"short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Keyring::open_or_create(folder.path()), Err(KeyringError::Damaged { length: 5, .. })));
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn the_same_value_is_sealed_differently_each_time_and_never_in_clear() {
        let (one, two) = (keyring().seal("hunter2"), keyring().seal("hunter2"));
        assert_ne!(one, two);
        assert!(one.starts_with("petrel1:") && !one.contains("hunter2"));
    }

    #[test]
    fn what_was_changed_or_sealed_elsewhere_does_not_open() {
        let sealed = keyring().seal("hunter2");
        assert_eq!(Keyring::from_key(&[8; 32]).open(&sealed), Err(OpenError::WrongKey));
        let mut bytes = BASE64_STANDARD_NO_PAD.decode(sealed.strip_prefix(PREFIX).unwrap()).unwrap();
        bytes[15] ^= 1;
        let changed = format!("{PREFIX}{}", BASE64_STANDARD_NO_PAD.encode(bytes));
        assert_eq!(keyring().open(&changed), Err(OpenError::WrongKey));
        for text in ["", "hunter2", "petrel1:", "petrel1:!!!", "petrel1:AAAA"] {
            assert_eq!(keyring().open(text), Err(OpenError::NotSealed), "{text}");
        }
    }

    #[test]
    fn cells_of_the_store_have_a_key_of_their_own() {
        let (text, bytes) = (keyring().seal_cell_text("hunter2"), keyring().seal_cell_bytes(b"hunter2"));
        assert_eq!(keyring().open_cell_text(&text).as_deref(), Some("hunter2"));
        assert_eq!(keyring().open_cell_bytes(&bytes).as_deref(), Some(b"hunter2".as_slice()));
        let value = keyring().seal("hunter2");
        let forged = value.replacen(PREFIX, CELL_PREFIX, 1);
        assert_eq!(keyring().open_cell_text(&forged), None, "an encrypted value is no cell");
        assert_eq!(keyring().open_cell_text("hunter2"), None);
        assert_eq!(Keyring::from_key(&[8; 32]).open_cell_text(&text), None);
    }

    #[test]
    fn equal_secrets_have_equal_fingerprints_here_and_others_elsewhere() {
        assert_eq!(keyring().keyed_hash(b"a"), keyring().keyed_hash(b"a"));
        assert_ne!(keyring().keyed_hash(b"a"), keyring().keyed_hash(b"b"));
        assert_ne!(keyring().keyed_hash(b"a"), Keyring::from_key(&[8; 32]).keyed_hash(b"a"));
        assert_eq!(keyring().keyed_hash(b"a").len(), 64);
    }
}
