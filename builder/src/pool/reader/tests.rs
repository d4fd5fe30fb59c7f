//! Random trees, written and read back: by hashes as the product does it, and entry by entry.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::*;
use crate::made::tar::{Made, archive};
use crate::pool::sa::Znode;
use crate::pool::{Compression, Dataset, Options, Snapshot, State, Summary, Volume, verify, verify_any, write_states};
use crate::tar::Archive;

const SIZE: u64 = 64 << 20;

/// What a path is: attributes, without those that are only ours, and content.
type Found = BTreeMap<Vec<u8>, (Znode, Vec<u8>)>;

/// The whole tree of a data set or snapshot.
fn tree_of(file: &File, size: u64, name: &str) -> Found {
    let mut all = Found::new();
    look::znodes(file, size, name, &|_| true, &mut |path, znode, content| {
        let size = if znode.mode & 0o170_000 == 0o040_000 { 0 } else { znode.size };
        all.insert(path, (Znode { parent: 0, size, ..znode }, content));
        Ok(())
    })
    .unwrap();
    all
}

/// The same as the archive has it.
fn expected(entries: &[Made]) -> Found {
    let mut all = Found::new();
    let directory = Znode { mode: 0o040_755, mtime: (1_700_000_000, 0), links: 2, ..Znode::default() };
    all.insert(Vec::new(), (directory, Vec::new()));
    let path = |made: &[u8]| [b"/", made].concat();
    for made in entries {
        let (format, content) = match made.kind {
            b'5' => (0o040_000, Vec::new()),
            b'2' => (0o120_000, Vec::new()),
            b'1' => {
                let (target, content) = all[&path(&made.target)].clone();
                all.insert(path(&made.path), (target, content));
                continue;
            }
            _ => (0o100_000, made.content.clone()),
        };
        let mut content = content;
        if let Some((hole, size)) = made.sparse {
            content.splice(0..0, vec![0; hole]);
            content.resize(size, 0);
        }
        let target = (made.kind == b'2').then(|| made.target.clone());
        let size = target.as_ref().map_or(content.len(), Vec::len) as u64;
        let znode = Znode {
            mode: format | if made.kind == b'2' { 0o777 } else { made.mode },
            uid: made.owner.0,
            gid: made.owner.1,
            mtime: made.mtime,
            links: if made.kind == b'5' { 2 } else { 1 },
            size,
            target,
            xattrs: made.xattrs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect(),
            ..Znode::default()
        };
        all.insert(path(&made.path), (znode, content));
    }
    for made in entries {
        let above = made.path.rsplit(|b| *b == b'/').skip(1).collect::<Vec<_>>();
        let above = above.into_iter().rev().fold(Vec::new(), |all, name| [&all[..], b"/", name].concat());
        if made.kind == b'5' {
            all.get_mut(&above).unwrap().0.links += 1;
        }
        if made.kind == b'1' {
            let names: Vec<Vec<u8>> = entries
                .iter()
                .filter(|other| other.kind == b'1' && other.target == made.target)
                .map(|other| path(&other.path))
                .collect();
            for name in names.iter().chain([&path(&made.target)]) {
                all.get_mut(name).unwrap().0.links = 1 + names.len() as u64;
            }
        }
    }
    all
}

fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()
    });
    words.flat_map(|word| word.into_iter().take(4)).take(size).collect()
}

/// One entry: where, what, how large, from which seed.
type Wish = (u8, u8, u8, u16, u64);

/// Entries of an archive. Paths are few, so that many states have the same.
fn entries(wishes: &[Wish]) -> Vec<Made> {
    let mut all: BTreeMap<Vec<u8>, Made> = BTreeMap::new();
    for dir in ["a", "a/b", "c"] {
        all.insert(dir.into(), Made { mode: 0o750, owner: (7, 8), ..Made::new(dir, b'5') });
    }
    let sizes = [0, 1, 112, 113, 511, 512, 513, 4096, 5000, 131_071, 131_072, 131_073, 300_000, 1_048_577];
    let mut hard = Vec::new();
    for (directory, name, kind, size, seed) in wishes {
        let directory = ["", "a/", "a/b/", "c/"][usize::from(directory % 4)];
        let long = if name % 5 == 0 { "x".repeat(80 + usize::from(*name % 170)) } else { String::new() };
        let path = format!("{directory}f{}{long}", name % 24);
        let size = sizes[usize::from(*size) % sizes.len()] + usize::from(size >> 12);
        let xattrs = match seed % 7 {
            0 => vec![("user.small".to_owned(), b"x".to_vec())],
            1 => vec![("user.large".to_owned(), noise(usize::try_from(seed % 30_000).unwrap(), *seed))],
            _ => Vec::new(),
        };
        let made = Made {
            mode: u32::try_from(seed % 0o7777).unwrap(),
            owner: (u32::try_from(seed % 70_000).unwrap(), u32::from(*name)),
            mtime: (i64::try_from(seed % 2_000_000_000).unwrap(), u32::try_from(seed % 1_000_000_000).unwrap()),
            xattrs,
            ..Made::new(path.clone(), b'0')
        };
        let made = match kind % 8 {
            0 => Made { target: noise(1 + size % 4000, *seed), kind: b'2', xattrs: Vec::new(), ..made },
            1 => Made { content: vec![0; size], ..made },
            2 => Made { content: noise(size % 5000, *seed), sparse: Some((size * 2, size * 3 + 5000)), ..made },
            3 => Made { content: b"taproot ".repeat(size / 8), ..made },
            4 => {
                hard.push((path, usize::from(*name)));
                continue;
            }
            // Two thirds of it do not depend on the seed: later states share those blocks.
            _ => Made { content: [noise(size / 3 * 2, 5), noise(size / 3, *seed)].concat(), ..made },
        };
        // A name's NUL would end a target.
        let made = Made { target: made.target.iter().map(|b| b.max(&1)).copied().collect(), ..made };
        all.insert(made.path.clone(), made);
    }
    let files: Vec<Vec<u8>> = all.values().filter(|made| made.kind == b'0').map(|made| made.path.clone()).collect();
    let mut list: Vec<Made> = all.into_values().collect();
    for (path, nth) in hard {
        if let Some(target) = files.get(nth % files.len().max(1))
            && !list.iter().any(|made| made.path == path.as_bytes())
        {
            list.push(Made { target: target.clone(), ..Made::new(path, b'1') });
        }
    }
    list
}

fn options(compression: Compression, ashift: u32) -> Options {
    let volume = Volume { size: 1 << 20, block_size: 16 << 10, content: None };
    Options {
        name: "made".into(),
        size: SIZE,
        ashift,
        time: 1_700_000_000,
        jobs: 2,
        verify: true,
        datasets: vec![
            Dataset {
                name: "root".into(),
                tree: Some("/".into()),
                compression: Some(compression),
                snapshot: Some(Snapshot { name: "last".into(), holds: vec![] }),
                ..Dataset::default()
            },
            Dataset { name: "c".into(), tree: Some("/cc".into()), ..Dataset::default() },
            Dataset { name: "volume".into(), volume: Some(volume), ..Dataset::default() },
        ],
        ..Options::default()
    }
}

fn make(options: &Options, states: &[Vec<Made>], disks: usize) -> (Vec<File>, Summary) {
    let files: Vec<File> = (0..disks).map(|_| tempfile::tempfile().unwrap()).collect();
    for file in &files {
        file.set_len(options.size).unwrap();
    }
    let archives: Vec<Vec<u8>> = states.iter().map(|state| archive(state)).collect();
    let mut inputs: Vec<Archive<&[u8]>> = archives.iter().map(|archive| Archive::new(&archive[..])).collect();
    let mut last = inputs.pop().unwrap();
    let mut earlier: Vec<State<'_>> = (0..)
        .zip(&mut inputs)
        .map(|(nth, input)| State {
            snapshot: Snapshot { name: format!("s{nth}"), holds: vec!["kept".into()] },
            everywhere: nth == 1,
            input,
        })
        .collect();
    let references: Vec<&File> = files.iter().collect();
    let summary = write_states(&references, options, &mut earlier, &mut last).unwrap();
    (files, summary)
}

fn compare(found: &Found, expected: &Found) {
    for (path, (znode, content)) in expected {
        let path_text = String::from_utf8_lossy(path);
        let (other, bytes) = found.get(path).unwrap_or_else(|| panic!("{path_text} is missing"));
        if path_text != "/cc" && !path.is_empty() {
            assert_eq!(other, znode, "{path_text}");
        }
        assert!(bytes == content, "{path_text}");
    }
    assert_eq!(found.len(), expected.len() + 1, "and the directory for the other data set");
}

fn wish() -> impl Strategy<Value = Wish> {
    any::<Wish>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// States that have much in common: each is there as it was, nothing is stored twice that need not be, nothing leaks.
    #[test]
    fn states_are_read_as_they_were(
        base in proptest::collection::vec(wish(), 0..30),
        changes in proptest::collection::vec(proptest::collection::vec(wish(), 0..8), 0..4),
        compression in prop_oneof![Just(Compression::Off), Just(Compression::Lz4), Just(Compression::Zstd(3))],
        ashift in prop_oneof![Just(9_u32), Just(12), Just(13)],
    ) {
        let mut wishes = base;
        let mut states = vec![entries(&wishes)];
        for change in changes {
            wishes.drain(..wishes.len().min(change.len() / 2));
            wishes.extend(change);
            states.push(entries(&wishes));
        }
        let options = options(compression, ashift);
        let (files, summary) = make(&options, &states, 1);
        verify(&files[0], SIZE, &summary).unwrap();
        for (nth, state) in states.iter().enumerate() {
            let name = if nth + 1 == states.len() { "root".into() } else { format!("root@s{nth}") };
            compare(&tree_of(&files[0], SIZE, &name), &expected(state));
        }
        // The same again takes no more than lists of snapshots.
        states.push(states.last().unwrap().clone());
        let (_, again) = make(&options, &states, 1);
        prop_assert!(again.allocated - summary.allocated < 600 << 10, "{} and {}", again.allocated, summary.allocated);
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let wishes: Vec<Wish> = (0..60).map(|n| (n, n, n, u16::from(n) * 7, u64::from(n) * 31)).collect();
    let (files, summary) = make(&options(Compression::Lz4, 12), &[entries(&wishes)], 1);
    verify(&files[0], SIZE, &summary).unwrap();
    let start = crate::pool::layout::START;
    for at in (0..summary.allocated).step_by(9973) {
        let mut byte = [0];
        files[0].read_exact_at(&mut byte, start + at).unwrap();
        files[0].write_all_at(&[byte[0] ^ 4], start + at).unwrap();
        let error = verify(&files[0], SIZE, &summary);
        files[0].write_all_at(&byte, start + at).unwrap();
        // What lies behind a short block up to a unit is nobody's.
        assert!(error.is_err() || byte == [0], "byte {at}");
    }
    let other = make(&options(Compression::Lz4, 12), &[entries(&wishes[1..])], 1).1;
    assert!(verify(&files[0], SIZE, &other).is_err());
}

#[test]
fn every_disk_of_a_mirror_is_the_pool() {
    let wishes: Vec<Wish> = (0..9).map(|n| (n, n, n, u16::from(n) * 7, u64::from(n) * 31)).collect();
    let state = entries(&wishes);
    let (files, summary) = make(&options(Compression::Zstd(3), 12), std::slice::from_ref(&state), 3);
    let mut guids = Vec::new();
    for file in &files {
        verify(file, SIZE, &summary).unwrap();
        let label = read_labels(&mut |at, buffer| file.read_exact_at(buffer, at), SIZE).unwrap();
        let children = label.config.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap();
        assert!(children.iter().any(|child| child.u64("guid") == label.guid()) && children.len() == 3);
        guids.extend(label.guid());
        assert_ne!(label.guid(), label.top_guid());
    }
    guids.dedup();
    assert_eq!(guids.len(), 3);
}

#[test]
fn a_volume_holds_its_file() {
    let mut content = tempfile::NamedTempFile::new().unwrap();
    let bytes = [vec![0; 300_000], noise(200_000, 3), vec![0; 400_000], b"end".repeat(1000)].concat();
    std::io::Write::write_all(&mut content, &bytes).unwrap();
    let mut options = options(Compression::Lz4, 12);
    let set = options.datasets.last_mut().unwrap();
    set.volume.as_mut().unwrap().content = Some(content.path().to_path_buf());
    set.snapshot = Some(Snapshot { name: "new".into(), holds: vec![] });
    options.datasets.push(Dataset { name: "copy".into(), clone_of: Some("volume".into()), ..Dataset::default() });
    let (files, summary) = make(&options, &[vec![], vec![Made::file("x", "y")]], 1);
    let found = verify(&files[0], SIZE, &summary).unwrap();
    let content = |name: &str| found.contents.iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!(content("volume"), content("volume@s0"));
    assert_eq!((content("copy"), content("copy").bytes), (content("volume@new"), 1 << 20));
    let mut pool = Pool::open(&files[0], SIZE).unwrap();
    let set = pool.data_sets().unwrap().into_iter().find(|set| set.name == "volume").unwrap();
    let mut objects = Objects::read(&pool.blocks, &set.pointer).unwrap().unwrap();
    let mut cursor = objects::Cursor::new(objects.object(&pool.blocks, 1).unwrap());
    let read: Vec<u8> = (0..64).flat_map(|nth| cursor.read(&pool.blocks, nth).unwrap()).collect();
    assert!(read[..bytes.len()] == bytes && read[bytes.len()..].iter().all(|byte| *byte == 0));
}

/// 5 GiB of hole, then data behind 4 GiB, in three levels of indirect blocks; a directory whose table of leaves is outside.
#[test]
fn what_is_large_is_read_back() {
    let far = Made { sparse: Some((4_500_000_000, 5 << 30)), ..Made::file("far", "here") };
    let mut all = vec![far];
    all.extend((0..30_000).map(|n| Made::file(format!("many/{n:0>200}"), "")));
    let options = Options { size: 256 << 20, ..options(Compression::Lz4, 12) };
    let (files, summary) = make(&options, &[all], 1);
    let found = verify_any(&files[0], options.size).unwrap();
    assert_eq!(found.allocated, summary.allocated);
    let root = &found.contents.iter().find(|(name, _)| name == "root").unwrap().1;
    assert_eq!((root.files, root.names, root.bytes), (30_004, 30_003, 5 << 30));
    verify(&files[0], options.size, &summary).unwrap();
}

/// A pool with some other bytes.
struct Patched<'p> {
    pool: &'p Vec<u8>,
    at: u64,
    bytes: Vec<u8>,
}

impl Disk for Patched<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.pool.read_at(buffer, offset)?;
        for (at, byte) in (self.at..).zip(&self.bytes) {
            if let Some(place) = at.checked_sub(offset).and_then(|at| buffer.get_mut(index(at))) {
                *place = *byte;
            }
        }
        Ok(())
    }
}

proptest! {
    /// Any change to a pool has an answer, be the checksums as they may.
    #[test]
    fn any_pool_has_an_answer(at in 0_u64..2 << 20, bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
        static POOL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let pool = POOL.get_or_init(|| {
            let wishes: Vec<Wish> = (0..20).map(|n| (n, n, n, u16::from(n) * 7, u64::from(n) * 31)).collect();
            let (files, _) = make(&options(Compression::Lz4, 12), &[entries(&wishes)], 1);
            let mut all = vec![0; usize::try_from(SIZE).unwrap()];
            files[0].read_exact_at(&mut all, 0).unwrap();
            all
        });
        let _ = verify_any(&Patched { pool, at: crate::pool::layout::START + at, bytes }, SIZE);
    }
}
