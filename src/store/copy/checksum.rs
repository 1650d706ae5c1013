//! Computes checksums of tables.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::super::tables::Cell;

/// Number of rows of a table, and the SHA-256 of their values in the order of the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The number of rows.
    pub rows: u64,
    /// The digest in hexadecimal digits.
    pub sha256: String,
}

impl Checksum {
    /// Returns the first twelve digits of the digest, for display.
    pub fn short(&self) -> &str {
        self.sha256.get(..12).unwrap_or(&self.sha256)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows ({})", self.rows, self.short())
    }
}

/// Builds a checksum row by row.
pub(super) struct ChecksumBuilder {
    rows: u64,
    digest: Context,
    encoded: Vec<u8>,
}

impl ChecksumBuilder {
    pub(super) fn new() -> Self {
        Self { rows: 0, digest: Context::new(&SHA256), encoded: Vec::new() }
    }

    pub(super) fn add(&mut self, row: &[Cell]) {
        self.rows += 1;
        self.encoded.clear();
        row.iter().for_each(|cell| encode(cell, &mut self.encoded));
        self.digest.update(&self.encoded);
    }

    pub(super) fn finish(self) -> Checksum {
        let digest = self.digest.finish();
        let sha256 = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Checksum { rows: self.rows, sha256 }
    }
}

/// Appends the encoding of a cell: its type, its length and its value. Different cells have different encodings.
fn encode(cell: &Cell, encoded: &mut Vec<u8>) {
    let mut sized = |kind: u8, bytes: &[u8]| {
        encoded.push(kind);
        encoded.extend((bytes.len() as u64).to_be_bytes());
        encoded.extend(bytes);
    };
    match cell {
        Cell::Null => encoded.push(0),
        Cell::Integer(number) => sized(1, &number.to_be_bytes()),
        Cell::Boolean(is) => sized(2, &[u8::from(*is)]),
        Cell::Text(text) => sized(3, text.as_bytes()),
        Cell::Bytes(bytes) => sized(4, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(rows: &[&[Cell]]) -> Checksum {
        let mut builder = ChecksumBuilder::new();
        rows.iter().for_each(|row| builder.add(row));
        builder.finish()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn different_rows_have_different_checksums() {
        let rows: &[&[&[Cell]]] = &[
            &[],
            &[&[Cell::Null, Cell::Null]],
            &[&[Cell::Null], &[Cell::Null]],
            &[&[text("")]],
            &[&[text("ab"), text("c")]],
            &[&[text("a"), text("bc")]],
            &[&[text("a")], &[text("bc")]],
            &[&[text("bc")], &[text("a")]],
            &[&[Cell::Bytes(b"a".to_vec())], &[Cell::Bytes(b"bc".to_vec())]],
            &[&[Cell::Integer(1)]],
            &[&[Cell::Integer(256)]],
            &[&[Cell::Boolean(true)]],
            &[&[Cell::Boolean(false)]],
        ];
        let digests: std::collections::HashSet<_> =
            rows.iter().map(|rows| (rows.len(), checksum(rows).sha256)).collect();
        assert_eq!(digests.len(), rows.len());
        assert_eq!(checksum(&[]).short(), "e3b0c44298fc");
    }
}
