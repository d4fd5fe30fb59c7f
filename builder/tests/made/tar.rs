//! Archives made up for tests.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // no test needs all; a test stops at the first surprise

const BLOCK: usize = 512;
/// Largest owner that a header holds.
const SHORT_ID: u32 = 0o7_777_777;

/// An entry of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) path: Vec<u8>,
    /// As in the header.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    /// With a hole before it: the content of the part behind that.
    pub(crate) content: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// Bytes of the hole at the beginning, and of the whole file.
    pub(crate) sparse: Option<(usize, usize)>,
    /// An access list as text.
    pub(crate) acl: Option<String>,
}

impl Made {
    pub(crate) fn new(path: impl Into<Vec<u8>>, kind: u8) -> Self {
        let mode = if kind == b'5' { 0o755 } else { 0o644 };
        Made {
            path: path.into(),
            kind,
            mode,
            owner: (0, 0),
            mtime: (1_600_000_000, 0),
            content: Vec::new(),
            target: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
            acl: None,
        }
    }

    /// A file.
    pub(crate) fn file(path: impl Into<Vec<u8>>, content: impl Into<Vec<u8>>) -> Self {
        Made { content: content.into(), ..Self::new(path, b'0') }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let seconds = format!("{}.{:09}", self.mtime.0, self.mtime.1).into_bytes();
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let mut say = |name: &str, value: &[u8]| records.push((name.to_owned(), value.to_vec()));
        if self.path.len() > 100 {
            say("path", &self.path);
        }
        if self.target.len() > 100 {
            say("linkpath", &self.target);
        }
        for (name, id) in [("uid", self.owner.0), ("gid", self.owner.1)] {
            if id > SHORT_ID {
                say(name, id.to_string().as_bytes());
            }
        }
        if self.mtime.1 != 0 {
            say("mtime", &seconds);
        }
        for (name, value) in &self.xattrs {
            say(&format!("SCHILY.xattr.{name}"), value);
        }
        if let Some(acl) = &self.acl {
            say("SCHILY.acl.access", acl.as_bytes());
        }
        let mut content = self.content.clone();
        if let Some((hole, size)) = self.sparse {
            for (name, value) in [("major", "1"), ("minor", "0"), ("realsize", &size.to_string())] {
                say(&format!("GNU.sparse.{name}"), value.as_bytes());
            }
            say("GNU.sparse.name", &self.path);
            let map = format!("2\n{hole}\n{}\n{size}\n0\n", content.len());
            content = [padded(map.as_bytes()), content].concat();
        }
        if !records.is_empty() {
            let records: Vec<(&str, &[u8])> = records.iter().map(|(name, value)| (&**name, &**value)).collect();
            out.extend(pax(&records));
        }
        out.extend(self.header(content.len()));
        out.extend(padded(&content));
    }

    fn header(&self, size: usize) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        for (at, number) in [
            (100, self.mode),
            (108, self.owner.0.min(SHORT_ID)),
            (116, self.owner.1.min(SHORT_ID)),
            (329, self.device.0),
            (337, self.device.1),
        ] {
            put(at, format!("{number:07o}").as_bytes());
        }
        put(124, format!("{size:011o}").as_bytes());
        let seconds = u64::try_from(self.mtime.0).unwrap_or(0);
        put(136, format!("{seconds:011o}").as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.target[..self.target.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// The archive of these entries.
pub(crate) fn archive(entries: &[Made]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.write(&mut out);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// Content up to a whole block.
pub(crate) fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content
}

/// An extended header with these records.
pub(crate) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in records {
        let rest = name.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        content.extend_from_slice(format!("{length} {name}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    let header = Made::new("PaxHeaders/x", b'x').header(content.len());
    [header, padded(&content)].concat()
}

/// Bytes that do not compress.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(size).collect()
}
