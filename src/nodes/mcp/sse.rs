//! Server-sent events: the data of each, from bytes that come in pieces.

/// Reads events. The other fields, comments and events without data are of no use here.
#[derive(Debug, Default)]
pub(super) struct Events {
    held: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    begun: bool,
}

impl Events {
    /// Take a piece; the data of the events that it completes.
    pub fn push(&mut self, piece: &[u8]) -> Vec<String> {
        self.held.extend_from_slice(piece);
        if !self.begun && self.held.len() >= 3 {
            self.begun = true;
            if self.held.starts_with("\u{feff}".as_bytes()) {
                self.held.drain(..3);
            }
        }
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        let mut found = Vec::new();
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let length = match &rest[end..] {
                [b'\r'] => break, // a line feed may follow
                [b'\r', b'\n', ..] => 2,
                _ => 1,
            };
            let line = &rest[..end];
            rest = &rest[end + length..];
            found.extend(self.line(line));
        }
        self.held = rest.to_vec();
        found
    }

    fn line(&mut self, line: &[u8]) -> Option<String> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| String::from_utf8_lossy(&data).into_owned());
        }
        let value = match line.strip_prefix(b"data") {
            Some(b"") => b"".as_slice(),
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => value,
            _ => return None,
        };
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = "\u{feff}: comment\nevent: message\ndata: {\"a\":1}\n\nid: 1\n\ndata:one\r\ndata: two\r\rdata\n\ndata: \u{e9}\n\ndata: open\n";
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| events.push(piece)).collect();
            assert_eq!(found, ["{\"a\":1}", "one\ntwo", "", "\u{e9}"], "in pieces of {size}");
        }
    }
}
