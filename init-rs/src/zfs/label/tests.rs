use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::zfs::nvlist::Value;

const SIZE: u64 = MIN_DEVICE_SIZE + 12_345;

fn write_region(config: &NvList, region_offset: u64) -> Option<Vec<u8>> {
    seal_region(config.encode_xdr(), region_offset)
}

/// The four regions of a device; everything between them is never read.
struct Device([Vec<u8>; 4]);

impl Device {
    fn of(configs: [&NvList; 4]) -> Self {
        let offsets = label_offsets(SIZE).unwrap();
        Device(std::array::from_fn(|i| write_region(configs[i], offsets[i] + REGION_START).unwrap()))
    }

    fn labels(&self) -> Result<Label, LabelProblem> {
        let offsets = label_offsets(SIZE).unwrap();
        let mut read = |offset: u64, buffer: &mut [u8]| {
            let at = offsets.iter().position(|o| o + REGION_START == offset).expect("a read at a label's region");
            buffer.copy_from_slice(&self.0[at]);
            Ok(())
        };
        read_labels(&mut read, SIZE)
    }
}

fn config(txg: u64) -> NvList {
    [
        ("version", Value::U64(5000)),
        ("name", Value::text("rpool")),
        ("state", Value::U64(0)),
        ("txg", Value::U64(txg)),
        ("pool_guid", Value::U64(11)),
        ("hostid", Value::U64(0xabcd)),
        ("hostname", Value::text("host")),
        ("top_guid", Value::U64(12)),
        ("guid", Value::U64(13)),
        ("vdev_children", Value::U64(1)),
    ]
    .into_iter()
    .collect()
}

fn with(mut config: NvList, name: &str, value: Value) -> NvList {
    config.set(name, value);
    config
}

#[test]
fn offsets_ignore_the_odd_end() {
    assert_eq!(label_offsets(MIN_DEVICE_SIZE - 1), None);
    let size = MIN_DEVICE_SIZE;
    let expected = [0, LABEL_SIZE, size - 2 * LABEL_SIZE, size - LABEL_SIZE];
    assert_eq!(label_offsets(size), Some(expected));
    assert_eq!(label_offsets(size + LABEL_SIZE - 1), Some(expected));
    assert_eq!(label_offsets(u64::MAX).unwrap()[3], u64::MAX - (LABEL_SIZE - 1) - LABEL_SIZE);
}

#[test]
fn a_good_device_reads_back() {
    let config = config(4);
    let label = Device::of([&config; 4]).labels().unwrap();
    assert_eq!(label, Label::new(config, 0));
    assert_eq!((label.pool_guid(), label.top_guid(), label.guid()), (Some(11), Some(12), Some(13)));
    assert_eq!((label.txg(), label.hostid(), label.vdev_children()), (Some(4), Some(0xabcd), Some(1)));
    assert_eq!((label.pool_name().as_deref(), label.hostname().as_deref()), (Some("rpool"), Some("host")));
    assert_eq!((label.state(), label.is_aux()), (PoolState::Active, false));
}

#[test]
fn which_copies_are_good() {
    let (old, new) = (config(4), config(5));
    let look = |configs: [&NvList; 4]| {
        let device = Device::of(configs);
        let offsets = label_offsets(SIZE).unwrap();
        let mut read = |offset: u64, buffer: &mut [u8]| {
            let at = offsets.iter().position(|o| o + REGION_START == offset).unwrap();
            buffer.copy_from_slice(&device.0[at]);
            Ok(())
        };
        let (label, good) = read_copies(&mut read, SIZE).unwrap();
        (label.txg().unwrap(), label.index, good)
    };
    assert_eq!(look([&new; 4]), (5, 0, [true; 4]));
    // The first round of a write was the last that came.
    assert_eq!(look([&new, &old, &new, &old]), (5, 0, [true; 4]));
    assert_eq!(look([&old, &new, &old, &new]), (5, 1, [true; 4]));
    // Another vdev's, another pool's, or bad.
    let other = with(old.clone(), "guid", Value::U64(99));
    assert_eq!(look([&new, &new, &new, &other]), (5, 0, [true, true, true, false]));
    let before = with(old.clone(), "pool_guid", Value::U64(99));
    assert_eq!(look([&new, &new, &before, &before]), (5, 0, [true, true, false, false]));
    let bad = with(new.clone(), "guid", Value::U64(0));
    assert_eq!(look([&bad, &new, &bad, &new]), (5, 1, [false, true, false, true]));
}

/// What the region before it was makes no difference to what a region is.
#[test]
fn each_copy_is_verified_at_its_own_place() {
    let copies = |place| {
        let mut flipped = write_region(&config(4), place).unwrap();
        flipped[100] ^= 1;
        let elsewhere = write_region(&config(4), place + 1).unwrap();
        let garbage = seal_region(vec![9; 100], place).unwrap();
        [
            write_region(&config(4), place).unwrap(),
            write_region(&config(5), place).unwrap(),
            elsewhere,
            flipped,
            garbage,
        ]
    };
    let (first, second) = (REGION_START, LABEL_SIZE + REGION_START);
    let alone = copies(second).map(|region| (parse_label(&region, second), region));
    for before in copies(first) {
        for (right, region) in &alone {
            let mut last = Last::default();
            let _ = last.parse(&before, first);
            assert_eq!(&last.parse(region, second).map(Arc::unwrap_or_clone), right);
        }
    }
}

/// Label 0 as OpenZFS wrote it: the packed list, zeros left out, then the checksum's 32 bytes.
fn written_by_openzfs(file: &[u8], disks: usize) {
    let (packed, words) = file.split_last_chunk::<32>().unwrap();
    let mut region = vec![0; REGION_SIZE];
    region[..packed.len()].copy_from_slice(packed);
    region[REGION_SIZE - TRAILER..REGION_SIZE - 32].copy_from_slice(&MAGIC.to_le_bytes());
    region[REGION_SIZE - 32..].copy_from_slice(words);
    let config = parse_label(&region, REGION_START).unwrap();
    let children = config.list("vdev_tree").and_then(|tree| tree.lists("children")).unwrap();
    assert_eq!(children.len(), disks);
    assert_eq!(NvList::decode(&config.encode_native()).as_ref(), Ok(&config));
    assert!(write_region(&config, REGION_START).unwrap() == region, "byte for byte as OpenZFS wrote it");
}

#[test]
fn labels_of_openzfs_are_reproduced() {
    written_by_openzfs(include_bytes!("testdata/mirror-openzfs-2.1.label"), 2);
    written_by_openzfs(include_bytes!("testdata/raidz-openzfs-2.3.label"), 3);
}

#[test]
fn the_highest_txg_wins() {
    let other = with(config(5), "guid", Value::U64(99));
    let label = Device::of([&config(4), &config(9), &config(9), &other]).labels().unwrap();
    assert_eq!((label.txg(), label.index), (Some(9), 1));
    // A damaged copy takes no part, however new it is.
    let mut device = Device::of([&config(4), &config(9), &config(5), &config(4)]);
    device.0[1][300] ^= 1;
    let label = device.labels().unwrap();
    assert_eq!((label.txg(), label.index), (Some(5), 2));
}

#[test]
fn spares_need_no_txg() {
    let mut spare = with(config(4), "state", Value::U64(3));
    spare.remove("txg");
    spare.remove("pool_guid");
    let label = Device::of([&spare; 4]).labels().unwrap();
    assert!(label.is_aux());
    assert_eq!(label.pool_guid(), None);
}

#[test]
fn both_byte_orders_verify() {
    let config = config(4);
    let mut region = write_region(&config, 7).unwrap();
    let at = REGION_SIZE - TRAILER;
    region[at..at + 8].reverse();
    let at = REGION_SIZE - 32;
    let words = checksum(Sha256::new_with_prefix(&region[..at]), 7, Order::Big);
    region[at..].copy_from_slice(&words);
    assert_eq!(parse_label(&region, 7), Ok(config));
    assert_eq!(parse_label(&region, 8), Err(LabelError::Checksum));
}

#[test]
fn a_label_at_another_place_is_refused() {
    let region = write_region(&config(4), REGION_START).unwrap();
    assert!(parse_label(&region, REGION_START).is_ok());
    assert_eq!(parse_label(&region, REGION_START + LABEL_SIZE), Err(LabelError::Checksum));
    assert_eq!(parse_label(&region[1..], REGION_START), Err(LabelError::Size { found: REGION_SIZE - 1 }));
}

fn problem(device: &Device) -> (LabelProblem, String) {
    let problem = device.labels().unwrap_err();
    let text = problem.to_string();
    (problem, text)
}

#[test]
fn an_unused_device_has_no_label() {
    let (what, _) = problem(&Device(std::array::from_fn(|_| vec![0; REGION_SIZE])));
    assert!(matches!(what, LabelProblem::NoLabel));
    let (what, _) = problem(&Device(std::array::from_fn(|_| vec![0xa5; REGION_SIZE])));
    assert!(matches!(what, LabelProblem::NoLabel));
}

#[test]
fn damage_is_explained() {
    let mut device = Device::of([&config(4); 4]);
    for region in &mut device.0 {
        region[500] ^= 1;
    }
    let (what, text) = problem(&device);
    assert!(matches!(what, LabelProblem::Damaged { .. }));
    assert_eq!(text, "4 ZFS labels, none usable: wrong checksum in all of them");

    let unborn = config(0);
    let nobody = with(config(4), "guid", Value::U64(0));
    let odd = with(config(4), "state", Value::U64(5));
    let mut device = Device::of([&unborn, &nobody, &odd, &config(4)]);
    device.0[3][REGION_SIZE - TRAILER..].fill(0);
    let (what, text) = problem(&device);
    let LabelProblem::Damaged { why } = what else { panic!("{text}") };
    assert_eq!(*why, [LabelError::NoTxg, LabelError::NoGuid, LabelError::State, LabelError::NoChecksum]);
    assert!(text.starts_with("no usable ZFS label: label 0: transaction group 0"), "{text}");
}

#[test]
fn the_tail_of_a_partition_is_told_apart() {
    let elsewhere = write_region(&config(4), 99).unwrap();
    let zero = vec![0; REGION_SIZE];
    // How many of them lie at a label's place depends on where the partition ends.
    for [two, three] in [[&elsewhere, &elsewhere], [&elsewhere, &zero], [&zero, &elsewhere]] {
        let (what, text) = problem(&Device([zero.clone(), zero.clone(), two.clone(), three.clone()]));
        assert!(what.is_partition_tail());
        assert!(text.ends_with("last partition)"), "{text}");
    }
    let (what, _) = problem(&Device([elsewhere, zero.clone(), zero.clone(), zero]));
    assert!(!what.is_partition_tail());
}

#[test]
fn a_list_that_does_not_unpack_is_named() {
    // A right checksum over a list of another version.
    let mut region = write_region(&config(4), 0).unwrap();
    region[7] = 9;
    let at = REGION_SIZE - 32;
    let words = checksum(Sha256::new_with_prefix(&region[..at]), 0, Order::Little);
    region[at..].copy_from_slice(&words);
    assert_eq!(parse_label(&region, 0), Err(LabelError::Unpack(NvError::Version { offset: 4, found: 9 })));
}

#[test]
fn one_readable_copy_is_enough() {
    let good = Device::of([&config(4); 4]);
    let offsets = label_offsets(SIZE).unwrap();
    let mut read = |offset: u64, buffer: &mut [u8]| {
        if offset != offsets[2] + REGION_START {
            return Err(io::Error::other("bad sector"));
        }
        buffer.copy_from_slice(&good.0[2]);
        Ok(())
    };
    let label = read_labels(&mut read, SIZE).unwrap();
    assert_eq!(label.index, 2);
    let all_bad = read_labels(&mut |_, _| Err(io::Error::other("bad sector")), SIZE).unwrap_err();
    assert!(matches!(all_bad, LabelProblem::Io(_)));
    let tiny = read_labels(&mut |_, _| Ok(()), 1000).unwrap_err();
    assert!(matches!(tiny, LabelProblem::TooSmall { size: 1000 }));
}

#[test]
fn a_configuration_that_does_not_fit_is_not_written() {
    let big = with(config(4), "comment", Value::Str(vec![b'x'; REGION_SIZE]));
    assert_eq!(write_region(&big, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any single changed byte of a region is noticed.
    #[test]
    fn no_changed_byte_goes_unnoticed(at in 0..REGION_SIZE, flip in 1_u8..) {
        let mut region = write_region(&config(4), 5).unwrap();
        region[at] ^= flip;
        prop_assert!(parse_label(&region, 5).is_err());
    }

    /// Any bytes with a right checksum parse or fail.
    #[test]
    fn hostile_regions_end(bytes in vec(any::<u8>(), 0..2000), version in any::<bool>()) {
        let mut region = write_region(&config(4), 5).unwrap();
        let from = if version { 12 } else { 0 };
        region[from..from + bytes.len()].copy_from_slice(&bytes);
        let at = REGION_SIZE - 32;
        let words = checksum(Sha256::new_with_prefix(&region[..at]), 5, Order::Little);
        region[at..].copy_from_slice(&words);
        if let Ok(config) = parse_label(&region, 5) {
            let _ = judge(&config);
        }
    }
}
