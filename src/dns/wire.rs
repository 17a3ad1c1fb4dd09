//! Signed questions and answers over one TCP connection. Every wait has a limit, every answer is bounded and believed
//! only with a signature that is good.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType, TSigVerifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::refusal::{Peer, Wish};
use super::settings::Settings;
use crate::clock::{Clock, timeout};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// From the question to the end of its answer. A busy server answers an update in milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const TRANSFER_LIMIT: Duration = Duration::from_secs(60);
/// A zone with more is no place for names that come and go; it would lie in memory at once.
const MOST_RECORDS_OF_A_ZONE: usize = 200_000;

/// A connection to the server.
pub(super) struct Session {
    stream: TcpStream,
    pub(super) peer: Peer,
    clock: Arc<dyn Clock>,
    /// Answers come in order on a connection of its own, and are signed: nobody gains by guessing the next one.
    last_id: u16,
}

impl Session {
    /// Connects to the server of the configuration.
    pub(super) async fn connect(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let peer = Peer { server: settings.server.clone(), key: settings.key.clone() };
        let address = (peer.server.host.as_str(), peer.server.port);
        let connected = timeout(&**clock, CONNECT_LIMIT, TcpStream::connect(address)).await;
        let stream = connected.map_err(anyhow::Error::from).and_then(|stream| Ok(stream?));
        let stream = stream.with_context(|| {
            format!("connecting to the DNS server {} by TCP (see `server` in configs/dns.yaml)", peer.server)
        })?;
        stream.set_nodelay(true).context("setting up the connection")?;
        Ok(Self { stream, peer, clock: Arc::clone(clock), last_id: 0 })
    }

    /// What stands at a name.
    pub(super) async fn look(&mut self, name: &Name, kind: RecordType) -> anyhow::Result<Message> {
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(name.clone(), kind));
        self.ask(question, Wish::Look(name)).await
    }

    /// Asks, and gives back an answer whose signature is good; what it says may be a no.
    pub(super) async fn ask(&mut self, question: Message, wish: Wish<'_>) -> anyhow::Result<Message> {
        let clock = Arc::clone(&self.clock);
        let asked = async {
            let mut verifier = self.send(question).await?;
            self.receive(&mut verifier, wish).await
        };
        let answer = timeout(&*clock, ANSWER_LIMIT, asked).await;
        answer.map_err(|_| anyhow!("{} did not answer {wish} within {ANSWER_LIMIT:?}", self.peer.server))?
    }

    /// All records of a zone.
    pub(super) async fn transfer(&mut self, zone: &Name) -> anyhow::Result<Vec<Record>> {
        let clock = Arc::clone(&self.clock);
        let transferred = timeout(&*clock, TRANSFER_LIMIT, self.receive_zone(zone)).await;
        let server = &self.peer.server;
        transferred.map_err(|_| anyhow!("{server} did not send all of the zone within {TRANSFER_LIMIT:?}"))?
    }

    /// RFC 5936: a zone begins and ends with its SOA record.
    async fn receive_zone(&mut self, zone: &Name) -> anyhow::Result<Vec<Record>> {
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(zone.clone(), RecordType::AXFR));
        let mut verifier = self.send(question).await?;
        let (mut records, mut ends) = (Vec::new(), 0);
        while ends < 2 {
            let mut part = self.receive(&mut verifier, Wish::Transfer(zone)).await?;
            if part.response_code != ResponseCode::NoError {
                return Err(self.peer.refusal(Wish::Transfer(zone), part.response_code));
            }
            ensure!(!part.answers.is_empty(), "{} sent a part of the zone without records", self.peer.server);
            ends += part.answers.iter().filter(|record| record.record_type() == RecordType::SOA).count();
            records.append(&mut part.answers);
            ensure!(ends > 0, "{} sent a zone that does not begin with its SOA record", self.peer.server);
            let enough = records.len() <= MOST_RECORDS_OF_A_ZONE;
            ensure!(enough, "the zone has more than {MOST_RECORDS_OF_A_ZONE} records; give names a smaller zone");
        }
        Ok(records)
    }

    async fn send(&mut self, mut question: Message) -> anyhow::Result<TSigVerifier> {
        self.last_id = self.last_id.wrapping_add(1);
        question.metadata.id = self.last_id;
        let now = u64::try_from(self.clock.now().as_micros() / 1_000_000).unwrap_or_default();
        let signed = question.finalize(&self.peer.key, now).context("signing a DNS message")?;
        let verifier = signed.ok_or_else(|| anyhow!("a DNS message was not signed"))?;
        let bytes = question.to_vec().context("writing a DNS message")?;
        let length = u16::try_from(bytes.len()).context("a DNS message has at most 65535 bytes")?;
        let framed = [&length.to_be_bytes()[..], &bytes].concat();
        self.stream.write_all(&framed).await.with_context(|| format!("sending to {}", self.peer.server))?;
        Ok(verifier)
    }

    async fn receive(&mut self, verifier: &mut TSigVerifier, wish: Wish<'_>) -> anyhow::Result<Message> {
        let lost = || format!("waiting for {} to answer {wish}", self.peer.server);
        let length = self.stream.read_u16().await.with_context(lost)?;
        let mut bytes = vec![0; length.into()];
        self.stream.read_exact(&mut bytes).await.with_context(lost)?;
        let answer =
            Message::from_vec(&bytes).with_context(|| format!("reading what {} answered", self.peer.server))?;
        let ours = answer.id == self.last_id && answer.message_type == MessageType::Response;
        ensure!(ours, "{} answered something that was not asked", self.peer.server);
        self.verify(&answer, &bytes, verifier, wish)?;
        Ok(answer)
    }

    /// The verifier reads the bytes once more and trusts its arithmetic, so it is given only what could be read.
    fn verify(
        &self,
        answer: &Message,
        bytes: &[u8],
        verifier: &mut TSigVerifier,
        wish: Wish<'_>,
    ) -> anyhow::Result<()> {
        let Peer { server, .. } = &self.peer;
        let Some(signature) = &answer.signature else {
            if answer.response_code != ResponseCode::NoError {
                return Err(self.peer.refusal(wish, answer.response_code));
            }
            bail!("{server} answered without a signature, and is not believed");
        };
        if let Some(refusal) = self.peer.signature_refusal(&signature.data) {
            return Err(refusal);
        }
        ensure!(signature.data.time >= u64::from(signature.data.fudge), "{server} signed at no time that there was");
        let verified = verifier.verify(bytes);
        verified.map(drop).with_context(|| format!("{server} answered with a signature that is not good"))
    }
}
