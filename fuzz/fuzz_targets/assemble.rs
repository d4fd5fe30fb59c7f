//! Any set of labels: assembling ends, depends on the set alone, and gives a configuration that encodes.
//!
//! The input is either packed lists, each behind a 16-bit length, or (odd first byte) records of small numbers from
//! which labels are built that contradict each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taproot_init::zfs::assemble::{self, Doubt, MAX_TOPS, Seen, Standing};
use taproot_init::zfs::label::Label;
use taproot_init::zfs::nvlist::{NvList, Value};

fuzz_target!(|bytes: &[u8]| {
    let [mode, rest @ ..] = bytes else { return };
    let mut seen: Vec<Seen> = if mode & 1 == 0 { packed(rest) } else { rest.chunks(8).take(64).map(small).collect() };
    let pools = assemble::assemble(&seen);
    let aux = assemble::aux_devices(&seen);
    for pool in &pools {
        check(pool);
    }
    seen.reverse();
    assert_eq!(assemble::assemble(&seen), pools);
    assert_eq!(assemble::aux_devices(&seen), aux);
    seen.extend_from_within(..seen.len() / 2);
    assert_eq!(assemble::assemble(&seen), pools);
});

fn check(pool: &assemble::Candidate) {
    let tree = pool.config.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap_or_default();
    assert!(tree.len() as u64 <= MAX_TOPS);
    for (at, slot) in tree.iter().enumerate() {
        assert_eq!(slot.u64("id"), Some(at as u64));
    }
    assert_eq!(NvList::decode(&pool.config.encode_native()).as_ref(), Ok(&pool.config));
    assert!(pool.missing_tops() <= tree.len() as u64 && pool.missing().count() <= pool.leaves.len());
    let mut moved = pool.clone();
    moved.set_paths(&pool.leaves.iter().map(|leaf| (leaf.guid, "/dev/x".to_owned())).collect());
    assert_eq!(moved.config.list("vdev_tree").and_then(|t| t.lists("children")).map(<[NvList]>::len), Some(tree.len()));
    assert!(pool.problems.iter().all(|problem| !problem.to_string().is_empty()));
}

fn seen(device: u8, config: NvList) -> Seen {
    let standing = match device % 7 {
        0 => Standing::Leftover("x".to_owned()),
        1 => Standing::Doubtful(Doubt { text: "y".to_owned(), grave: device % 2 == 0 }),
        _ => Standing::Sound,
    };
    // Two devices each are paths to one place.
    let place = (device % 3 != 0).then(|| format!("{}", device / 2));
    Seen { place, standing, ..Seen::sound(format!("/dev/sd{device}"), Label::new(config, 0)) }
}

fn packed(mut bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    while let [low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (list, after) = rest.split_at(length);
        if let Ok(config) = NvList::decode(list) {
            all.push(seen(u8::try_from(all.len() % 200).unwrap_or(0), config));
        }
        bytes = after;
    }
    all
}

/// A number that is small, or one of those at the limits.
fn number(byte: u8) -> u64 {
    match byte {
        0xff => u64::MAX,
        0xfe => MAX_TOPS,
        0xfd => MAX_TOPS - 1,
        small => u64::from(small & 15),
    }
}

fn small(record: &[u8]) -> Seen {
    let at = |i: usize| record.get(i).copied().unwrap_or(0);
    let node = |guid: u64, id: u64| -> NvList {
        let mut node = NvList::new();
        node.set("type", Value::text(if guid == 15 { "dspare" } else { "disk" }));
        node.set("id", Value::U64(id));
        node.set("guid", Value::U64(guid));
        node.set("path", Value::text(format!("/dev/sd{guid}")));
        node
    };
    let (guid, id, shape) = (number(at(0)), number(at(1)), at(2));
    let mut top = node(guid, id);
    for level in 0..shape >> 4 {
        let mut children: Vec<NvList> = (0..shape & 3).map(|n| node(u64::from(n + level), u64::from(n))).collect();
        children.push(top);
        top = node(u64::from(level), id);
        top.set("children", Value::ListArray(children));
    }
    let mut config = NvList::new();
    config.set("name", Value::text(if at(3) & 8 == 0 { "rpool" } else { "" }));
    config.set("state", Value::U64(u64::from(at(3) >> 4)));
    config.set("pool_guid", Value::U64(u64::from(at(3) & 3)));
    config.set("txg", Value::U64(number(at(4))));
    config.set("guid", Value::U64(guid));
    config.set("top_guid", Value::U64(number(at(5))));
    config.set("vdev_children", Value::U64(number(at(6))));
    config.set("hole_array", Value::U64Array(vec![u64::from(at(7) >> 4)]));
    config.set("vdev_tree", Value::List(top));
    seen(at(7) & 15, config)
}
