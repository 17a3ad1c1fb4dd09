//! A child's output: kept within bounds for the result, handed on line by line while it runs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use super::{OutputSink, OutputStream};

/// Kept of each end of a stream for the result: 1 MiB in all.
const KEPT_BYTES_PER_END: usize = 512 << 10;
/// Streamed live of each stream; as much as the result keeps, so that a flood costs the store no more than that.
const STREAMED_BYTES: usize = 1 << 20;
/// A line longer than this is handed on in pieces.
const MAX_LINE_BYTES: usize = 64 << 10;
/// The size of a pipe.
const READ_BYTES: usize = 64 << 10;

/// Reads a stream until its writers have closed it, or until `ended` says that no writer who matters is left.
///
/// Somebody who left the session (a service that the action started) may hold the pipe open for ever; what the dead
/// have written is in the pipe by then and is still read.
pub(super) async fn capture(
    pipe: OwnedFd,
    stream: OutputStream,
    sink: &OutputSink,
    ended: &CancellationToken,
) -> io::Result<String> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut kept = Kept::default();
    let mut lines = Lines { stream, sink, pending: Vec::new(), left: STREAMED_BYTES };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = pipe.read(&mut buffer) => read?,
            () = ended.cancelled() => break,
        };
        if read == 0 {
            return Ok(finish(kept, lines).await);
        }
        take(&mut kept, &mut lines, &buffer, read).await;
    }
    let mut rest = File::from(pipe.into_nonblocking_fd()?);
    while let Some(read) = read_what_is_there(&mut rest, &mut buffer)? {
        take(&mut kept, &mut lines, &buffer, read).await;
    }
    Ok(finish(kept, lines).await)
}

async fn take(kept: &mut Kept, lines: &mut Lines<'_>, buffer: &[u8], read: usize) {
    let bytes = buffer.get(..read).unwrap_or(buffer);
    kept.add(bytes);
    lines.add(bytes).await;
}

async fn finish(kept: Kept, lines: Lines<'_>) -> String {
    lines.finish().await;
    kept.into_text()
}

fn read_what_is_there(pipe: &mut File, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match pipe.read(buffer) {
        Ok(0) => Ok(None),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The beginning and the end of a stream.
#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: usize,
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let (head, tail) = bytes.split_at(bytes.len().min(KEPT_BYTES_PER_END - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let surplus = self.tail.len().saturating_sub(KEPT_BYTES_PER_END);
        self.tail.drain(..surplus);
        self.left_out += surplus;
    }

    fn into_text(mut self) -> String {
        if self.left_out == 0 {
            self.head.extend(self.tail);
            return into_text(self.head);
        }
        let (head, tail) = (into_text(self.head), into_text(self.tail.into()));
        format!("{head}\n[… {} bytes left out …]\n{tail}", self.left_out)
    }
}

/// Cuts a stream into whole lines for those who watch.
struct Lines<'a> {
    stream: OutputStream,
    sink: &'a OutputSink,
    pending: Vec<u8>,
    left: usize,
}

impl Lines<'_> {
    async fn add(&mut self, bytes: &[u8]) {
        if self.left == 0 {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let whole = match self.pending.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.pending.len() >= MAX_LINE_BYTES => end_of_last_whole_character(&self.pending),
            None => return,
        };
        let rest = self.pending.split_off(whole);
        let text = std::mem::replace(&mut self.pending, rest);
        self.write(text).await;
    }

    async fn finish(mut self) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() && self.left > 0 {
            self.write(rest).await;
        }
    }

    async fn write(&mut self, text: Vec<u8>) {
        self.left = self.left.saturating_sub(text.len());
        self.sink.write(self.stream, into_text(text)).await;
        if self.left == 0 {
            self.pending = Vec::new();
            self.sink.write(self.stream, "[… more output: only its end is in the result …]\n".to_owned()).await;
        }
    }
}

/// UTF-8 starts a character anew at every byte that is not `10xxxxxx`; a character has at most four bytes.
fn end_of_last_whole_character(bytes: &[u8]) -> usize {
    let starts_character = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let last_start = bytes.iter().rposition(|&byte| starts_character(byte)).unwrap_or(0);
    match bytes.get(last_start) {
        Some(byte) if !byte.is_ascii() && last_start > 0 && bytes.len() - last_start < 4 => last_start,
        Some(_) | None => bytes.len(),
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn streamed(pieces: &[&[u8]]) -> Vec<String> {
        let (sink, mut reader) = OutputSink::channel(100);
        let mut lines = Lines { stream: OutputStream::Stdout, sink: &sink, pending: Vec::new(), left: STREAMED_BYTES };
        for piece in pieces {
            lines.add(piece).await;
        }
        lines.finish().await;
        drop(sink);
        let mut texts = Vec::new();
        while let Some(chunk) = reader.recv().await {
            texts.push(chunk.text);
        }
        texts
    }

    #[tokio::test]
    async fn watchers_get_whole_lines_and_the_rest_at_the_end() {
        assert_eq!(streamed(&[b"a", b"b\nc\nd", b"e\n", b"f"]).await, ["ab\nc\n", "de\n", "f"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_between_characters() {
        let mut long = vec![b'x'; MAX_LINE_BYTES - 1];
        long.extend_from_slice(&"ä".as_bytes()[..1]);
        let texts = streamed(&[&long, &"ä".as_bytes()[1..]]).await;
        assert_eq!(texts, ["x".repeat(MAX_LINE_BYTES - 1), "ä".to_owned()]);
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept() {
        let mut kept = Kept::default();
        kept.add(b"first");
        for _ in 0..40 {
            kept.add(&vec![b'.'; READ_BYTES]);
        }
        kept.add(b"last");
        let text = kept.into_text();
        assert!(text.starts_with("first.") && text.ends_with("..last"));
        let left_out = 40 * READ_BYTES + 9 - 2 * KEPT_BYTES_PER_END;
        assert!(text.contains(&format!("[… {left_out} bytes left out …]")));
        assert!(text.len() < 2 * KEPT_BYTES_PER_END + 100);
    }

    #[test]
    fn what_is_not_text_is_kept_readable() {
        let mut kept = Kept::default();
        kept.add(b"a\xffb");
        assert_eq!(kept.into_text(), "a\u{fffd}b");
    }
}
