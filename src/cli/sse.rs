//! Server-sent events from bytes: fields gather until an empty line ends the event. Knows nothing of what they say.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Event {
    /// What to come back with; empty if the server gives none.
    pub(super) id: String,
    /// As `st2.execution__update`.
    pub(super) name: String,
    /// Lines joined.
    pub(super) data: String,
}

/// Cuts a stream of bytes into events, wherever the pieces begin and end.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    unfinished_line: Vec<u8>,
    event: Event,
}

impl Decoder {
    /// Takes the next piece and gives the events that it completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<Event> {
        self.unfinished_line.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.unfinished_line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished_line.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(self.take_line(line.trim_end_matches(['\n', '\r'])));
        }
        events
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.name),
            "data" if self.event.data.is_empty() => value.clone_into(&mut self.event.data),
            "data" => {
                self.event.data.push('\n');
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cutting() {
        let text = "\n: heartbeat\n\nid: 7\nevent: a\ndata: {\"x\":\ndata: \"ü\"}\n\nevent: b\r\ndata:1\r\n\r\n";
        let expected = vec![
            Event { id: "7".into(), name: "a".into(), data: "{\"x\":\n\"ü\"}".into() },
            Event { id: String::new(), name: "b".into(), data: "1".into() },
        ];
        for size in 1..text.len() {
            let mut decoder = Decoder::default();
            let events: Vec<Event> = text.as_bytes().chunks(size).flat_map(|piece| decoder.push(piece)).collect();
            assert_eq!(events, expected, "pieces of {size} bytes");
        }
    }
}
