//! Why a server says no, in words, with the way out. Pure.

use std::fmt;

use anyhow::{Error, anyhow};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{Name, TSigner};

use super::records::shown;
use super::settings::Server;
use crate::model::time::Timestamp;

/// Whom we talk to, and as whom.
pub(super) struct Peer {
    pub(super) server: Server,
    pub(super) key: TSigner,
}

/// What was asked of the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish<'a> {
    /// To say what stands at a name.
    Look(&'a Name),
    /// To change a zone.
    Update(&'a Name),
    /// To send a zone.
    Transfer(&'a Name),
}

impl Peer {
    /// The server could read the message, and does not do it.
    pub(super) fn refusal(&self, wish: Wish<'_>, code: ResponseCode) -> Error {
        let key = shown(self.key.signer_name());
        let why = match (code, wish) {
            (ResponseCode::Refused, Wish::Update(_)) => format!(
                "REFUSED: the key `{key}` may not change this there; grant it in the zone's `update-policy {{ grant {key} \
                 zonesub ANY; }};`, and see the server's log for the name"
            ),
            (ResponseCode::Refused, Wish::Transfer(_)) => {
                format!("REFUSED: allow the transfer in the zone with `allow-transfer {{ key {key}; }};`")
            }
            (ResponseCode::Refused, Wish::Look(_)) => format!(
                "REFUSED: it answers only for its own zones and to whom it may; is `server` in configs/dns.yaml the zone's \
                 primary, and does its `allow-query` let the key `{key}` in?"
            ),
            (ResponseCode::NotAuth, _) => {
                "NOTAUTH: it is not the primary server of this zone; correct `server` or `zone` in configs/dns.yaml"
                    .to_owned()
            }
            (ResponseCode::NotZone, _) => {
                "NOTZONE: the name is not in this zone; correct `zone` in configs/dns.yaml, or leave it out".to_owned()
            }
            (ResponseCode::ServFail, _) => {
                "SERVFAIL: it could not do it; its log says why (has the zone loaded, and may \
                                            the server write the zone's journal in its folder?)"
                    .to_owned()
            }
            (ResponseCode::NotImp, _) => "NOTIMP: it does not know how; is it a server that takes updates?".to_owned(),
            (ResponseCode::FormErr, _) => "FORMERR: it could not read the message; its log says why".to_owned(),
            (other, _) => format!("{other} (response code {})", u16::from(other)),
        };
        anyhow!("{} refuses {wish}: {why}", self.server)
    }

    /// The server does not accept our signature. `None`: it does.
    pub(super) fn signature_refusal(&self, said: &TSIG) -> Option<Error> {
        let Self { server, key } = self;
        let (name, algorithm) = (shown(key.signer_name()), key.algorithm());
        let why = match said.error? {
            TsigError::BadKey => format!(
                "BADKEY: it has no key `{name}` for {algorithm}; correct `key_name` or `key_algorithm` in configs/dns.yaml, \
                 or add the key there (`tsig-keygen -a {algorithm} {name}`)"
            ),
            TsigError::BadSig => {
                format!("BADSIG: it has another secret for the key `{name}`; correct `key_secret` in configs/dns.yaml")
            }
            TsigError::BadTime => format!(
                "BADTIME: Petrel's clock says {}, the server's says {}; set the one that is wrong (they may differ by {} \
                 seconds)",
                time_of(said.time),
                server_time(&said.other).map_or_else(|| "something else".to_owned(), |time| time_of(time).to_string()),
                key.fudge()
            ),
            TsigError::BadTrunc => "BADTRUNC: it wants longer signatures".to_owned(),
            TsigError::Unknown(code) => format!("TSIG error {code}"),
        };
        Some(anyhow!("{server} does not accept the signature: {why}"))
    }
}

impl fmt::Display for Wish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(name) => write!(f, "to say what `{}` is", shown(name)),
            Self::Update(zone) => write!(f, "the update of the zone `{}`", shown(zone)),
            Self::Transfer(zone) => write!(f, "the transfer of the zone `{}`", shown(zone)),
        }
    }
}

/// RFC 8945 5.2.3: a server whose clock differs says what it shows, in six bytes.
fn server_time(other: &[u8]) -> Option<u64> {
    let six: [u8; 6] = other.try_into().ok()?;
    Some(six.iter().fold(0, |time, byte| (time << 8) | u64::from(*byte)))
}

fn time_of(seconds: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    use hickory_proto::rr::rdata::tsig::TsigAlgorithm;

    use crate::dns::records::name_of;

    fn peer() -> Peer {
        let key =
            TSigner::new(b"hunter2".to_vec(), TsigAlgorithm::HmacSha256, name_of("petrel").unwrap(), 300).unwrap();
        Peer { server: Server { host: "ns1".to_owned(), port: 53 }, key }
    }

    fn tsig(error: Option<TsigError>, other: Vec<u8>) -> TSIG {
        TSIG::new(TsigAlgorithm::HmacSha256, 1_790_000_000, 300, Vec::new(), 7, error, other)
    }

    #[test]
    fn each_code_has_its_own_way_out() {
        let zone = name_of("example.org").unwrap();
        for (wish, code, says) in [
            (Wish::Update(&zone), ResponseCode::Refused, "grant petrel zonesub ANY"),
            (Wish::Transfer(&zone), ResponseCode::Refused, "allow-transfer { key petrel; }"),
            (Wish::Look(&zone), ResponseCode::Refused, "`allow-query`"),
            (Wish::Update(&zone), ResponseCode::NotAuth, "not the primary server"),
            (Wish::Update(&zone), ResponseCode::NotZone, "correct `zone`"),
            (Wish::Update(&zone), ResponseCode::ServFail, "journal"),
            (Wish::Update(&zone), ResponseCode::NotImp, "takes updates"),
            (Wish::Update(&zone), ResponseCode::FormErr, "its log says why"),
            (Wish::Update(&zone), ResponseCode::Unknown(3841), "3841"),
        ] {
            let refusal = peer().refusal(wish, code).to_string();
            assert!(refusal.starts_with("ns1:53 refuses ") && refusal.contains("`example.org`"), "{refusal}");
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn a_signature_is_refused_for_a_reason_that_says_whose_fault_it_is() {
        let time = vec![0, 0, 0x6a, 0xb1, 0x3b, 0x80];
        for (error, other, says) in [
            (TsigError::BadKey, vec![], "tsig-keygen -a hmac-sha256 petrel"),
            (TsigError::BadSig, vec![], "correct `key_secret`"),
            (TsigError::BadTime, time, "Petrel's clock says 2026-09-21T14:13:20"),
            (TsigError::BadTime, vec![1], "the server's says something else"),
            (TsigError::BadTrunc, vec![], "longer"),
            (TsigError::Unknown(99), vec![], "99"),
        ] {
            let refusal = peer().signature_refusal(&tsig(Some(error), other)).unwrap().to_string();
            assert!(refusal.contains(says) && !refusal.contains("hunter2"), "{refusal}");
        }
        assert!(peer().signature_refusal(&tsig(None, Vec::new())).is_none());
    }
}
