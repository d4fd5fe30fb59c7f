//! Live media: hybrid sticks in every order of events, decoys, disks that fall silent, ISO files, and where the parts are shown.

use super::layers::{boots, fails, machine, mounted, text};
use super::{Holds, Machine, ModuleSpec, Node, Tree, World};
use crate::sim::layering::{ext4_file, image, iso};
use std::path::Path;
use std::time::Duration;
use taproot_init::devices::known::Partition;
use taproot_init::sys::System as _;

fn live(words: &str) -> Machine {
    let mut machine = machine(&format!("{words} panic=1"));
    for module in ["exfat", "ntfs3"] {
        machine.modules.insert(module.to_owned(), ModuleSpec::takes(10));
    }
    machine
}

fn holds(kind: &str, label: &str, tree: Tree) -> Holds {
    Holds::Filesystem { kind: kind.into(), uuid: format!("{label}-uuid"), label: label.into(), tree }
}

/// What a medium of live-boot has, the images in the order of their names.
fn medium() -> Tree {
    let mut tree = Tree::of(&[("live/vmlinuz", b"x")]);
    for (file, name) in [("10-base.squashfs", "base"), ("20-middle.squashfs", "middle"), ("30-top.squashfs", "top")] {
        tree.put(&format!("live/{file}"), image(name));
    }
    tree
}

/// Adds a partition that comes then.
fn part(machine: &mut Machine, disk: &str, number: u32, holds: Holds, comes: u64) {
    let device = machine.add(&format!("{disk}{number}"), holds);
    device.disk = Some(disk.to_owned());
    device.partition = Some(Partition { number, start: u64::from(number) << 20, ..Partition::default() });
    device.arrives = Duration::from_millis(comes);
}

/// A stick as xorriso makes them: the disk begins as its first partition does, an ESP without a label, a partition for what is kept.
/// Each comes at its time.
fn stick(words: &str, comes: [u64; 4]) -> Machine {
    keeping(words, comes, Tree::default())
}

/// The same, with that on the third partition.
fn keeping(words: &str, comes: [u64; 4], what: Tree) -> Machine {
    let mut machine = live(words);
    let [disk, first, esp, kept] = comes;
    machine.add("sdb", holds("iso9660", "LIVE", Tree::default())).arrives = Duration::from_millis(disk);
    part(&mut machine, "sdb", 1, holds("iso9660", "LIVE", medium()), first);
    part(&mut machine, "sdb", 2, holds("vfat", "", Tree::of(&[("EFI/BOOT/BOOTX64.EFI", b"x")])), esp);
    part(&mut machine, "sdb", 3, holds("ext4", "persistence", what), kept);
    machine
}

/// The disk itself is never mounted, so that its third partition can be.
fn is_from_partition(world: &World, about: &str) {
    assert_eq!(mounted(world, "/run/taproot/base").unwrap(), ("/dev/sdb1".into(), "iso9660".into(), true), "{about}");
    let touched = world.events().into_iter().any(|event| {
        let text = event.text;
        (text.starts_with("mount ") || text.starts_with("run "))
            && text.split([' ', ',']).any(|word| word == "/dev/sdb")
    });
    assert!(!touched, "{about}: the whole disk was mounted");
    assert_eq!(text(world, "/newroot/etc/layer"), "top", "{about}");
    assert_eq!(mounted(world, "/newroot").unwrap().1, "overlay", "{about}");
}

/// Every order in which the four devices of a stick can be told of, close together and apart.
#[test]
fn a_hybrid_stick_in_every_order_of_events() {
    for line in ["boot=live live-media=LABEL=LIVE", "boot=live", "root=LABEL=LIVE boot=live"] {
        for order in 0..24_usize {
            let mut left = vec![0_usize, 1, 2, 3];
            let mut code = order;
            let order: Vec<usize> = (1..=4)
                .rev()
                .map(|n| {
                    let at = code % n;
                    code /= n;
                    left.remove(at)
                })
                .collect();
            for gap in [1, 90, 250] {
                let mut comes = [0; 4];
                for (place, device) in order.iter().enumerate() {
                    comes[*device] = 600 + gap * place as u64;
                }
                // A disk without partitions for longer than the kernel takes to read a table is taken for one that has none.
                if comes.iter().max().unwrap() - comes[0] > 290 {
                    continue;
                }
                let about = format!("{line} {comes:?}");
                is_from_partition(&boots(stick(line, comes)), &about);
            }
        }
    }
}

#[test]
fn what_carries_the_label_and_has_no_image_is_no_medium() {
    for late in [600, 2000] {
        let mut machine = stick("boot=live live-media=LABEL=LIVE", [700, 710, 720, 730]);
        machine.add("sda", holds("ext4", "LIVE", Tree::of(&[("live/readme", b"x")]))).arrives =
            Duration::from_millis(late);
        is_from_partition(&boots(machine), &format!("{late}"));
    }
    // One without the label does not count, whatever is on it.
    let mut machine = live("boot=live live-media=LABEL=OTHER taproot.wait=2");
    machine.add("sda", holds("ext4", "LIVE", medium()));
    assert!(fails(machine, "no-device").contains("no live medium LABEL=OTHER was found within 2 s"));
    let mut machine = live("boot=live taproot.wait=2");
    machine.add("sda", holds("ext4", "DATA", Tree::default()));
    assert!(fails(machine, "no-device").contains("has no image in live"));
    // Two that count: neither is guessed.
    let mut machine = stick("boot=live live-media=LABEL=LIVE", [700, 710, 720, 730]);
    machine.add("sda", holds("ext4", "LIVE", medium()));
    assert!(fails(machine, "ambiguous-device").contains("/dev/sda and /dev/sdb1 are both LABEL=LIVE"));
    // Where nothing is named, what can be pulled out comes first.
    let mut machine = live("boot=live");
    machine.add("sda", holds("ext4", "", medium()));
    machine.add("sdb", holds("ext4", "", medium())).links = vec!["by-id/usb-Stick_1-0:0".to_owned()];
    assert_eq!(mounted(&boots(machine), "/run/taproot/base").unwrap().0, "/dev/sdb");
}

/// One that answers the scout and falls silent then holds up the look into it, and not the boot.
#[test]
fn a_disk_that_falls_silent() {
    for line in ["boot=live live-media=LABEL=LIVE", "boot=live"] {
        let mut machine = stick(line, [700, 710, 720, 730]);
        machine.add("sda", holds("ext4", "LIVE", medium())).arrives = Duration::from_millis(500);
        machine.stuck.push("sda".to_owned());
        machine.add("sdc", holds("ext4", "LIVE", medium())).answers = None;
        let world = boots(machine);
        is_from_partition(&world, line);
        assert!(world.time() < Duration::from_secs(25), "{line}: {:?}", world.time());
    }
}

fn host(kind: &str, path: &str, file: Node) -> Holds {
    let mut tree = Tree::default();
    tree.put(path, file);
    holds(kind, "DATA", tree)
}

#[test]
fn an_iso_file_with_a_blank_in_its_path() {
    let path = "my isos/live 13.iso";
    for (line, kind) in [
        ("boot=live \"findiso=/my isos/live 13.iso\"", "exfat"),
        ("boot=live \"fromiso=/dev/sda1/my isos/live 13.iso\"", "ntfs3"),
        ("boot=live live-media=LABEL=DATA \"findiso=/my isos/live 13.iso\"", "vfat"),
        ("boot=casper live-media-path=live \"iso-scan/filename=/my isos/live 13.iso\"", "ext4"),
        ("boot=live img_dev=LABEL=DATA \"img_loop=/my isos/live 13.iso\"", "exfat"),
    ] {
        let mut machine = live(line);
        machine.images.insert("iso".to_owned(), medium());
        // What has no such file is no host.
        machine.add("sda", holds("ext4", "DATA0", Tree::default()));
        part(&mut machine, "sda", 1, host(kind, path, iso("iso")), 900);
        let world = boots(machine);
        assert_eq!(text(&world, "/newroot/etc/layer"), "top", "{line}");
        let (source, fstype, read_only) = mounted(&world, "/run/taproot/medium-host").unwrap();
        assert_eq!((source.as_str(), fstype.as_str(), read_only), ("/dev/sda1", kind, true), "{line}");
        assert_eq!(mounted(&world, "/run/taproot/base").unwrap().1, "iso9660", "{line}");
        assert!(world.stat(Path::new("/run/live/findiso/my isos")).is_ok(), "{line}");
    }
    let mut machine = live("boot=live findiso=/live.iso taproot.wait=2");
    machine.add("sda1", host("vfat", "live.iso", Node::File(vec![0; 9000], 0o644)));
    assert!(fails(machine, "no-device").contains("live.iso is no ISO file"));
}

#[test]
fn images_by_a_list_and_what_lacks() {
    let with_list = |list: &str| {
        let mut machine = live("boot=live");
        let mut tree = medium();
        tree.text("live/filesystem.module", list);
        machine.add("sda", holds("ext4", "", tree));
        machine
    };
    let world = boots(with_list("10-base.squashfs 30-top.squashfs 20-middle.squashfs\n"));
    assert_eq!(text(&world, "/newroot/etc/layer"), "middle", "the last one of the list is on top");
    assert!(fails(with_list("10-base.squashfs 40-lost.squashfs"), "no-layer").contains("40-lost.squashfs"));
}

#[test]
fn places_log_and_memory() {
    let world = boots(stick("boot=live toram=0", [700, 710, 720, 730]));
    for place in ["medium/live/vmlinuz", "rootfs/30-top.squashfs/etc/layer", "overlay/upper", "boot-live.log"] {
        assert!(world.stat(Path::new("/run/live").join(place).as_path()).is_ok(), "{place}");
    }
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    // What is asked to be kept and cannot be goes to memory, and that is told.
    let world = boots(stick("boot=live taproot.upper=label:lost taproot.wait=2", [700, 710, 720, 730]));
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    assert!(text(&world, "/run/taproot/boot.json").contains("the root's upper is not the one that is asked for"));
    let mut arch = live("archisobasedir=arch archisolabel=ARCH");
    let mut tree = Tree::default();
    tree.put(&format!("arch/{}/airootfs.sfs", std::env::consts::ARCH), image("base"));
    arch.add("sr0", holds("iso9660", "ARCH", tree));
    let world = boots(arch);
    assert_eq!(text(&world, "/run/archiso/airootfs/etc/layer"), "base");
    assert_eq!(mounted(&world, "/run/archiso/bootmnt").unwrap().0, "run/taproot/base");
    let mut fedora = live("root=live:CDLABEL=F rd.live.image");
    let mut tree = Tree::default();
    tree.put("LiveOS/squashfs.img", image("base"));
    fedora.add("sr0", holds("iso9660", "F", tree));
    assert_eq!(text(&boots(fedora), "/run/rootfsbase/etc/layer"), "base");
}

fn report(world: &World) -> String {
    text(world, "/run/taproot/boot.json")
}

/// The words for the medium and for what is kept are one request.
#[test]
fn a_stick_keeps_what_is_written_on_its_third_partition() {
    let comes = [700, 710, 720, 730];
    let conf = |text: &str| Tree::of(&[("persistence.conf", text.as_bytes())]);
    let world = boots(keeping("boot=live live-media=LABEL=LIVE persistence", comes, conf("/home union\n")));
    is_from_partition(&world, "directories");
    let kept = mounted(&world, "/run/taproot/persistence/sdb3").unwrap();
    assert_eq!(kept, ("/dev/sdb3".into(), "ext4".into(), false));
    assert!(world.stat(Path::new("/run/taproot/persistence/sdb3/home/rw")).is_ok());
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");
    let world = boots(keeping("boot=live persistence", comes, conf("/ union\n")));
    assert!(world.story().contains("/run/taproot/persistence/sdb3/rw"), "{}", world.story());
    assert_eq!(mounted(&world, "/run/taproot/upper"), None);
    assert!(world.stat(Path::new("/run/live/persistence/sdb3/rw")).is_ok());
    // A stick without one, and one whose partition says nothing: memory, and that is told.
    for (machine, says) in [
        (keeping("boot=live persistence", comes, Tree::default()), "it has no persistence.conf"),
        (keeping("boot=live persistence persistence-label=lost", comes, Tree::default()), "no file called lost"),
    ] {
        let world = boots(machine.clone());
        is_from_partition(&world, says);
        let said = report(&world);
        assert!(said.contains("NOTHING IS KEPT of what is written") && said.contains(says), "{said}");
        assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs", "{says}");
        let mut strict = machine;
        strict.cmdline += " taproot.upper_fallback=fail";
        assert!(fails(strict, "no-upper").contains("nothing can be kept (persistence)"), "{says}");
    }
}

/// A file beside the ISO file: what both are on is made writable, unless that would be without its journal.
#[test]
fn what_is_kept_in_a_file_beside_an_iso_file() {
    let with = |kind: &str, words: &str| {
        let mut machine = live(&format!("boot=live findiso=/live.iso persistence {words}"));
        machine.images.insert("iso".to_owned(), medium());
        machine.images.insert("kept".to_owned(), Tree::of(&[("persistence.conf", b"/home union\n")]));
        let mut tree = Tree::default();
        tree.put("live.iso", iso("iso"));
        tree.put("persistence", ext4_file("kept"));
        machine.add("sda1", holds(kind, "DATA", tree));
        machine
    };
    let world = boots(with("exfat", ""));
    assert_eq!(mounted(&world, "/run/taproot/medium-host").unwrap(), ("/dev/sda1".into(), "exfat".into(), false));
    assert_eq!(mounted(&world, "/run/taproot/persistence/sda1.file").unwrap().1, "ext4", "{}", world.story());
    assert!(world.stat(Path::new("/run/taproot/persistence/sda1.file/home/rw")).is_ok());
    let world = boots(with("ext4", ""));
    assert!(mounted(&world, "/run/taproot/medium-host").unwrap().2, "it stays read-only");
    assert!(report(&world).contains("mounted without its journal (ext4)"), "{}", report(&world));
    let world = boots(with("ext4", "persistence-label=DATA"));
    assert!(report(&world).contains("the ISO file of the live medium is on it"), "{}", report(&world));
}

/// Images in memory: neither the medium nor what its file is on is needed, or shown.
#[test]
fn in_memory_everything_is_given_back() {
    let mut machine = live("boot=live findiso=/live.iso toram");
    machine.images.insert("iso".to_owned(), medium());
    machine.add("sda1", host("exfat", "live.iso", iso("iso")));
    let world = boots(machine);
    for place in ["base", "medium-host"] {
        assert_eq!(mounted(&world, &format!("/run/taproot/{place}")), None, "{place}: {}", world.story());
    }
    assert!(world.story().contains("is not needed any more and can be taken away"), "{}", world.story());
    assert_eq!(text(&world, "/newroot/etc/layer"), "top");
    assert!(world.stat(Path::new("/run/live/medium")).is_err() && world.stat(Path::new("/run/live/findiso")).is_err());
    assert!(world.stat(Path::new("/run/live/rootfs/30-top.squashfs/etc/layer")).is_ok());
}

#[test]
fn an_image_in_an_image_is_refused_with_its_own_reason() {
    let mut fedora = live("root=live:CDLABEL=F rd.live.image");
    let mut tree = Tree::default();
    tree.put("LiveOS/squashfs.img", image("outer"));
    fedora.images.insert("outer".to_owned(), Tree::of(&[("LiveOS/rootfs.img", b"x")]));
    fedora.add("sr0", holds("iso9660", "F", tree));
    let said = fails(fedora, "layer-broken");
    assert!(said.contains("image squashfs.img holds no root, but another image: LiveOS/rootfs.img"), "{said}");
}

#[test]
fn casper_has_its_medium_in_the_root_too() {
    let casper = |words: &str| {
        let mut machine = live(&format!("boot=casper {words}"));
        let mut tree = Tree::of(&[("casper/vmlinuz", b"x")]);
        tree.put("casper/filesystem.squashfs", image("base"));
        machine.add("sr0", holds("iso9660", "UBUNTU", tree));
        machine.add("sdc", holds("ext4", "mine", Tree::default()));
        machine
    };
    let world = boots(casper("persistent"));
    assert!(world.stat(Path::new("/newroot/cdrom/casper/vmlinuz")).is_ok(), "{}", world.story());
    // Nothing is made in an upper that is kept.
    let world = boots(casper("taproot.upper=label:mine"));
    assert!(world.stat(Path::new("/newroot/cdrom")).is_err());
    assert!(report(&world).contains("/cdrom, where casper has it, is not there"), "{}", report(&world));
    let mut machine = casper("taproot.upper=label:mine");
    machine.images.get_mut("base").unwrap().text("cdrom/.keep", "");
    assert!(boots(machine).stat(Path::new("/newroot/cdrom/casper/vmlinuz")).is_ok());
}
