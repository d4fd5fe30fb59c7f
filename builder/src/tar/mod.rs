//! Reads tar streams, and writes their entries: ustar, pax and GNU, with extended attributes, access lists and sparse files.
//!
//! A reader of its own, because what decides here is what others leave to their callers: paths, names and attributes as bytes, the
//! vendors' pax records, sparse files as maps instead of zeros, and an answer to any bytes whatever, as archives come from
//! elsewhere. Sources: POSIX.1-2024 `pax`, GNU tar's manual, star's and libarchive's descriptions of their records.

mod acl;
mod header;
mod pax;
#[cfg(test)]
mod tests;
pub mod write;

use std::io::{self, BufReader, Read, Seek};

use header::{BLOCK, Header};
use pax::Records;

/// Largest extended header: longer ones are no files' names and attributes any more.
const MAX_EXTENDED: u64 = 4 << 20;

/// Most parts of a sparse file: their map is kept in memory, and may be much smaller in a compressed archive.
const MAX_PARTS: u64 = 1 << 20;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ends where more was promised.
    #[error("the archive ends too early, inside {inside}: it was cut, or is not complete yet")]
    Cut {
        /// A file's path, or a part of the format.
        inside: String,
    },
    /// A header with a wrong checksum.
    #[error("not a tar header at byte {at}: the archive is damaged, compressed, or no tar archive")]
    Header {
        /// Where it begins.
        at: u64,
    },
    /// Something in an entry that cannot be.
    #[error("{path}: {what}")]
    Entry {
        /// The entry's path.
        path: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// Reading failed.
    #[error("reading the archive")]
    Io(#[from] io::Error),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// One more name for an earlier entry.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Pipe,
}

/// One entry. Its content is read by [`Archive::read`] before the next entry is asked for; what is left is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as it is in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions, without the type.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Seconds and nanoseconds of the last change.
    pub mtime: (i64, u32),
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Parts of the file that the archive has, in order, as offset and length; the rest is holes.
    pub parts: Vec<(u64, u64)>,
    /// The target of a link.
    pub target: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes by their full names; access lists are among them, as the kernel has them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Entries one after the other: an archive, or what becomes of one in passing.
pub trait Entries {
    /// The next entry; `None` at the end.
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError>;

    /// Fills the buffer with the next bytes of the current entry's content, the parts one behind the other.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError>;
}

impl<R: Read> Entries for Archive<R> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        Archive::next_entry(self)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        Archive::read(self, buffer)
    }
}

/// A tar stream. It reads in small pieces: give it a buffered reader.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
    /// Bytes of the current entry's content that are left, and padding behind it.
    left: u64,
    padding: u64,
    path: Vec<u8>,
    global: Records,
}

impl<R: Read> Archive<R> {
    /// Begins to read.
    pub fn new(input: R) -> Self {
        Archive { input, at: 0, left: 0, padding: 0, path: Vec::new(), global: Records::default() }
    }

    /// Bytes read so far: behind an entry's header, where its content begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// What it reads from; behind the end of the archive there may be more.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Fills the buffer with the next bytes of the current entry's content.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let wanted = buffer.len() as u64;
        if wanted > self.left {
            return Err(self.cut());
        }
        self.fill(buffer)?;
        self.left -= wanted;
        Ok(())
    }

    fn cut(&self) -> TarError {
        let inside =
            if self.path.is_empty() { "a header".into() } else { String::from_utf8_lossy(&self.path).into_owned() };
        TarError::Cut { inside }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.at += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.cut()),
            Err(error) => Err(error.into()),
        }
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), TarError> {
        let mut buffer = [0; BLOCK];
        while bytes > 0 {
            let now = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(buffer.get_mut(..now).unwrap_or_default())?;
            bytes -= now as u64;
        }
        Ok(())
    }

    /// A block of the archive; `None` behind its end.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let rest = self.left.saturating_add(self.padding);
        self.skip(rest)?;
        (self.left, self.padding) = (0, 0);
        self.path.clear();
        let at = self.at;
        let mut block = [0; BLOCK];
        let (first, rest) = block.split_at_mut(1);
        // Archives without the two empty blocks at their end are common, but nothing at all is no archive.
        if at > 0 && self.input.read(first)? == 0 {
            return Ok(None);
        }
        if at == 0 {
            self.fill(first)?;
        } else {
            self.at += 1;
        }
        self.fill(rest)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        Header::parse(&block).map(Some).ok_or(TarError::Header { at })
    }

    /// The content of an extended header.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        if header.size > MAX_EXTENDED {
            return Err(self.wrong(&format!(
                "an extended header of at most {MAX_EXTENDED} bytes expected, {} found",
                header.size
            )));
        }
        let mut content = vec![0; usize::try_from(header.size).unwrap_or(0)];
        self.fill(&mut content)?;
        self.skip(padding(header.size))?;
        Ok(content)
    }

    fn wrong(&self, what: &str) -> TarError {
        let path = if self.path.is_empty() {
            format!("archive, byte {}", self.at)
        } else {
            String::from_utf8_lossy(&self.path).into()
        };
        TarError::Entry { path, what: what.into() }
    }

    /// The next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut records = self.global.clone();
        let (mut long_path, mut long_target) = (None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            match header.kind {
                b'L' => long_path = Some(until_nul(&self.extended(&header)?)),
                b'K' => long_target = Some(until_nul(&self.extended(&header)?)),
                b'x' | b'X' => {
                    let content = self.extended(&header)?;
                    records.parse(&content).map_err(|what| self.wrong(&what))?;
                }
                b'g' => {
                    let content = self.extended(&header)?;
                    self.global.parse(&content).map_err(|what| self.wrong(&what))?;
                    records = self.global.clone();
                }
                _ => return self.entry(header, records, long_path, long_target).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: Header,
        mut records: Records,
        long_path: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let path =
            records.take("GNU.sparse.name").or_else(|| records.take("path")).or(long_path).unwrap_or(header.path);
        self.path.clone_from(&path);
        let number = |name: &str, records: &mut Records, short: u64| match records.take(name) {
            None => Ok(short),
            Some(text) => pax::number(&text).ok_or_else(|| format!("a number expected as {name}")),
        };
        let kind = match header.kind {
            _ if path.ends_with(b"/") && matches!(header.kind, 0 | b'0') => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Pipe,
            b'S' => return Err(self.wrong("an old GNU sparse file: make the archive with --format=posix")),
            other => return Err(self.wrong(&format!("entries of type {:?} are not known", char::from(other)))),
        };
        let stored = number("size", &mut records, header.size).map_err(|what| self.wrong(&what))?;
        if kind == Kind::Directory && header.kind != b'5' && stored > 0 {
            return Err(self.wrong("a directory by its name, a file with content by its header"));
        }
        let has_content = kind == Kind::File;
        if has_content {
            (self.left, self.padding) = (stored, padding(stored));
        }
        let (size, parts) = if has_content { self.sparse(&mut records, stored)? } else { (0, Vec::new()) };
        let id =
            |value: u64, what: &str| u32::try_from(value).map_err(|_| format!("{what} {value} is larger than 32 bits"));
        let uid = number("uid", &mut records, header.uid)
            .and_then(|n| id(n, "the owner"))
            .map_err(|what| self.wrong(&what))?;
        let gid = number("gid", &mut records, header.gid)
            .and_then(|n| id(n, "the group"))
            .map_err(|what| self.wrong(&what))?;
        let mtime = match records.take("mtime") {
            None => (header.mtime, 0),
            Some(text) => pax::time(&text).ok_or_else(|| self.wrong("a time expected as mtime"))?,
        };
        let target = records.take("linkpath").or(long_target).unwrap_or(header.target);
        let xattrs = records.xattrs().map_err(|what| self.wrong(&what))?;
        Ok(Entry { path, kind, mode: header.mode, uid, gid, mtime, size, parts, target, device: header.device, xattrs })
    }

    /// Size and parts of a file, from the map before its content if it is sparse.
    fn sparse(&mut self, records: &mut Records, stored: u64) -> Result<(u64, Vec<(u64, u64)>), TarError> {
        let version = (records.take("GNU.sparse.major"), records.take("GNU.sparse.minor"));
        let size = records.take("GNU.sparse.realsize").or_else(|| records.take("GNU.sparse.size"));
        let Some(size) = size else { return Ok((stored, if stored == 0 { vec![] } else { vec![(0, stored)] })) };
        if version != (Some(b"1".to_vec()), Some(b"0".to_vec())) {
            return Err(self.wrong("a sparse file of an old format: make the archive with --sparse-version=1.0"));
        }
        let size = pax::number(&size).ok_or_else(|| self.wrong("a number expected as the size of a sparse file"))?;
        let parts = self.map(size)?;
        let content: u64 = parts.iter().map(|(_, length)| *length).sum();
        if content != self.left {
            return Err(
                self.wrong(&format!("a sparse file with {content} bytes of content expected, {} found", self.left))
            );
        }
        Ok((size, parts))
    }

    /// The decimal numbers before the content: how many parts, then offset and length of each.
    fn map(&mut self, size: u64) -> Result<Vec<(u64, u64)>, TarError> {
        let mut numbers = Vec::new();
        let mut digits = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            let mut block = [0; BLOCK];
            self.read(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let number =
                    pax::number(&digits).ok_or_else(|| self.wrong("a number expected in the map of a sparse file"))?;
                digits.clear();
                if numbers.is_empty() {
                    if number > MAX_PARTS {
                        return Err(self.wrong(&format!(
                            "a sparse file of at most {MAX_PARTS} parts expected, {number} found: make the archive without --sparse"
                        )));
                    }
                    wanted = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(1);
                }
                numbers.push(number);
                if numbers.len() == wanted {
                    break;
                }
            }
            if digits.len() > 20 {
                return Err(self.wrong("a number expected in the map of a sparse file"));
            }
        }
        let (pairs, _) = numbers.get(1..).unwrap_or_default().as_chunks::<2>();
        let mut parts = Vec::new();
        let mut end = 0;
        for [offset, length] in pairs {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| self.wrong("the map of a sparse file is out of order"))?;
            if *length > 0 {
                parts.push((*offset, *length));
            }
        }
        Ok(parts)
    }
}

impl<R: Read + Seek> Archive<BufReader<R>> {
    /// Goes past the current entry's content without reading it. That it is there at all is seen by whoever reads it.
    pub fn pass(&mut self) -> Result<(), TarError> {
        let rest = self.left.saturating_add(self.padding);
        self.input.seek_relative(i64::try_from(rest).map_err(|_| self.cut())?)?;
        self.at = self.at.saturating_add(rest);
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// Bytes behind content, up to a whole block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}
