//! How far the ZFS label of a device is to be believed, by everything else that is known of the device and its disk.
//!
//! A label outlives what it belonged to: a new partition table leaves most of those on the whole disk, a new file system in the
//! same partition some, and the legs of a mirror have those of the pool on the mirror. The kernel would write all four labels of
//! such a device anew, over whatever is there now.

use crate::devices::known::{Device, Hardware, Reading, Zfs, ZfsLabel};
use crate::zfs::assemble::{Doubt, Standing};

/// The standing of a device with this label.
pub fn standing(hardware: &Hardware, device: &Device, member: &ZfsLabel) -> Standing {
    let good: Vec<String> = (0..).zip(member.good).filter(|(_, good)| *good).map(|(at, _)| format!("{at}")).collect();
    let complete = good.len() == member.good.len();
    let labels =
        if good.len() == 1 { format!("label {}", good.concat()) } else { format!("labels {}", good.join(", ")) };
    let partitions = || hardware.devices.values().filter(|d| d.disk.as_deref() == Some(&device.name));
    if partitions().next().is_some() {
        let carries = partitions().find(|part| part.content().is_some_and(|content| content.zfs != Zfs::Nothing));
        if let Some(part) = carries {
            return Standing::Leftover(format!(
                "the disk has partitions, and {} carries a label of its own",
                part.node
            ));
        }
        if partitions().any(|part| part.content == Reading::Waiting) {
            return Standing::Leftover("the disk has partitions, which are not read yet".to_owned());
        }
        if !complete {
            return Standing::Leftover(format!("the disk has partitions, and only {labels} of the four are good"));
        }
    }
    if let Some(kind) = &member.tail {
        let text = format!("{} ends with a superblock that makes it a part of something else ({kind})", device.node);
        return Standing::Doubtful(Doubt { text, grave: true });
    }
    if complete {
        return Standing::Sound;
    }
    let text = format!("of the four labels of {} only {labels} can be used, so they may be left over", device.node);
    Standing::Doubtful(Doubt { text, grave: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::known::{Content, Partition};
    use crate::devices::swap::Header;
    use crate::zfs::label::Label;
    use crate::zfs::nvlist::NvList;

    fn label(good: [bool; 4], tail: Option<&str>) -> ZfsLabel {
        ZfsLabel { label: Label::new(NvList::new(), 0), good, tail: tail.map(str::to_owned) }
    }

    fn device(name: &str, number: u32, zfs: Zfs) -> Device {
        let content = Content { superblock: None, swap: Header::default(), zfs };
        Device {
            size: 1 << 30,
            disk: (number > 0).then(|| "sda".to_owned()),
            partition: (number > 0).then(|| Partition { number, ..Partition::default() }),
            wwid: Some("naa.5".to_owned()),
            ..Device::known(&format!("/dev/{name}"), Reading::Done(Box::new(content)))
        }
    }

    /// Standing of /dev/sda, or of /dev/sda1 if that is the only device, in short.
    fn of(devices: &[Device]) -> String {
        let all = devices.iter().map(|d| (d.name.clone(), d.clone())).collect();
        let hardware = Hardware { devices: all, ..Hardware::default() };
        let Zfs::Member(member) = &devices[0].content().unwrap().zfs else { panic!() };
        match standing(&hardware, &devices[0], member) {
            Standing::Sound => "sound".to_owned(),
            Standing::Doubtful(doubt) => format!("{}: {}", if doubt.grave { "grave" } else { "doubt" }, doubt.text),
            Standing::Leftover(why) => format!("leftover: {why}"),
        }
    }

    const ALL: [bool; 4] = [true; 4];
    const TWO: [bool; 4] = [true, true, false, false];

    #[test]
    fn a_whole_disk_with_partitions() {
        let disk = |good| device("sda", 0, Zfs::Member(label(good, None)));
        let part = |zfs| device("sda1", 1, zfs);
        assert_eq!(of(&[disk(ALL)]), "sound");
        assert_eq!(of(&[disk(ALL), part(Zfs::Nothing)]), "sound");
        let few = of(&[disk([false, true, true, true]), part(Zfs::Nothing)]);
        assert_eq!(few, "leftover: the disk has partitions, and only labels 1, 2, 3 of the four are good");
        let both = of(&[disk(ALL), part(Zfs::Member(label(ALL, None)))]);
        assert_eq!(both, "leftover: the disk has partitions, and /dev/sda1 carries a label of its own");
        assert!(of(&[disk(ALL), part(Zfs::Damaged("x".into()))]).starts_with("leftover"));
        let unread = Device { content: Reading::Waiting, ..part(Zfs::Nothing) };
        assert!(of(&[disk(ALL), unread]).contains("not read yet"));
    }

    #[test]
    fn what_may_be_something_else() {
        let part = |good, tail| of(&[device("sda1", 1, Zfs::Member(label(good, tail)))]);
        assert_eq!(part(ALL, None), "sound");
        let few = "doubt: of the four labels of /dev/sda1 only labels 0, 1 can be used, so they may be left over";
        assert_eq!(part(TWO, None), few);
        assert!(part([false, false, true, false], None).contains("only label 2 can"));
        for good in [ALL, TWO] {
            assert!(part(good, Some("drbd")).starts_with("grave: /dev/sda1 ends"), "{good:?}");
        }
    }

    #[test]
    fn one_place_by_several_paths() {
        let (a, b) = (device("sda1", 1, Zfs::Nothing), device("sdb1", 1, Zfs::Nothing));
        assert!(a.place().is_some());
        assert_eq!(a.place(), b.place());
        for other in [
            Device { wwid: Some("naa.6".into()), ..b.clone() },
            Device { size: 5, ..b.clone() },
            Device { partition: Some(Partition { number: 2, ..Partition::default() }), ..b.clone() },
        ] {
            assert_ne!(a.place(), other.place());
        }
        assert_eq!(Device { wwid: None, ..b }.place(), None);
    }
}
