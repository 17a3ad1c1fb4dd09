//! Who may stand between clients and the listeners (`trusted_proxies`), and under which names clients may call them
//! (`allowed_hosts`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::reader::texts;
use super::source::Entry;

/// Addresses, each with the length of the prefix that counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Networks {
    /// Is `address` in one of them?
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                let beyond = network.to_bits() ^ address.to_bits();
                beyond.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                let beyond = network.to_bits() ^ address.to_bits();
                beyond.checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let bad = || format!("`{written}` is no address; write \"10.0.0.1\" or a network as \"10.0.0.0/8\"");
        let (address, bits) = match written.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (written, None),
        };
        let address = address.trim().parse::<IpAddr>().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.map_or(Ok(most), |bits| bits.trim().parse::<u8>().map_err(|_| bad()))?;
        if prefix_bits > most { Err(bad()) } else { Ok(Self { address, prefix_bits }) }
    }
}

pub(super) fn networks(entry: &Entry) -> Result<Networks, String> {
    texts(entry)?.iter().map(|written| written.parse::<Network>()).collect()
}

/// The names under which a listener may be called, beside the loopback names and its own address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedHosts {
    /// `*`: every name.
    any: bool,
    /// In lower case, without a port; `*.example.org` stands for every name below `example.org`.
    names: Vec<String>,
}

impl AllowedHosts {
    /// May a request with this `Host` header come in at a listener of this address?
    pub fn allow(&self, host: &str, listen: SocketAddr) -> bool {
        let name = name_of(host);
        self.any
            || is_loopback(&name)
            || is_address(&name, listen.ip())
            || self.names.iter().any(|known| fits(&name, known))
    }
}

fn is_loopback(name: &str) -> bool {
    let is_loopback_address = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    is_loopback_address || name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain"
}

fn is_address(name: &str, listen: IpAddr) -> bool {
    name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == listen.to_canonical())
}

fn fits(name: &str, known: &str) -> bool {
    match known.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => name == known,
    }
}

/// The name in a `Host` header, in lower case: without its port, without the brackets of IPv6, without the root's dot.
fn name_of(host: &str) -> String {
    let host = host.trim().to_ascii_lowercase();
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.to_owned();
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return host;
    }
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    name.trim_end_matches('.').to_owned()
}

pub(super) fn allowed_hosts(entry: &Entry) -> Result<AllowedHosts, String> {
    let written = texts(entry)?;
    if let Some(bad) = written.iter().find(|name| !is_host(name)) {
        return Err(format!("`{bad}` is no host name; write \"petrel.example.org\", \"*.example.org\" or \"*\""));
    }
    let any = written.iter().any(|name| name == "*");
    Ok(AllowedHosts { any, names: written.iter().map(|name| name_of(name)).collect() })
}

fn is_host(written: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    let rest = written.strip_prefix("*.").unwrap_or(written);
    written == "*" || (!rest.is_empty() && rest.chars().all(legal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(written: &[&str]) -> Networks {
        written.iter().map(|one| one.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn a_network_contains_the_addresses_of_its_prefix() {
        let networks = networks(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]);
        for (address, expected) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), expected, "{address}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("203.0.113.9".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "proxy.example.org", "10.0.0.0/x", "::/129"] {
            assert!(bad.parse::<Network>().unwrap_err().contains("10.0.0.0/8"), "{bad}");
        }
    }

    #[test]
    fn hosts_are_allowed_by_loopback_name_listen_address_and_setting() {
        let listen: SocketAddr = "192.0.2.7:9101".parse().unwrap();
        let hosts = AllowedHosts { any: false, names: vec!["petrel.example.org".into(), "*.corp.example".into()] };
        for allowed in [
            "localhost",
            "LOCALHOST:9101",
            "127.0.0.1:9101",
            "127.8.9.1",
            "[::1]:9101",
            "a.localhost:80",
            "192.0.2.7:9101",
            "Petrel.Example.org.:443",
            "x.corp.example",
        ] {
            assert!(hosts.allow(allowed, listen), "{allowed}");
        }
        for refused in [
            "evil.example",
            "evil.example:9101",
            "petrel.example.org.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "192.0.2.8",
            "corp.example",
            "xcorp.example",
            "",
            "[::2]:9101",
        ] {
            assert!(!hosts.allow(refused, listen), "{refused}");
        }
        assert!(AllowedHosts { any: true, names: Vec::new() }.allow("evil.example", listen));
    }
}
