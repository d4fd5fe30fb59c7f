//! Bytes that are kept for later: in memory as long as they are few, then in a temporary file that has no name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::bytes::{index, put};

/// Bytes that are kept in memory.
const LIMIT: u64 = 8 << 20;

/// Bytes at offsets; zeros where nothing was written.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    memory: Vec<u8>,
    file: Option<File>,
    end: u64,
}

impl Scratch {
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.end = self.end.max(at + bytes.len() as u64);
        if let Some(file) = &self.file {
            return file.write_all_at(bytes, at);
        }
        if self.end > LIMIT {
            let file = tempfile::tempfile()?;
            file.write_all_at(&self.memory, 0)?;
            self.memory = Vec::new();
            file.write_all_at(bytes, at)?;
            self.file = Some(file);
            return Ok(());
        }
        self.memory.resize(index(self.end), 0);
        put(&mut self.memory, index(at), bytes);
        Ok(())
    }

    /// Fills the buffer; with zeros behind the end.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let here = buffer.len().min(index(self.end.saturating_sub(at)));
        let (buffer, rest) = buffer.split_at_mut(here);
        rest.fill(0);
        if let Some(file) = &self.file {
            // What was never written may lie behind the file's end.
            let mut done = 0;
            while done < here {
                let place = buffer.get_mut(done..).unwrap_or_default();
                match file.read_at(place, at + done as u64)? {
                    0 => {
                        place.fill(0);
                        break;
                    }
                    count => done += count,
                }
            }
        } else if let Some(bytes) = self.memory.get(index(at)..index(at) + here) {
            buffer.copy_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_in_memory_and_in_a_file() {
        let mut scratch = Scratch::default();
        let mut expected = vec![0; 64];
        for (at, byte) in [(40, 1), (0, 2), (41, 3)] {
            scratch.write(at, &[byte; 4]).unwrap();
            expected[index(at)..index(at) + 4].fill(byte);
        }
        let mut found = vec![9; 64];
        scratch.read(0, &mut found).unwrap();
        assert_eq!(found, expected);
        scratch.write(LIMIT, b"far").unwrap();
        scratch.write(20, b"near").unwrap();
        expected[20..24].copy_from_slice(b"near");
        scratch.read(0, &mut found).unwrap();
        assert_eq!((found, scratch.file.is_some()), (expected, true));
        let mut end = [9; 8];
        scratch.read(LIMIT - 2, &mut end).unwrap();
        assert_eq!(&end, b"\0\0far\0\0\0");
    }
}
