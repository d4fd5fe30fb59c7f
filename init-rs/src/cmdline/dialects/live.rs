//! Live systems: live-boot, casper, archiso, and dracut's dmsquash-live.

use super::*;

fn live(r: &Request, check: fn(&LayerSettings, &LiveSettings) -> bool) -> bool {
    let good = r.layers.as_ref().is_some_and(|l| l.live.as_ref().is_some_and(|live| check(l, live)));
    let root = matches!(r.root.value, Selector::Medium | Selector::Device(_));
    good && root && !r.ours && r.problems.is_empty()
}

fn tag(live: &LiveSettings, tag: &str) -> bool {
    live.tag.as_ref().is_some_and(|found| found.value == tag)
}

fn iso(live: &LiveSettings, device: Option<&str>, path: &str) -> bool {
    live.iso.as_ref().is_some_and(|iso| iso.value.device.as_deref() == device && iso.value.path == path)
}

fn first_of(live: &LiveSettings, names: &[&str]) -> bool {
    matches!(&live.images.value, Images::FirstOf(found) if found == names)
}

fn named(live: &LiveSettings, names: &[&str]) -> bool {
    matches!(&live.images.value, Images::Named(found) if found == names)
}

fn in_memory(l: &LayerSettings, how: ToRam) -> bool {
    l.to_ram.as_ref().is_some_and(|to_ram| to_ram.value == how)
}

fn memory(l: &LayerSettings, size: Option<&str>) -> bool {
    matches!(&l.upper.value, Upper::Ram { size: found, .. } if found.as_deref() == size)
}

/// Refused with a reason, and nothing else is booted instead.
fn refused(r: &Request, why: &str) -> bool {
    matches!(&r.root.value, Selector::Unusable(text) if text.contains(why))
        && r.layers.is_none()
        && r.problems.len() == 1
}

/// A line of a live system that a word makes no difference to.
fn same(r: &Request, line: &str) -> bool {
    let plain = parse(line.as_bytes());
    plain.layers.is_some() && r.layers == plain.layers && r.notes.is_empty() && r.problems.is_empty()
}

const NOTHING_WRITTEN: &str = "the medium is only read";
const REFUSED: &str = "refused, with the reason";

#[rustfmt::skip] // a row a line
pub(super) const ROWS: &[Row] = &[
    row("live-boot", "boot=live", "a medium, a union over its images, memory over them", |r| live(r, |l, m| l.dir.value == "live" && matches!(&m.images.value, Images::Listed(n) if n == "filesystem") && memory(l, None) && l.fallback.value == UpperFallback::Ram && m.tag.is_none()) && r.root.value == Selector::Medium, ""),
    row("live-boot", "boot=live live-media=/dev/sdb1 live-media-path=/os/ live-media-timeout=9", "that medium, that directory, that time", |r| live(r, |l, m| tag(m, "/dev/sdb1") && l.dir.value == "os") && waits(r, 9), ""),
    row("live-boot", "boot=live bootfrom=removable-usb", "only USB disks", |r| live(r, |_, m| m.kind.as_ref().is_some_and(|k| k.value == MediumKind::Usb)), ""),
    row("live-boot", "boot=live live-media=removable", "only removable disks", |r| live(r, |_, m| m.kind.as_ref().is_some_and(|k| k.value == MediumKind::Removable)), "what the kernel calls removable is not known; USB disks, memory cards and optical drives are taken"),
    row("live-boot", "boot=live findiso=/a/b.iso", "an ISO file, wherever it is", |r| live(r, |_, m| iso(m, None, "a/b.iso")), ""),
    row("live-boot", "boot=live findiso=", "nothing, as its menus write it where there is no ISO file", |r| live(r, |_, m| m.iso.is_none()) && r.notes.is_empty(), ""),
    row("live-boot", "boot=live fromiso=/dev/sda1/b.iso", "an ISO file on a device", |r| live(r, |_, m| iso(m, Some("/dev/sda1"), "b.iso")), ""),
    row("live-boot", "boot=live \"isofrom=LABEL=DATA/my isos/b.iso\"", "an ISO file on a device", |r| live(r, |_, m| iso(m, Some("LABEL=DATA"), "my isos/b.iso")), ""),
    row("live-boot", "boot=live module=small", "the images of a list", |r| live(r, |_, m| matches!(&m.images.value, Images::Listed(n) if n == "small")), ""),
    row("live-boot", "boot=live toram", "in memory, if there is room", |r| live(r, |l, m| in_memory(l, ToRam::IfItFits) && matches!(m.images.value, Images::Listed(_))), ""),
    row("live-boot", "boot=live toram=filesystem.squashfs", "in memory, and this image alone", |r| live(r, |l, m| in_memory(l, ToRam::IfItFits) && named(m, &["filesystem.squashfs"])), ""),
    row("live-boot", "boot=live overlay-size=2G", "memory for what is written", |r| live(r, |l, _| memory(l, Some("2G"))), ""),
    row("live-boot", "boot=live plainroot", "the image is the root", |r| live(r, |l, _| l.upper.value == Upper::None), ""),
    row("live-boot", "boot=live union=overlay", "an overlay", |r| same(r, "boot=live"), ""),
    row("live-boot", "boot=live union=aufs", "aufs", |r| live(r, |_, _| true) && r.notes.len() == 1, "told of: an overlay"),
    row("live-boot", "root=LABEL=STICK boot=live", "nothing, root= is not read", |r| live(r, |_, m| tag(m, "LABEL=STICK")) && is_device_of(r, "LABEL=STICK"), "names the medium"),
    row("live-boot", "boot=live root=/dev/ram0", "nothing, root= is not read", |r| live(r, |_, m| m.tag.is_none()), ""),
    row("live-boot", "boot=live root=ZFS=p/d", "nothing, root= is not read", |r| refused(r, "names a root on ZFS"), REFUSED),
    row("live-boot", "boot=live nofstab nonetworking skipconfig noeject noprompt quickusbmodules ignore_uuid ramdisk-size=1 swap", "what it does besides", |r| same(r, "boot=live"), NOTHING_WRITTEN),
    row("live-boot", "boot=live netboot=nfs nfsroot=h:/x nfsopts=ro", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live fetch=http://h/x", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live httpfs=http://h/x", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live ftpfs=ftp://h/x", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live iscsi=h;t", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live nfsoverlay=h:/x", "the upper over a network", |r| refused(r, "over a network"), REFUSED),
    row("live-boot", "boot=live todisk=/dev/sda", "copied to a disk", |r| refused(r, "copied to no disk"), REFUSED),
    row("live-boot", "boot=live live-media-offset=512", "a medium within a device", |r| refused(r, "begins where its device begins"), REFUSED),
    row("live-boot", "boot=live live-media-encryption=luks", "an encrypted medium", |r| refused(r, "encrypted"), REFUSED),
    row("live-boot", "boot=live exposedroot", "the image writable", |r| refused(r, "never written to"), REFUSED),
    row("live-boot", "boot=live skipunion", "no union", |r| refused(r, "plainroot"), REFUSED),
    row("live-boot", "boot=live read-only", "block devices read-only", |r| refused(r, "taproot.import=ro"), REFUSED),
    row("live-boot", "boot=live verify-checksums", "the medium read through", |r| refused(r, "not read through"), REFUSED),
    row("live-boot", "findiso=/a.iso", "nothing without boot=live", noted, "told of"),
    row("casper", "boot=casper", "as live-boot, in another directory", |r| live(r, |l, _| l.dir.value == "casper"), ""),
    row("casper", "layerfs-path=a.b.squashfs ---", "one image over another", |r| live(r, |l, m| l.dir.value == "casper" && named(m, &["a.b.squashfs", "a.squashfs"])), ""),
    row("casper", "boot=casper iso-scan/filename=/u.iso", "an ISO file", |r| live(r, |_, m| iso(m, None, "u.iso")), ""),
    row("casper", "boot=casper url=http://h/u.iso", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("casper", "boot=casper persistent", "a partition called casper-rw or writable takes what is written", |r| live(r, |l, _| memory(l, None)) && r.notes.len() == 1, "what is written goes to memory, and a remark says so"),
    row("live-boot", "boot=live persistence", "a medium, and what is kept on another", |r| live(r, |l, _| l.persistence.is_some() && memory(l, None)) && r.notes.is_empty(), ""),
    row("archiso", "archisobasedir=arch archisolabel=ARCH_1", "a medium by its label", |r| live(r, |l, m| tag(m, "LABEL=ARCH_1") && l.dir.value == format!("arch/{}", std::env::consts::ARCH) && first_of(m, &["airootfs.sfs", "airootfs.erofs"])), ""),
    row("archiso", "archisodevice=UUID=1-2", "a medium", |r| live(r, |_, m| tag(m, "UUID=1-2")), ""),
    row("archiso", "archisosearchuuid=1-2", "by UUID, or by a file of that name", |r| live(r, |_, m| tag(m, "UUID=1-2") && m.marker.as_ref().is_some_and(|f| f.value == "boot/1-2.uuid")), ""),
    row("archiso", "archisosearchfilename=/boot/x", "by a file", |r| live(r, |_, m| m.tag.is_none() && m.marker.as_ref().is_some_and(|f| f.value == "boot/x")), ""),
    row("archiso", "archisobasedir=arch img_dev=UUID=1-2 img_loop=/a.iso img_flags=ro", "an ISO file on a device", |r| live(r, |_, m| iso(m, Some("UUID=1-2"), "a.iso")) && r.notes.is_empty(), ""),
    row("archiso", "archisobasedir=arch img_label=DATA img_loop=/a.iso", "an ISO file on a device", |r| live(r, |_, m| iso(m, Some("LABEL=DATA"), "a.iso")), ""),
    row("archiso", "archisobasedir=arch copytoram=y", "in memory", |r| live(r, |l, _| in_memory(l, ToRam::Must)), ""),
    row("archiso", "archisobasedir=arch copytoram=auto", "in memory if it is large enough", |r| live(r, |l, _| in_memory(l, ToRam::IfItFits)), "whatever the image's size"),
    row("archiso", "archisobasedir=arch cow_spacesize=1G", "memory for what is written", |r| live(r, |l, _| memory(l, Some("1G"))), ""),
    row("archiso", "archisobasedir=arch copytoram=n copytoram_size=50% cow_flags=x cow_chunksize=8 cow_persistent=N dm_snap_prefix=arch", "of what is not done", |r| same(r, "archisobasedir=arch"), ""),
    row("archiso", "archisobasedir=arch cow_label=KEEP", "an upper on a device", |r| refused(r, "taproot.upper=label:NAME"), REFUSED),
    row("archiso", "archisobasedir=arch cow_device=/dev/sdb3", "an upper on a device", |r| refused(r, "taproot.upper="), REFUSED),
    row("archiso", "archisobasedir=arch cow_directory=/x", "an upper on a device", |r| refused(r, "taproot.upper="), REFUSED),
    row("archiso", "archisobasedir=arch checksum=y", "the image checked", |r| refused(r, "not read through"), REFUSED),
    row("archiso", "archisobasedir=arch verify=y", "the image's signature", |r| refused(r, "not read through"), REFUSED),
    row("archiso", "archisobasedir=arch cms_verify=y checksum=n", "the image's signature", |r| refused(r, "not read through"), REFUSED),
    row("archiso", "archisobasedir=arch archiso_http_srv=http://h/ archiso_nfs_srv=h:/x archiso_nbd_srv=h", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("archiso", "archisobasedir=arch archiso_pxe_http=http://h/", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("dracut", "root=live:CDLABEL=F-41 rd.live.image", "a medium", |r| live(r, |l, m| tag(m, "LABEL=F-41") && l.dir.value == "LiveOS" && first_of(m, &["squashfs.img"])), ""),
    row("dracut", "root=UUID=1-2 rd.live.image=1", "a medium", |r| live(r, |_, m| tag(m, "UUID=1-2")), ""),
    row("dracut", "root=live:/dev/sr0 rd.live.dir=os rd.live.squashimg=root.img", "a directory and an image", |r| live(r, |l, m| l.dir.value == "os" && first_of(m, &["root.img"])), ""),
    row("dracut", "root=live:LABEL=F iso-scan/filename=/f.iso", "an ISO file with that label", |r| live(r, |_, m| tag(m, "LABEL=F") && iso(m, None, "f.iso")) && r.root.value == Selector::Medium, ""),
    row("dracut", "root=live:LABEL=F rd.live.ram=1", "in memory", |r| live(r, |l, _| in_memory(l, ToRam::Must)), ""),
    row("dracut", "root=live:LABEL=F rd.live.overlay=tmpfs:size=1G,nr_inodes=9", "memory for what is written", |r| live(r, |l, _| l.upper.value == Upper::Ram { size: Some("1G".into()), inodes: Some(9) }), ""),
    row("dracut", "root=live:LABEL=F rd.live.overlay=LABEL=X", "an upper on a device, in a directory called after the medium", |r| live(r, |l, _| l.upper.value == Upper::Device("LABEL=X".into())), "in its directory upper"),
    row("dracut", "root=live:LABEL=F rd.live.overlay=LABEL=X:/y", "an upper on a device", |r| refused(r, "taproot.upper="), REFUSED),
    row("dracut", "root=live:LABEL=F rd.live.overlay.overlayfs=1 rd.live.overlay.size=512 rd.live.overlay.thin=1 rd.live.overlay.cowfs=ext4 rd.live.overlay.nouserconfirmprompt rd.live.debug=1 rd.minmem=1 rd.live.ram=0 rd.live.check=0 rd.live.overlay.persistent=0", "of what is not done", |r| same(r, "root=live:LABEL=F"), ""),
    row("dracut", "root=live:LABEL=F rd.live.check", "the medium read through", |r| refused(r, "not read through"), REFUSED),
    row("dracut", "root=live:LABEL=F rd.writable.fsimg", "the image writable", |r| refused(r, "never written to"), REFUSED),
    row("dracut", "root=live:LABEL=F rd.live.updates=http://h/x", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("dracut", "root=live:http://h/f.iso", "over a network", |r| refused(r, "over a network"), REFUSED),
    row("dracut", "root=live:LABEL=F root=ZFS=p/d", "the last root= counts", |r| is_dataset(r, "p/d") && r.layers.is_none(), ""),
];

fn is_device_of(r: &Request, spec: &str) -> bool {
    r.root.value == Selector::Device(spec.into())
}
