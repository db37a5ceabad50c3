//! Reading the lines of an export.

use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};

use super::super::line::{AnyHead, Carried, End, FORMAT, Head, Line};
use super::super::{PortableError, hex};

/// No line is longer: what is, is no export.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// Reads lines, and holds the last one against all others.
pub(super) struct LineReader<'r> {
    from: &'r mut dyn BufRead,
    line: Vec<u8>,
    number: u64,
    hasher: Sha256,
    carried: Carried,
}

impl<'r> LineReader<'r> {
    pub(super) fn new(from: &'r mut dyn BufRead) -> Self {
        Self {
            from,
            line: Vec::new(),
            number: 0,
            hasher: Sha256::new(),
            carried: Carried::default(),
        }
    }

    /// The first line.
    pub(super) fn head(&mut self) -> Result<Head, PortableError> {
        let foreign = |error: serde_json::Error| PortableError::Foreign(error.to_string());
        self.read()?;
        let any: AnyHead = serde_json::from_slice(&self.line).map_err(foreign)?;
        let (found, understood) = (any.head.format, FORMAT);
        if found != understood {
            return Err(PortableError::Format { found, understood });
        }
        self.hasher.update(&self.line);
        match serde_json::from_slice(&self.line).map_err(foreign)? {
            Line::Head(head) => Ok(head),
            _ => Err(PortableError::Foreign("it has no head".to_owned())),
        }
    }

    /// The next line; none at the end, once that is found to be right.
    pub(super) fn next(&mut self) -> Result<Option<Line>, PortableError> {
        self.read()?;
        let line = serde_json::from_slice(&self.line);
        match line.map_err(|error| self.wrong(&error))? {
            Line::Head(_) => Err(self.wrong(&"it is a second head")),
            Line::End(end) => self.check(&end).map(|()| None),
            line => {
                self.hasher.update(&self.line);
                self.carried.count(&line);
                Ok(Some(line))
            }
        }
    }

    fn check(&mut self, end: &End) -> Result<(), PortableError> {
        let found = hex(&std::mem::take(&mut self.hasher).finalize());
        if found != end.sha256 {
            return Err(PortableError::Altered(
                "its checksum does not hold".to_owned(),
            ));
        }
        if self.carried != end.carried {
            return Err(PortableError::Altered("its counts do not hold".to_owned()));
        }
        let mut more = [0];
        match self.from.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(PortableError::Altered(
                "it goes on after its end".to_owned(),
            )),
            Err(error) => Err(PortableError::Read(error.to_string())),
        }
    }

    fn read(&mut self) -> Result<(), PortableError> {
        self.line.clear();
        let mut bounded = (&mut *self.from).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut self.line);
        read.map_err(|error| PortableError::Read(error.to_string()))?;
        if self.line.last() != Some(&b'\n') {
            return Err(PortableError::Cut(self.number));
        }
        self.number += 1;
        Ok(())
    }

    /// What is wrong with the line that was read last.
    pub(super) fn wrong(&self, what: &dyn std::fmt::Display) -> PortableError {
        PortableError::Altered(format!("line {}: {what}", self.number))
    }

    /// The length of the line that was read last.
    pub(super) fn line_bytes(&self) -> usize {
        self.line.len()
    }

    pub(super) fn carried(self) -> Carried {
        self.carried
    }
}
