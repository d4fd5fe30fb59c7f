//! What is in a pool, for people and for tests: data sets and snapshots with what is set on them, and their files.

use std::collections::BTreeMap;

use super::objects::{Cursor, Dnode, Objects};
use super::{Disk, Pool, ReadError, damaged, files, zap};
use crate::pool::bytes::{get64, index};
use crate::pool::sa::Znode;

/// Words of a data set's directory and of the data set itself.
const DIR_ORIGIN: usize = 3;
const DIR_PROPERTIES: usize = 10;
const SET_DIRECTORY: usize = 0;
const SET_HOLDS: usize = 34;
/// Of the name that leads to a file: the rest says what it is.
const OBJECT: u64 = (1 << 48) - 1;
const FORMAT: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
/// More entries than any tree that is looked at by this.
const MOST: usize = 1 << 24;

/// A data set or snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Below the pool, with the snapshot's name.
    pub name: String,
    /// The snapshot that it is a clone of.
    pub origin: Option<String>,
    /// Tags that keep it from being destroyed.
    pub holds: Vec<String>,
    /// What is set on it: texts as they are, numbers in decimal digits.
    pub properties: BTreeMap<String, String>,
    /// Whether the pool boots it.
    pub bootfs: bool,
}

/// All data sets and snapshots by their names.
pub fn outline(disk: &dyn Disk, size: u64) -> Result<Vec<Seen>, ReadError> {
    let mut pool = Pool::open(disk, size)?;
    let sets = pool.data_sets()?;
    let properties = pool.root_name("pool_props")?;
    let bootfs = pool.table(properties)?.get(b"bootfs".as_slice()).copied();
    let mut all = Vec::new();
    // What all data sets come from is none that anybody sees.
    for set in sets.iter().filter(|set| !set.name.starts_with('$')) {
        let bonus = pool.object(set.object)?.bonus;
        let mut seen = Seen { name: set.name.clone(), bootfs: bootfs == Some(set.object), ..Seen::default() };
        if let holds @ 1.. = get64(&bonus, SET_HOLDS * 8) {
            seen.holds = pool.table(holds)?.into_keys().map(|tag| String::from_utf8_lossy(&tag).into_owned()).collect();
        }
        if !set.name.contains('@') {
            let dir = pool.object(get64(&bonus, SET_DIRECTORY * 8))?.bonus;
            let origin = get64(&dir, DIR_ORIGIN * 8);
            let of = |number| sets.iter().find(|set| set.object == number).map(|set| set.name.clone());
            seen.origin = of(origin).filter(|_| origin != 0);
            if let list @ 1.. = get64(&dir, DIR_PROPERTIES * 8) {
                let dnode = pool.object(list)?;
                zap::each(&pool.blocks, &dnode, &mut |name, value| {
                    seen.properties.insert(String::from_utf8_lossy(name).into_owned(), shown(value));
                    Ok(())
                })?;
            }
        }
        all.push(seen);
    }
    Ok(all)
}

fn shown(value: &[u8]) -> String {
    match value.split_last() {
        Some((0, text)) if text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') => {
            String::from_utf8_lossy(text).into_owned()
        }
        _ => zap::number(value).to_string(),
    }
}

/// Files of a data set or snapshot by their paths, which begin with a slash; its root has the empty one. Content is read of those that
/// are wanted.
pub(in crate::pool) fn znodes(
    disk: &dyn Disk,
    size: u64,
    name: &str,
    wanted: &dyn Fn(&[u8]) -> bool,
    visit: &mut dyn FnMut(Vec<u8>, Znode, Vec<u8>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut pool = Pool::open(disk, size)?;
    let Some(set) = pool.data_sets()?.into_iter().find(|set| set.name == name) else {
        return damaged(&format!("no data set {name}"));
    };
    pool.blocks.renew();
    let Some(objects) = Objects::read(&pool.blocks, &set.pointer)? else { return Ok(()) };
    let mut system = files::FileSystem::new(&pool.blocks, objects)?;
    let master = system.objects.object(&pool.blocks, 1)?;
    let Some((_, root)) = zap::numbers(&pool.blocks, &master)?.into_iter().find(|(name, _)| name == b"ROOT") else {
        return damaged("a file system without its ROOT");
    };
    let mut todo = vec![(Vec::new(), root, 0)];
    let mut count = 0;
    while let Some((path, number, above)) = todo.pop() {
        count += 1;
        if count > MOST {
            return damaged("too many files");
        }
        let dnode = system.objects.object(&pool.blocks, number)?;
        let znode = system.attributes(&dnode)?;
        let mut content = Vec::new();
        if znode.mode & FORMAT == DIRECTORY {
            if above != 0 && znode.parent != above {
                return damaged("a directory that says it is elsewhere");
            }
            for (name, value) in zap::numbers(&pool.blocks, &dnode)? {
                todo.push(([&path[..], b"/", &name].concat(), value & OBJECT, number));
            }
        } else if znode.mode & FORMAT == FILE && wanted(&path) {
            content = read(&pool, &dnode, znode.size)?;
        }
        visit(path, znode, content)?;
    }
    Ok(())
}

fn read(pool: &Pool<'_>, dnode: &Dnode, size: u64) -> Result<Vec<u8>, ReadError> {
    let mut cursor = Cursor::new(dnode.clone());
    let mut content = Vec::new();
    for nth in 0..size.div_ceil(dnode.block_size as u64) {
        content.extend(cursor.read(&pool.blocks, nth)?);
    }
    content.truncate(index(size));
    Ok(content)
}

/// Content of the files of a data set or snapshot by their paths below it, or nothing of those that are not wanted; that of a link is where
/// it leads.
pub fn contents(
    disk: &dyn Disk,
    size: u64,
    name: &str,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, ReadError> {
    let mut all = BTreeMap::new();
    let wanted = |path: &[u8]| wanted(String::from_utf8_lossy(path).trim_start_matches('/'));
    znodes(disk, size, name, &wanted, &mut |path, znode, content| {
        let path = String::from_utf8_lossy(&path).trim_start_matches('/').to_owned();
        all.insert(path, znode.target.unwrap_or(content));
        Ok(())
    })?;
    Ok(all)
}
