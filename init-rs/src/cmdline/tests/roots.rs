//! Several words that have a say in the root.

use super::*;

#[test]
fn several_words_for_one_root() {
    for (line, selector, why, notes) in [
        ("zfs=p bootfs=p/d", dataset("p/d"), "bootfs=p/d", 0),
        ("zfs=p bootfs=q/d", Selector::Pool("p".into()), "zfs=p", 1),
        ("zfs=p rpool=q", Selector::Pool("p".into()), "zfs=p", 1),
        ("zfs=bootfs bootfs=p/d", dataset("p/d"), "bootfs=p/d", 0),
        ("rpool=123 root=ZFS=p/d", dataset("p/d"), "root=ZFS=p/d", 0),
        ("rpool=123 root=ZFS=456/d", dataset("456/d"), "root=ZFS=456/d", 1),
        ("root=ZFS=p/d root=", Selector::Auto, "default: no root= or zfs= word", 0),
        ("bootfs=p/d bootfs=", Selector::Auto, "default: no root= or zfs= word", 0),
        ("rootfstype=zfs rootfstype=ext4", Selector::Auto, "default: no root= or zfs= word", 0),
        ("zfs=AUTO", Selector::Pool("AUTO".into()), "zfs=AUTO", 0),
        ("root=/dev/sda1 zfs=p/d", dataset("p/d"), "zfs=p/d", 1),
        ("root=/dev/ram0 zfs=p/d", dataset("p/d"), "zfs=p/d", 0),
        // what names no root on ZFS does not beat what does
        ("root=/dev/sda2 bootfs=p/d", dataset("p/d"), "bootfs=p/d", 1),
        ("root=UUID=1-2 rpool=p", Selector::Pool("p".into()), "rpool=p", 1),
        ("rpool=p bootfs=p/d root=/dev/sda1", dataset("p/d"), "bootfs=p/d", 1),
        ("root=/dev/nfs bootfs=p/d", dataset("p/d"), "bootfs=p/d", 1),
        ("root=ZFS=/ROOT/d rpool=p", Selector::Pool("p".into()), "rpool=p", 1),
        ("root=ZFS=/ROOT/d bootfs=p/ROOT/d", dataset("p/ROOT/d"), "bootfs=p/ROOT/d", 1),
        ("root=ZFS=/ROOT/d zfs=bootfs", Selector::Auto, "zfs=bootfs", 1),
        ("real_root=ZFS=p/d root=UUID=1-2", dataset("p/d"), "real_root=ZFS=p/d", 1),
        ("real_root=ZFS=p/d root=ZFS=q/e", dataset("p/d"), "real_root=ZFS=p/d", 1),
        ("real_root=/dev/sda3 root=ZFS=q/e", dataset("q/e"), "root=ZFS=q/e", 1),
        ("REAL_ROOT=ZFS=p/d root=UUID=1-2", dataset("p/d"), "REAL_ROOT=ZFS=p/d", 1),
        ("zfs=p/d real_root=ZFS=q/e root=/dev/sda1", dataset("p/d"), "zfs=p/d", 2),
        ("root=fstab rpool=p", Selector::Pool("p".into()), "rpool=p", 1),
        ("rootfstype=zfs root=/dev/sda1 bootfs=p/d", dataset("p/d"), "bootfs=p/d", 1),
        // a bare name in the pool of rpool= is a dataset
        ("root=p/d rpool=p", dataset("p/d"), "root=p/d", 0),
        ("root=p/d rpool=q", Selector::Pool("q".into()), "rpool=q", 1),
        ("zfs=zfs:p/d", dataset("p/d"), "zfs=zfs:p/d", 0),
        ("bootfs=zfs:p/d", dataset("p/d"), "bootfs=zfs:p/d", 0),
    ] {
        let request = parse(line.as_bytes());
        assert_eq!((&request.root.value, request.root.why.as_str()), (&selector, why), "{line}");
        assert_eq!(request.notes.len(), notes, "{line}: {:?}", request.notes);
        assert!(request.ours, "{line}");
    }
    for line in ["root=zfs@s", "root=zfs:@s", "root=ZFS=AUTO@s", "zfs=bootfs@s", "rootfstype=zfs root=zfs@s"] {
        let request = parse(line.as_bytes());
        assert!(request.root.value == Selector::Auto && request.problems.is_empty(), "{line}: {request:?}");
        assert_eq!(request.snapshot.unwrap().value, "s", "{line}");
    }
    let request = parse(b"root=zfs:AUTO@s bootfs=p/d");
    assert_eq!(request.snapshot, Some(Decided::new("s".into(), "bootfs=p/d")));
    // Switches name no root.
    for line in
        ["root=UUID=1-2 zfs=on", "zfs=off root=UUID=1-2", "dozfs root=UUID=1-2", "root=UUID=1-2 rootfstype=ext4"]
    {
        let request = parse(line.as_bytes());
        assert!(!request.ours && request.root.value == Selector::Device("UUID=1-2".into()), "{line}: {request:?}");
        assert!(request.notes.is_empty() && request.problems.is_empty(), "{line}: {request:?}");
    }
    // Words that contradict each other: nothing is guessed.
    let request = parse(b"boot=zfs root=/dev/sda1");
    assert!(request.problems[0].message.contains("but boot=zfs says that the root is a dataset"), "{request:?}");
}

/// Words that name a root on ZFS, and words that name another or none.
const ZFS: [&str; 8] = [
    "root=ZFS=a/r",
    "root=zfs:AUTO",
    "real_root=ZFS=b/r",
    "REAL_ROOT=ZFS=c/r",
    "zfs=d/r",
    "zfs=bootfs",
    "bootfs=e/r",
    "rpool=f",
];
const OTHERS: [&str; 11] = [
    "root=UUID=1-2",
    "root=/dev/sda2",
    "root=/dev/ram0",
    "root=/dev/nfs",
    "root=ZFS=/ROOT/x",
    "root=fstab",
    "real_root=/dev/sda3",
    "REAL_ROOT=LABEL=x",
    "zfs=on",
    "dozfs=cache",
    "rootfstype=ext4",
];

proptest! {
    /// Whatever else is on the line, and in whatever order: where a word names a root on ZFS, such a root is booted, and a word
    /// that a person adds is not beaten by one that a boot loader writes.
    #[test]
    fn what_names_no_root_on_zfs_never_beats_what_does(
        zfs in proptest::sample::subsequence(ZFS.to_vec(), 1..4),
        others in proptest::sample::subsequence(OTHERS.to_vec(), 0..6),
        seed: u64,
    ) {
        let mut words: Vec<&str> = zfs.iter().chain(&others).copied().collect();
        words.sort_by_key(|word| word.bytes().fold(seed, |hash, byte| hash.rotate_left(7) ^ u64::from(byte)));
        let line = words.join(" ");
        let request = parse(line.as_bytes());
        // A later word of the same name takes an earlier one's place; a switch is none.
        let key = |word: &str| word.split('=').next().filter(|_| word != "zfs=on").map(str::to_owned);
        let lasts = |word: &&&str| words.iter().rev().find(|other| key(other) == key(word)) == Some(word);
        let said: Vec<&str> = words.iter().filter(|word| ZFS.contains(word)).filter(lasts).copied().collect();
        let on_zfs = matches!(request.root.value, Selector::Auto | Selector::Pool(_) | Selector::Dataset { .. });
        if said.is_empty() {
            let device = words.iter().filter(lasts).any(|word| ["root=UUID=1-2", "root=/dev/sda2"].contains(word));
            prop_assert!(!on_zfs || !device, "{}", line);
        } else {
            prop_assert!(on_zfs && request.ours && request.problems.is_empty(), "{}: {:?}", line, request);
            prop_assert!(said.contains(&request.root.why.as_str()), "{}: {:?}", line, request.root);
            if said.contains(&"zfs=d/r") {
                prop_assert_eq!(&request.root.why, "zfs=d/r");
            }
        }
    }
}
