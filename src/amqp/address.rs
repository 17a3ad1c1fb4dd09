//! Where the broker is: the URL taken apart, and shown only without user and password.

use std::fmt;
use std::path::{Path, PathBuf};

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};

/// The broker ends a connection that is silent for twice this long, and so do we.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where the broker is and how it is trusted.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
}

/// Why there is no broker at `bus.url`. The URL itself is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read.
    #[error("bus.url is no AMQP URL; write amqp://USER:PASSWORD@HOST:5672/%2f, with `%XX` for what is special in URLs")]
    Malformed,
    /// A slash and nothing behind it.
    #[error("bus.url ends with a slash, which names the virtual host \"\"; leave the slash out, or write /%2f for `/`")]
    EmptyVhost,
    /// Certificates without TLS.
    #[error("bus.ca_file is of no use with amqp://; write amqps:// in bus.url")]
    CaWithoutTls,
    /// The certificates cannot be read.
    #[error("reading bus.ca_file {}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Address {
    /// Takes a URL apart and reads the certificates.
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, AddressError> {
        let mut uri: AMQPUri = url.parse().map_err(|_| AddressError::Malformed)?;
        if uri.vhost.is_empty() {
            return Err(AddressError::EmptyVhost);
        }
        // The parser takes an IPv6 address for no host at all, and no host for this machine.
        if let Some(address) = ipv6_host(url) {
            address.clone_into(&mut uri.authority.host);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let mut tls = OwnedTLSConfig::default();
        if let Some(path) = ca_file {
            if uri.scheme == AMQPScheme::AMQP {
                return Err(AddressError::CaWithoutTls);
            }
            let read = std::fs::read_to_string(path);
            tls.cert_chain = Some(read.map_err(|source| AddressError::CaFile { path: path.to_owned(), source })?);
        }
        Ok(Self { uri, tls })
    }

    pub(super) const fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    pub(super) const fn tls(&self) -> &OwnedTLSConfig {
        &self.tls
    }

    /// Would user and password cross a network in clear?
    pub(super) fn is_exposed(&self) -> bool {
        let host = self.uri.authority.host.as_str();
        let is_loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.uri.scheme == AMQPScheme::AMQP && !is_loopback
    }
}

/// What stands between brackets after the user and before the path.
fn ipv6_host(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(address, _)| address)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.uri;
        write!(f, "{scheme}://{}:{} (virtual host `{vhost}`)", authority.host, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, AddressError> {
        Address::parse(url, None)
    }

    #[test]
    fn g09_an_address_never_shows_user_or_password() {
        let address = parse("amqp://petrel:hunter2@mq.example:5673/%2f").unwrap();
        for shown in [address.to_string(), format!("{address:?}")] {
            assert_eq!(shown, "amqp://mq.example:5673 (virtual host `/`)");
        }
        assert_eq!(address.uri().authority.userinfo.password, "hunter2");
        for wrong in ["amqp://petrel:hunter2@mq:port", "amqp://a:hunter2@h?heartbeat=hunter2", "amqp:hunter2"] {
            assert!(!parse(wrong).unwrap_err().to_string().contains("hunter2"), "{wrong}");
        }
    }

    #[test]
    fn what_a_url_leaves_out_is_what_people_expect() {
        let address = parse("amqp://localhost").unwrap();
        assert_eq!((address.uri().authority.port, address.uri().vhost.as_str()), (5672, "/"));
        assert_eq!(address.uri().query.heartbeat, Some(HEARTBEAT_SECONDS));
        assert_eq!(parse("amqp://h?heartbeat=3").unwrap().uri().query.heartbeat, Some(3));
        assert_eq!(parse("amqps://h").unwrap().uri().authority.port, 5671);
        assert!(matches!(parse("amqp://localhost/"), Err(AddressError::EmptyVhost)));
    }

    #[test]
    fn an_ipv6_broker_is_not_taken_for_this_machine() {
        let address = parse("amqp://u:p@[fd00::7]:5672/%2f").unwrap();
        assert_eq!(address.uri().authority.host, "fd00::7");
        assert!(address.is_exposed());
    }

    #[test]
    fn credentials_in_clear_are_noticed_beyond_the_loopback() {
        for (url, exposed) in [
            ("amqp://mq.example", true),
            ("amqps://mq.example", false),
            ("amqp://127.0.0.1", false),
            ("amqp://[::1]", false),
            ("amqp://localhost", false),
        ] {
            assert_eq!(parse(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }

    #[test]
    fn certificates_are_read_where_they_are_of_use() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("ca.pem");
        assert!(matches!(Address::parse("amqp://h", Some(&missing)), Err(AddressError::CaWithoutTls)));
        let refusal = Address::parse("amqps://h", Some(&missing)).unwrap_err();
        assert!(refusal.to_string().contains("ca.pem"), "{refusal}");
        std::fs::write(&missing, "PEM").unwrap();
        assert_eq!(Address::parse("amqps://h", Some(&missing)).unwrap().tls().cert_chain.as_deref(), Some("PEM"));
    }
}
