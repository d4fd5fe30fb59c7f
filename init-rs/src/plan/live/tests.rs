use super::*;
use crate::cmdline::parse;

fn settings(line: &str) -> LayerSettings {
    let request = parse(line.as_bytes());
    request.layers.unwrap_or_else(|| panic!("{line}: {:?} {:?}", request.problems, request.notes))
}

fn found(line: &str, names: &[&str], list: Option<(&str, &str)>) -> Result<Vec<String>, String> {
    let settings = settings(line);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let lists = list.map(|(name, text)| (name.to_owned(), text.to_owned())).into_iter().collect();
    images(settings.live.as_deref().unwrap(), &settings.dir.value, &names, &lists)
}

/// live-boot sorts by name, the last one on top; a list has the lowest first.
#[test]
fn the_order_of_images() {
    let names = ["30-site.erofs", "10-base.squashfs", "boot.cat", "20-tools.squashfs", "vmlinuz"];
    let sorted = ["30-site.erofs", "20-tools.squashfs", "10-base.squashfs"];
    for line in ["boot=live", "boot=casper", "boot=live module=other"] {
        assert_eq!(found(line, &names, None).unwrap(), sorted, "{line}");
    }
    let list = "10-base.squashfs\n20-tools.squashfs";
    let listed = ["20-tools.squashfs", "10-base.squashfs"];
    for name in ["filesystem.module", "filesystem.filesystem.module"] {
        assert_eq!(found("boot=live", &names, Some((name, list))).unwrap(), listed, "{name}");
    }
    assert_eq!(found("boot=live module=small", &names, Some(("filesystem.small.module", list))).unwrap(), listed);
    assert_eq!(found("boot=live module=small", &names, Some(("filesystem.module", list))).unwrap(), sorted);
    assert!(found("boot=live", &names, Some(("filesystem.module", ""))).unwrap_err().contains("names no image"));
    assert!(found("boot=live", &names, Some(("filesystem.module", "a a"))).unwrap_err().contains("twice"));
    assert!(found("boot=live", &["vmlinuz"], None).unwrap_err().contains("has no image in live (.squashfs"));
    assert!(found("boot=live", &["my system.squashfs"], None).unwrap_err().contains("not called as a layer"));
}

#[test]
fn images_that_are_named() {
    let ubuntu =
        ["minimal.squashfs", "minimal.standard.squashfs", "minimal.standard.live.squashfs", "minimal.de.squashfs"];
    let stack = ["minimal.standard.live.squashfs", "minimal.standard.squashfs", "minimal.squashfs"];
    assert_eq!(found("layerfs-path=minimal.standard.live.squashfs", &ubuntu, None).unwrap(), stack);
    assert!(
        found("layerfs-path=minimal.x.squashfs", &ubuntu, None).unwrap_err().contains("no casper/minimal.x.squashfs")
    );
    assert_eq!(found("archisobasedir=arch", &["airootfs.erofs"], None).unwrap(), ["airootfs.erofs"]);
    assert!(found("archisobasedir=arch", &[], None).unwrap_err().contains("airootfs.sfs or arch/"));
    let line = "root=live:LABEL=x rd.live.squashimg=root.img";
    assert_eq!(found(line, &["root.img", "squashfs.img"], None).unwrap(), ["root.img"]);
    assert!(found("root=live:LABEL=x", &["root.img"], None).unwrap_err().contains("no LiveOS/squashfs.img"));
}

fn device(label: &str, uuid: &str) -> Device {
    let superblock = Superblock { kind: "iso9660".into(), uuid: uuid.into(), label: label.into() };
    crate::plan::sample::filesystem("sdb1", superblock)
}

#[test]
fn what_makes_a_medium() {
    let live = Sight { names: vec!["filesystem.squashfs".into()], ..Sight::default() };
    let of = |words: &str, device: &Device, sight: &Sight| {
        let settings = settings(words);
        judge(&settings, settings.live.as_deref().unwrap(), device, sight)
    };
    let stick = device("LIVE", "2026-01-02");
    assert_eq!(of("boot=live", &stick, &live), Ok(()));
    assert_eq!(of("boot=live live-media=LABEL=LIVE", &stick, &live), Ok(()));
    assert!(of("boot=live live-media=LABEL=OTHER", &stick, &live).is_err());
    assert!(of("boot=live live-media=LABEL=LIVE", &stick, &Sight::default()).is_err());
    // By its UUID, or by the file that stands for it.
    let arch = Sight { names: vec!["airootfs.sfs".into()], ..Sight::default() };
    let unpacked = Sight { marker: true, ..arch.clone() };
    let words = "archisobasedir=arch archisosearchuuid=2026-01-02";
    assert_eq!(of(words, &stick, &arch), Ok(()));
    assert!(of(words, &device("LIVE", "other"), &arch).unwrap_err().contains("boot/2026-01-02.uuid"));
    assert_eq!(of(words, &device("LIVE", "other"), &unpacked), Ok(()));
    // An ISO file; the tag is its own.
    let words = "root=live:LABEL=Fedora iso-scan/filename=/f.iso";
    let iso = |label: &str| {
        let superblock = Superblock { kind: "iso9660".into(), uuid: String::new(), label: label.into() };
        Sight { iso: Some((9, Some(superblock))), ..Sight::default() }
    };
    assert_eq!(of(words, &device("DATA", ""), &iso("Fedora")), Ok(()));
    assert!(of(words, &device("Fedora", ""), &iso("Debian")).unwrap_err().contains("\"Debian\""));
    assert!(of(words, &device("Fedora", ""), &Sight::default()).unwrap_err().contains("has no file f.iso"));
    let cut = Sight { iso: Some((9, None)), ..Sight::default() };
    assert!(of(words, &device("DATA", ""), &cut).unwrap_err().contains("no ISO file"));
}

#[test]
fn what_was_seen_comes_through() {
    let superblock = Superblock { kind: "iso9660".into(), uuid: "2026-01".into(), label: "My Live 1".into() };
    for iso in [None, Some((7, None)), Some((7, Some(superblock)))] {
        let sight = Sight { names: vec!["a b.squashfs".into(), "c".into()], marker: true, iso };
        assert_eq!(Sight::from_text(&sight.to_text()), Ok(sight));
    }
    assert_eq!(Sight::from_text("error it is broken"), Err("it is broken".to_owned()));
    assert!(Sight::from_text("name a").is_err(), "cut off");
}
