//! How PostgreSQL is reached: the pool, what every connection is told first, and TLS.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::error::{StoreError, StoreResult};

/// A new connection, or one from the pool, is there within this time or not at all.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that nobody acknowledges for so long mean that the network swallows.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// A daemon that is stopped in the middle of a transaction must not keep its locks from the others.
const FIRST_WORDS: &str = "SET idle_in_transaction_session_timeout = '10s'; SET statement_timeout = '30s';
    SET lock_timeout = '12s'; SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning";

/// Where PostgreSQL is and how it is used. Holds a password: never printed.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host/database`
    pub url: String,
    /// Connections at most.
    pub connections: usize,
    /// Certificates to trust beside the machine's own, as PEM.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSettings").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// One in so many connections is for reads that block.
const ONE_IN: usize = 4;

/// For work that waits for nobody's thread, and for reads that block one. Together they are as large as was asked for.
pub(super) fn pools(settings: &PostgresSettings) -> StoreResult<(Pool, Pool)> {
    let of_blocking = (settings.connections / ONE_IN).max(1);
    let of_others = settings.connections.saturating_sub(of_blocking).max(1);
    Ok((pool(settings, of_others)?, pool(settings, of_blocking)?))
}

fn pool(settings: &PostgresSettings, connections: usize) -> StoreResult<Pool> {
    let mut config = Config::from_str(&settings.url).map_err(|e| unusable(&format!("store.url: {e}")))?;
    config.connect_timeout(CONNECT_LIMIT).tcp_user_timeout(SILENCE_LIMIT).keepalives_idle(SILENCE_LIMIT);
    if config.get_application_name().is_none() {
        config.application_name("petrel");
    }
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if is_plain(&config) {
        config.ssl_mode(SslMode::Disable);
        Manager::from_config(config, NoTls, manager)
    } else {
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(tls(settings.ca_file.as_deref())?);
        Manager::from_config(config, tls, manager)
    };
    let greet = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move { client.batch_execute(FIRST_WORDS).await.map_err(HookError::Backend) })
    });
    let pool = Pool::builder(manager)
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_LIMIT))
        .create_timeout(Some(CONNECT_LIMIT))
        .recycle_timeout(Some(CONNECT_LIMIT))
        .post_create(greet);
    pool.build().map_err(|e| unusable(&e.to_string()))
}

/// What the URL says about TLS holds. If it says nothing, only this machine is spoken to in clear.
fn is_plain(config: &Config) -> bool {
    match config.get_ssl_mode() {
        SslMode::Disable => true,
        SslMode::Prefer => config.get_hosts().iter().all(is_this_machine),
        _ => false,
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// TLS that trusts the machine's roots and, if there is one, the operator's own.
fn tls(ca_file: Option<&Path>) -> StoreResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (_, unreadable) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(unreadable, "certificates of this machine that TLS to PostgreSQL does not understand");
    if let Some(path) = ca_file {
        let read = |e: &dyn std::fmt::Display| unusable(&format!("store.ca_file {}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| read(&e))? {
            roots.add(certificate.map_err(|e| read(&e))?).map_err(|e| read(&e))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable(&e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn unusable(why: &str) -> StoreError {
    StoreError::Unavailable(format!("PostgreSQL cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(url: &str) -> bool {
        is_plain(&url.parse().unwrap())
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear_unless_the_url_says_so() {
        assert!(plain("postgres://petrel@127.0.0.1/petrel"));
        assert!(plain("postgres://petrel@localhost/petrel"));
        assert!(plain("postgres://petrel@db.example/petrel?sslmode=disable"));
        assert!(!plain("postgres://petrel@db.example/petrel"));
        assert!(!plain("postgres://petrel@127.0.0.1/petrel?sslmode=require"));
    }

    #[test]
    fn a_password_does_not_show() {
        let url = "postgres://petrel:geheim@db.example/petrel".to_owned();
        let settings = PostgresSettings { url, connections: 3, ca_file: None };
        assert!(!format!("{settings:?}").contains("geheim"));
        let broken = PostgresSettings { url: "postgres://petrel:geheim@:x/y".to_owned(), ..settings };
        let said = pools(&broken).unwrap_err().to_string();
        assert!(said.contains("store.url") && !said.contains("geheim"), "{said}");
    }
}
