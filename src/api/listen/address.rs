//! From which address a request comes, and which addresses share one share. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Networks;

/// Whoever has one IPv6 address has a whole /64 of them, so those count as one.
const IPV6_SHARE_BITS: u32 = 64;

/// Addresses that count as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::api) struct ClientShare(IpAddr);

impl ClientShare {
    pub(in crate::api) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << (128 - IPV6_SHARE_BITS));
                Self(Ipv6Addr::from_bits(network).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// The client behind trusted proxies: the rightmost address that none of them has. What cannot be read, or is said in
/// two ways that differ, leaves the proxy itself as the client: then the sender has chosen what is said.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    let by_list = rightmost_untrusted(peer, listed(headers), trusted);
    let by_standard = rightmost_untrusted(peer, forwarded(headers), trusted);
    match (by_list, by_standard) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    }
}

fn rightmost_untrusted(
    peer: IpAddr,
    hops: impl DoubleEndedIterator<Item = Option<IpAddr>>,
    trusted: &Networks,
) -> Option<IpAddr> {
    let mut nearest = None;
    for hop in hops.rev() {
        let Some(hop) = hop else { return nearest.or(Some(peer)) };
        if !trusted.contains(hop) {
            return Some(hop);
        }
        nearest = Some(hop);
    }
    nearest
}

/// The addresses of `X-Forwarded-For`, in order.
fn listed(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<IpAddr>> {
    texts(headers, "x-forwarded-for").into_iter().flat_map(|text| {
        let hops: Vec<_> = text.split(',').map(parse_node).collect();
        hops
    })
}

/// The addresses of `Forwarded` (RFC 7239), in order.
fn forwarded(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<IpAddr>> {
    texts(headers, "forwarded").into_iter().flat_map(|text| {
        let hops: Vec<_> = text.split(',').map(forwarded_for).collect();
        hops
    })
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    nodes.next().and_then(|(_, node)| parse_node(node.trim().trim_matches('"')))
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn parse_node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(address, _)| address);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Config;

    fn trusted() -> Networks {
        let text = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\", \"fd00::/8\"]";
        Config::parse(Path::new("petrel.toml"), text, &std::collections::BTreeMap::new()).unwrap().trusted_proxies
    }

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        client_address(peer.parse().unwrap(), &map, &trusted()).to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let list = "x-forwarded-for";
        let cases: [(&str, &[(&'static str, &str)], &str); 12] = [
            ("203.0.113.9", &[(list, "198.51.100.1")], "203.0.113.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &[(list, "198.51.100.1")], "198.51.100.1"),
            ("127.0.0.1", &[(list, "1.2.3.4, 198.51.100.1, 10.0.0.3")], "198.51.100.1"),
            ("127.0.0.1", &[(list, "1.2.3.4"), (list, "198.51.100.1")], "198.51.100.1"),
            ("127.0.0.1", &[(list, "10.0.0.1, 10.0.0.2")], "10.0.0.1"),
            ("127.0.0.1", &[(list, "198.51.100.1:4711")], "198.51.100.1"),
            ("127.0.0.1", &[(list, "198.51.100.1, nonsense")], "127.0.0.1"),
            ("127.0.0.1", &[("forwarded", "for=\"[2001:db8::1]:80\";proto=https")], "2001:db8::1"),
            ("127.0.0.1", &[("forwarded", "proto=https;For=198.51.100.1, for=10.0.0.1")], "198.51.100.1"),
            ("::ffff:127.0.0.1", &[(list, "::ffff:198.51.100.1")], "198.51.100.1"),
            ("127.0.0.1", &[(list, "198.51.100.1"), ("forwarded", "for=198.51.100.2")], "127.0.0.1"),
        ];
        for (peer, headers, expected) in cases {
            assert_eq!(client(peer, headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn a_client_with_many_ipv6_addresses_has_one_share() {
        let share = |text: &str| ClientShare::of(text.parse().unwrap());
        assert_eq!(share("2001:db8:1:2:3:4:5:6"), share("2001:db8:1:2::1"));
        assert_ne!(share("2001:db8:1:2::1"), share("2001:db8:1:3::1"));
        assert_eq!(share("::ffff:192.0.2.1"), share("192.0.2.1"));
        assert_ne!(share("192.0.2.1"), share("192.0.2.2"));
    }
}
