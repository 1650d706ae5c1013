//! Finds the ends of heads and of chunked bodies in the bytes of a connection. The bytes may arrive in pieces of any size.
//!
//! The framework parses the messages. The scans only decide how far the framework may read.

/// The end of a chunked body without trailers. If the data of a body contains these bytes, the framework gets the body in more
/// pieces, which does no harm.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Finds the end of a head: the first empty line after a line that is not empty.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Number of bytes of the head so far.
    bytes: usize,
    /// Whether the head has a line that is not empty.
    has_line: bool,
    /// Whether the current line has a character other than a carriage return.
    line_has_text: bool,
}

impl HeadScan {
    /// Returns the number of bytes up to the end of the head; `None` if the head is incomplete.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let has_text = self.line_has_text || has_text(&bytes[start..end]);
            (start, self.line_has_text) = (end + 1, false);
            if !has_text && self.has_line {
                *self = Self::default();
                return Some(start);
            }
            self.has_line |= has_text;
        }
        self.line_has_text |= has_text(&bytes[start..]);
        self.bytes += bytes.len();
        None
    }

    /// Returns the number of bytes of the unfinished head.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn has_text(line: &[u8]) -> bool {
    line.iter().any(|byte| *byte != b'\r')
}

/// Finds the last chunk of a body.
#[derive(Debug, Default)]
pub(super) struct LastChunkScan {
    /// Number of bytes of [`LAST_CHUNK`] at the end of the bytes so far.
    matched: usize,
}

impl LastChunkScan {
    /// Returns the number of bytes up to the end of the last chunk; `None` if the body is incomplete.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            self.matched = match *byte {
                byte if byte == LAST_CHUNK[self.matched] => self.matched + 1,
                b'0' => 1,
                _ => 0,
            };
            if self.matched == LAST_CHUNK.len() {
                self.matched = 0;
                return Some(index + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans a text in pieces of this size, and returns the lengths of its heads.
    fn heads(text: &str, piece: usize) -> Vec<usize> {
        let (mut scan, mut heads, mut length) = (HeadScan::default(), Vec::new(), 0);
        for mut bytes in text.as_bytes().chunks(piece) {
            while let Some(end) = scan.end(bytes) {
                heads.push(length + end);
                (bytes, length) = (&bytes[end..], 0);
            }
            length += bytes.len();
        }
        heads
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line_for_every_size_of_pieces() {
        let heads_of = [
            "\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "GET /\n\n",
            "\nGET / HTTP/1.0\r\n\n",
            "GET /\r\na: b\n\r\n",
        ];
        let text = [&heads_of.concat(), "GET / unfinished\r\n"].concat();
        let lengths: Vec<_> = heads_of.iter().map(|head| head.len()).collect();
        for piece in 1..text.len() {
            assert_eq!(heads(&text, piece), lengths, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn an_unfinished_head_has_a_size() {
        let mut scan = HeadScan::default();
        assert_eq!(
            (scan.end(b"GET / HTTP/1.1\r\n"), scan.end(b"host: x\r\n"), scan.bytes()),
            (None, None, 25)
        );
        assert_eq!((scan.end(b"\r\nGET"), scan.bytes()), (Some(2), 0));
    }

    #[test]
    fn a_chunked_body_ends_with_its_last_chunk_for_every_size_of_pieces() {
        let body = b"3\r\n000\r\n5\r\n00\r\n0\r\n0\r\n\r\n";
        for piece in 1..body.len() {
            let mut scan = LastChunkScan::default();
            let ends: Vec<_> = body.chunks(piece).map(|bytes| scan.end(bytes)).collect();
            let (last, before) = ends.split_last().unwrap();
            assert!(
                last.is_some() && before.iter().all(Option::is_none),
                "pieces of {piece} bytes: {ends:?}"
            );
        }
    }
}
