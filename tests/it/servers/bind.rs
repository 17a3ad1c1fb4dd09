//! A BIND of our own: one zone that takes signed updates, keys with more rights and with fewer, and the tools that come
//! with it to look at the zone without us.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::guarded::Guarded;
use super::packages::BIND;
use super::ports::{free_port, random};
use crate::support::eventually;

/// The zone that it is the primary of.
pub(crate) const ZONE: &str = "petrel.test";

/// Who may do what in the zone, by the name of the key.
const KEYS: [(&str, &str); 3] = [
    // May change and transfer it.
    ("petrel", "hmac-sha256"),
    ("strong", "hmac-sha512"),
    // May only look.
    ("guest", "hmac-sha256"),
];

/// A server that runs, or the place where one ran.
pub(crate) struct Bind {
    guarded: Guarded,
    program: PathBuf,
    port: u16,
    secrets: [String; KEYS.len()],
}

impl Bind {
    /// Makes one and waits until it answers.
    pub(crate) async fn start() -> Self {
        super::announce();
        let program = BIND.programs().await.join("named");
        let guarded = Guarded::new(BIND.name, "TERM");
        let mut bind = Self { guarded, program, port: free_port(), secrets: KEYS.map(|_| secret()) };
        bind.write_files();
        bind.start_again().await;
        bind
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The secret of a key in base64.
    pub(crate) fn secret(&self, key: &str) -> &str {
        let place = KEYS.iter().position(|(name, _)| *name == key).expect("one of its keys");
        &self.secrets[place]
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill_9(&mut self) {
        self.guarded.kill_9().await;
    }

    /// Starts it after its end, on the same port and the same zone, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let folder = self.guarded.folder();
        let mut server = Command::new(&self.program);
        server.args(["-g", "-n", "1", "-c"]).arg(folder.join("named.conf")).current_dir(folder);
        self.guarded.start(server);
        eventually("BIND answers for its zone", async || {
            self.guarded.assert_alive();
            let serial = self.dig(&["+tries=1", "+time=1", "+short", ZONE, "SOA"]).await;
            (!serial.is_empty()).then_some(())
        })
        .await;
    }

    /// What stands at a name, by type, as anybody sees it.
    pub(crate) async fn resolve(&self, name: &str, kind: &str) -> Vec<String> {
        self.dig(&["+short", name, kind]).await
    }

    /// All records of the zone as `name type data`, sorted, without those that every zone has.
    pub(crate) async fn records(&self) -> Vec<String> {
        let lines = self.dig(&["-y", &self.key("petrel"), "+noall", "+answer", "+onesoa", ZONE, "AXFR"]).await;
        let records = lines.iter().map(|line| {
            let [name, _ttl, _class, kind, data @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
                panic!("no record: {line}");
            };
            format!("{} {kind} {}", name.trim_end_matches('.'), data.join(" "))
        });
        let mut records: Vec<String> = records.filter(|record| !record.starts_with(&format!("{ZONE} "))).collect();
        records.sort();
        records
    }

    /// Changes the zone as somebody else would: lines of `nsupdate`.
    pub(crate) async fn change(&self, lines: &str) {
        let script = self.guarded.folder().join("nsupdate");
        let text = format!("server 127.0.0.1 {}\nzone {ZONE}\n{lines}\nsend\n", self.port);
        fs::write(&script, text).expect("our own folder");
        let mut nsupdate = Command::new("/usr/bin/nsupdate");
        nsupdate.args(["-y", &self.key("petrel")]).arg(&script);
        self.guarded.run(nsupdate).await;
    }

    async fn dig(&self, arguments: &[&str]) -> Vec<String> {
        let mut dig = tokio::process::Command::new("/usr/bin/dig");
        dig.args(["@127.0.0.1", "-p", &self.port.to_string(), "+tcp"]).args(arguments);
        let said = dig.output().await.expect("dig starts").stdout;
        let lines = String::from_utf8_lossy(&said);
        lines.lines().filter(|line| !line.is_empty() && !line.starts_with(';')).map(str::to_owned).collect()
    }

    fn key(&self, name: &str) -> String {
        format!("hmac-sha256:{name}:{}", self.secret(name))
    }

    fn write_files(&self) {
        let folder = self.guarded.folder().display().to_string();
        let keys = KEYS.iter().zip(&self.secrets).map(|((name, algorithm), secret)| {
            format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n")
        });
        let configuration = format!(
            "{keys}options {{\n  directory \"{folder}\";\n  listen-on port {port} {{ 127.0.0.1; }};\n  \
             listen-on-v6 {{ none; }};\n  pid-file \"{folder}/named.pid\";\n  session-keyfile \"{folder}/session.key\";\n  \
             lock-file none;\n  recursion no;\n  dnssec-validation no;\n  notify no;\n}};\ncontrols {{ }};\n\
             zone \"{ZONE}\" {{\n  type primary;\n  file \"{folder}/zone\";\n  \
             allow-transfer {{ key petrel; key strong; }};\n  \
             update-policy {{ grant petrel zonesub ANY; grant strong zonesub ANY; }};\n}};\n",
            keys = keys.collect::<String>(),
            port = self.port,
        );
        let zone = format!("$ORIGIN {ZONE}.\n$TTL 30\n@ SOA ns admin 1 60 60 600 5\n@ NS ns\nns A 127.0.0.1\n");
        for (name, text) in [("named.conf", configuration), ("zone", zone)] {
            fs::write(self.guarded.folder().join(name), text).expect("our own folder");
        }
    }
}

fn secret() -> String {
    let bytes: Vec<u8> = (0..8).flat_map(|_| random().to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}
