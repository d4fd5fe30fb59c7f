//! Seeds that found a fault: they stay tests.

use super::{Case, boot, seed};

/// Narrow seeds that found something: a boot that gave back what it had just imported, one that went on without its command line, silent
/// slow mounts, pools that were given up early, silent caches, a scout that was started again at the wrong moment.
const FOUND: [u64; 23] = [
    41, 93, 106, 126, 137, 548, 1639, 1685, 1833, 5719, 5780, 12_745, 13_041, 17_259, 105_299, 105_717, 300_428, 8000,
    1_008_255, 1_016_420, 2_015_088, 2_020_530, 2_028_511,
];

/// Wide ones: key devices that do not answer, words of a wait for the scout, a pool that lost its disks behind the prompt, a root that a
/// person chose and that was left for a fallback, rolled back after it was looked into; `retry resume=`, disks that come while a
/// fallback is waited for, pools that lose one between two questions, and one with new features of which a disk is missing. An image that
/// was left because nothing was written, and then was; a pool that nobody expects and that comes late; disks that go in calls which
/// nobody watched, in the second attempt with an imported pool, or in what the prompt asks before it stands. A pool left behind without
/// its disk, of which the fstab of the next root has a line. A record from which
/// the bootfs was lost that the pool had told. A fallback to the root that the next attempt rolls back. A scout that is
/// lost once the pool is imported, of which another one tells less. A prompt that went on by itself because another scout was tried. An answer
/// that nobody was left to hear. A pool that stayed writable when nothing was to be written any more.
const FOUND_WIDE: [u64; 61] = [
    234,
    1146,
    3684,
    5624,
    19_434,
    21_111,
    24_610,
    25_078,
    36_769,
    47_090,
    88_202,
    96_767,
    103_385,
    107_618,
    2338,
    29_654,
    202_471,
    274_660,
    316_299,
    375_398,
    603_214,
    7_006_390,
    7_008_395,
    7_022_418,
    7_036_865,
    7_037_558,
    7_046_347,
    7_051_766,
    7_063_244,
    7_068_553,
    7_077_440,
    20_086_587,
    40_204_076,
    40_220_689,
    40_274_073,
    40_409_674,
    40_444_581,
    40_598_021,
    40_647_520,
    40_714_735,
    40_719_812,
    40_830_863,
    40_936_993,
    40_998_549,
    50_012_579,
    50_128_946,
    50_274_234,
    50_279_438,
    50_302_265,
    60_084_495,
    70_806_974,
    200_517_166,
    300_777_525,
    400_017_112,
    600_837_081,
    910_010_342,
    910_038_002,
    1_100_082_991,
    1_200_456_402,
    1_200_597_493,
    1_200_780_780,
];

#[test]
fn what_seeds_have_found_stays_away() {
    let broken = |case: Case| Some((case.seed, boot(&case).broken)).filter(|(_, broken)| !broken.is_empty());
    let all: Vec<_> = FOUND
        .into_iter()
        .map(seed::narrow)
        .chain(FOUND_WIDE.into_iter().chain(0..400).map(seed::case))
        .filter_map(broken)
        .collect();
    assert!(all.is_empty(), "make sim SEED=... (NARROW=...) tells the story of each: {all:#?}");
}
