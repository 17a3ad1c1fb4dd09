//! Emulators do not look at signatures. So what was sent, as it was sent, is signed once more by the library that AWS itself
//! has written for Python.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Desk, SECRET, wish};
use crate::servers::aws::{ministack, moto, signature_by_botocore};
use crate::servers::faulty_aws::{Asked, FaultyAws};

/// What a question says of its signature: the service, the signed headers with their values, the signature.
fn said(asked: &Asked) -> (String, BTreeMap<&str, &str>, String) {
    let headers: BTreeMap<&str, &str> =
        asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let authorization = headers["authorization"];
    let part = |name: &str| {
        let rest = authorization.split_once(name).unwrap().1;
        rest.split(',').next().unwrap().to_owned()
    };
    let service = part("Credential=").split('/').nth(3).unwrap().to_owned();
    let signed = part("SignedHeaders=");
    let signed = signed.split(';').map(|name| headers.get_key_value(name).unwrap());
    (service, signed.map(|(name, value)| (*name, *value)).collect(), part("Signature="))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_signed_as_aws_signs_it_in_python() {
    let (moto, ministack) = (FaultyAws::before(moto().await).await, FaultyAws::before(ministack().await).await);
    let more = json!({ "route53_endpoint": ministack.url(), "session_token": "FQoGZXIv+YXdz/EJr==" });
    let desk = Desk::with(&moto.url(), more);
    let mut wanted = wish("signed", "signed-001");
    wanted["tags"] = json!({ "note": "a b+c=ü&~*" });
    desk.succeed("create_node", wanted).await;
    desk.succeed("remove_backend", json!({ "group": "signed", "name": "signed-001" })).await;
    let zone = json!({ "domain": "signed.test", "create_hosted_zone": true });
    desk.succeed("create_zone", zone).await;
    let record = json!({ "domain": "signed.test", "name": "web-001.signed.test", "data": "10.0.0.1" });
    desk.succeed("upsert_record", record).await;

    let mut services = Vec::new();
    for (door, asked) in
        [&moto, &ministack].into_iter().flat_map(|door| door.asked().into_iter().map(move |it| (door, it)))
    {
        let (service, headers, signature) = said(&asked);
        let (url, body) = (format!("{}{}", door.url(), asked.path), String::from_utf8(asked.body.clone()).unwrap());
        let headers = serde_json::to_string(&headers).unwrap();
        let expected = signature_by_botocore([asked.method.as_str(), &url, &body, SECRET, &service, &headers]).await;
        assert_eq!(signature, expected, "{} {url} {body}", asked.method);
        services.push(service);
    }
    services.sort();
    services.dedup();
    assert_eq!(services, ["ec2", "elasticloadbalancing", "route53"]);
}
