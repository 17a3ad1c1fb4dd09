//! Certificates for servers that speak TLS: one authority per process, which no machine trusts by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Who signs. Its certificate, as PEM, and its key.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("our own key");
    Authority { certificate: certificate.pem(), issuer: Issuer::new(params, key) }
});

/// The files of a server that calls itself `localhost`, and nothing else.
pub(super) struct Certificates {
    /// The authority, for clients that are to trust the server.
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificates {
    /// Writes them into the server's folder.
    pub(super) fn write(folder: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &AUTHORITY.issuer).expect("our own keys");
        let [authority_file, certificate_file, key_file] =
            ["authority.pem", "server.pem", "server.key"].map(|name| folder.join(name));
        fs::write(&authority_file, &AUTHORITY.certificate).expect("our own folder");
        fs::write(&certificate_file, certificate.pem()).expect("our own folder");
        fs::write(&key_file, key.serialize_pem()).expect("our own folder");
        // PostgreSQL refuses a key that others can read.
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("our own file");
        Self { authority: authority_file, certificate: certificate_file, key: key_file }
    }
}
