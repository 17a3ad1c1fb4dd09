//! Two emulators of AWS, each for what it does as AWS does: moto for EC2 and ELBv2, ministack for Route 53. Neither looks
//! at signatures.

use std::process::Command;
use std::time::Duration;

use reqwest::Client;
use tokio::sync::OnceCell;

use super::guarded::Guarded;
use super::ports::free_port;
use super::python::{MINISTACK, MOTO, Wheel};
use crate::support::eventually;

/// A first call of an emulator loads the service.
const PATIENCE: Duration = Duration::from_secs(30);

/// An emulator that runs.
pub(crate) struct Emulator {
    _guarded: Guarded,
    url: String,
}

/// The one that has EC2 and ELBv2, shared by all stories of this process: they name their groups differently.
pub(crate) async fn moto() -> &'static Emulator {
    static SERVER: OnceCell<Emulator> = OnceCell::const_new();
    let start = async || {
        let port = free_port();
        let mut server = Command::new(MOTO.program().await);
        server.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        Emulator::start(&MOTO, server, port, "ec2", "Action=DescribeVpcs&Version=2016-11-15").await
    };
    SERVER.get_or_init(start).await
}

/// The one that has Route 53, shared as well: stories make zones of their own.
pub(crate) async fn ministack() -> &'static Emulator {
    static SERVER: OnceCell<Emulator> = OnceCell::const_new();
    let start = async || {
        let port = free_port();
        let mut server = Command::new(MINISTACK.program().await);
        // Without it, the whole network could ask.
        server.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string()).env("LOG_LEVEL", "WARNING");
        Emulator::start(&MINISTACK, server, port, "sts", "Action=GetCallerIdentity&Version=2011-06-15").await
    };
    SERVER.get_or_init(start).await
}

/// Asks botocore, which moto brings with it and AWS has written, for the signature of a request: method, URL, body,
/// secret, service, and the headers that are signed as JSON.
pub(crate) async fn signature_by_botocore(arguments: [&str; 6]) -> String {
    const PROGRAM: &str = r#"
import json, sys
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
method, url, body, secret, service, headers = sys.argv[1:]
headers = json.loads(headers)
auth = SigV4Auth(Credentials("AKIDEXAMPLE", secret), service, "us-east-1")
address, _, query = url.partition("?")
params = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
from urllib.parse import unquote
params = {unquote(name): unquote(value) for name, value in params}
request = AWSRequest(method=method, url=address, params=params, data=body.encode(), headers=headers)
request.context["timestamp"] = headers["x-amz-date"]
canonical = auth.canonical_request(request)
print(auth.signature(auth.string_to_sign(request, canonical), request))
"#;
    MOTO.run_python(PROGRAM, &arguments).await.trim().to_owned()
}

impl Emulator {
    async fn start(wheel: &'static Wheel, server: Command, port: u16, service: &str, first: &str) -> Self {
        super::announce();
        let mut guarded = Guarded::new(wheel.name, "TERM");
        guarded.start(server);
        let url = format!("http://127.0.0.1:{port}");
        eventually("an emulator of AWS answers", async || {
            guarded.assert_alive();
            try_ask(&url, service, first).await
        })
        .await;
        Self { _guarded: guarded, url }
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks a query API as somebody who is not Petrel.
    pub(crate) async fn ask(&self, service: &str, form: &str) -> String {
        try_ask(&self.url, service, form).await.unwrap_or_else(|| panic!("no answer to {form}"))
    }

    /// Sends a document to Route 53 as somebody who is not Petrel.
    pub(crate) async fn send(&self, path: &str, document: String) -> String {
        let request = client().post(format!("{}{path}", self.url)).header("authorization", scope("route53"));
        let response = request.body(document).send().await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.text().await.expect("an answer")
    }
}

async fn try_ask(url: &str, service: &str, form: &str) -> Option<String> {
    let request = client().post(format!("{url}/")).header("authorization", scope(service)).body(form.to_owned());
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.send().await.ok()?;
    let is_good = response.status().is_success();
    let text = response.text().await.ok()?;
    is_good.then_some(text)
}

/// Emulators go by this to know which service is meant.
fn scope(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client")
}
