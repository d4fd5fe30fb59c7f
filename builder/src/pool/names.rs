//! All names of all directories while a stream is read, however many there are: a log of records, and a table that finds them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::PoolError;
use super::bytes::{get32, get64, index, put, put8, put32, put64};
use super::scratch::Scratch;
use super::zap::{Entry, Value};

/// Bytes before the name of a record: directory, the record before of the same directory, entry, directory that it is, length.
const HEAD: usize = 25;
const MAX_NAME: usize = 255;
/// Bits of a slot that say where the record is; those above are of the hash.
const PLACE_BITS: u32 = 48;
const FIRST_SLOTS: usize = 1 << 10;

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    /// Its object in the file system of the directory.
    pub(super) object: u64,
    /// As in `d_type`.
    pub(super) kind: u64,
    /// The directory it is.
    pub(super) directory: Option<usize>,
}

/// The names.
#[derive(Debug)]
pub(super) struct Names {
    log: Scratch,
    slots: Vec<u64>,
    count: usize,
}

struct Record {
    directory: u32,
    before: u64,
    child: Child,
    name: Vec<u8>,
}

fn hash(directory: u32, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (directory, name).hash(&mut hasher);
    hasher.finish()
}

fn number(directory: usize) -> u32 {
    u32::try_from(directory).unwrap_or(u32::MAX)
}

impl Names {
    pub(super) fn new() -> Self {
        Names { log: Scratch::default(), slots: vec![0; FIRST_SLOTS], count: 0 }
    }

    /// Reads the record before the one-based place `place`.
    fn record(&self, place: u64) -> Result<Record, PoolError> {
        let mut bytes = [0; HEAD + MAX_NAME];
        self.log.read(place - 1, &mut bytes)?;
        let word = get64(&bytes, 12);
        let directory = get32(&bytes, 20).checked_sub(1).map(|number| index(u64::from(number)));
        let length = usize::from(bytes.get(HEAD - 1).copied().unwrap_or(0));
        Ok(Record {
            directory: get32(&bytes, 0),
            before: get64(&bytes, 4),
            child: Child { object: word & ((1 << 60) - 1), kind: word >> 60, directory },
            name: bytes.get(HEAD..HEAD + length).unwrap_or_default().to_vec(),
        })
    }

    /// The slot of a name, or the free one where it would go, with the entry.
    fn slot(&self, directory: u32, name: &[u8]) -> Result<(usize, Option<Child>), PoolError> {
        let hash = hash(directory, name);
        let mask = self.slots.len() - 1;
        let mut at = index(hash) & mask;
        loop {
            let slot = self.slots.get(at).copied().unwrap_or(0);
            if slot == 0 {
                return Ok((at, None));
            }
            if slot >> PLACE_BITS == hash >> PLACE_BITS {
                let record = self.record(slot & ((1 << PLACE_BITS) - 1))?;
                if record.directory == directory && record.name == name {
                    return Ok((at, Some(record.child)));
                }
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn find(&self, directory: usize, name: &[u8]) -> Result<Option<Child>, PoolError> {
        Ok(self.slot(number(directory), name)?.1)
    }

    /// Adds a name that is not there. `before` is what this returned for the one before in the same directory, or 0.
    pub(super) fn insert(
        &mut self,
        directory: usize,
        name: &[u8],
        child: Child,
        before: u64,
    ) -> Result<u64, PoolError> {
        if (self.count + 1) * 3 > self.slots.len() * 2 {
            self.grow()?;
        }
        let mut record = [0; HEAD + MAX_NAME];
        put32(&mut record, 0, number(directory));
        put64(&mut record, 4, before);
        put64(&mut record, 12, child.object | child.kind << 60);
        put32(&mut record, 20, child.directory.map_or(0, |directory| number(directory) + 1));
        put8(&mut record, HEAD - 1, u8::try_from(name.len()).unwrap_or(u8::MAX));
        put(&mut record, HEAD, name);
        let place = self.log.end() + 1;
        self.log.write(place - 1, record.get(..HEAD + name.len()).unwrap_or_default())?;
        self.point(number(directory), name, place)?;
        self.count += 1;
        Ok(place)
    }

    fn point(&mut self, directory: u32, name: &[u8], place: u64) -> Result<(), PoolError> {
        let (at, _) = self.slot(directory, name)?;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = hash(directory, name) >> PLACE_BITS << PLACE_BITS | place;
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<(), PoolError> {
        let size = self.slots.len() * 2;
        self.slots = Vec::new();
        self.slots.resize(size, 0);
        let mut place = 1;
        while place <= self.log.end() {
            let record = self.record(place)?;
            self.point(record.directory, &record.name, place)?;
            place += (HEAD + record.name.len()) as u64;
        }
        Ok(())
    }

    /// The entries of a directory, from the place of its last name on.
    pub(super) fn entries(&self, last: u64) -> Result<Vec<Entry>, PoolError> {
        let mut all = Vec::new();
        let mut place = last;
        while place != 0 {
            let record = self.record(place)?;
            all.push((record.name, Value::Number(record.child.object | record.child.kind << 60)));
            place = record.before;
        }
        all.reverse();
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than fit in the first table, and more bytes than are kept in memory.
    #[test]
    fn names_are_found_by_directory() {
        let mut names = Names::new();
        let mut last = [0_u64; 7];
        let name = |n: usize| format!("{n:0>190}");
        let child = |n: usize| Child { object: n as u64, kind: 8, directory: (n.is_multiple_of(5)).then_some(n) };
        for n in 0..50_000 {
            last[n % 7] = names.insert(n % 7, name(n).as_bytes(), child(n), last[n % 7]).unwrap();
        }
        for n in (0..50_000).step_by(97) {
            assert_eq!(names.find(n % 7, name(n).as_bytes()).unwrap(), Some(child(n)));
            assert_eq!(names.find((n + 1) % 7, name(n).as_bytes()).unwrap(), None);
        }
        let entries = names.entries(last[3]).unwrap();
        assert_eq!(entries.len(), 50_000_usize.div_ceil(7));
        assert_eq!(entries[1], (name(10).into_bytes(), Value::Number((8 << 60) + 10)));
    }
}
