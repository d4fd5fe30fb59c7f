//! Seeds for the parsers of the builder.

use std::io;

use taproot::initramfs::archive::{Archive, Content};
use taproot::initramfs::compress::Compression;
use taproot_init::image::{CONFIG_PATH, ExpectedPool, MANIFEST_PATH};
use taproot_init::plan::facts::{Dataset, Kind, Mountpoint, PoolFact};
use taproot_init::plan::fstab;
use taproot_init::report::boot::BootReport;

/// Images, and compressed files, behind the byte that says which.
pub fn archives() -> io::Result<Vec<Vec<u8>>> {
    let made = |result: Result<(), _>| result.map_err(|e: taproot::initramfs::archive::ArchiveError| io::Error::other(e));
    let mut early = Archive::default();
    made(early.file("/kernel/x86/microcode/GenuineIntel.bin", vec![1; 20], "microcode"))?;
    let early = early.into_cpio(0, Vec::new())?;
    let mut tree = Archive::default();
    made(tree.program("/init", vec![7; 50], "init"))?;
    made(tree.add("/dev/null", Content::Device(1, 3), 0o666, "node"))?;
    made(tree.add("/bin/sh", Content::Link("busybox".to_owned()), 0o777, "shell"))?;
    made(tree.file(MANIFEST_PATH, b"/init\tthe program\n".to_vec(), "manifest"))?;
    made(tree.file(CONFIG_PATH, b"cmdline=quiet\npool=tank\t7\t/dev/vda\n".to_vec(), "configuration"))?;
    let archive = tree.into_cpio(0, Vec::new())?;

    let mut seeds = Vec::new();
    for compression in
        [Compression::None, Compression::Zstd(1), Compression::Xz(0), Compression::Gzip(1), Compression::Lz4]
    {
        seeds.push([&[0][..], &early, &compression.apply(archive.clone())?].concat());
        seeds.push([&[0][..], &compression.apply(vec![0; 300_000])?].concat());
    }
    for control in 3..=5 {
        seeds.push([&[control, 100][..], &early, &archive].concat());
        seeds.push([&[control][..], &archive].concat());
    }
    for (control, compression) in [(6, Compression::Zstd(1)), (7, Compression::Xz(0)), (14, Compression::Gzip(1))] {
        seeds.push([&[control][..], &compression.apply(b"firmware".to_vec())?].concat());
        seeds.push([&[control][..], &compression.apply(vec![0; 2_000_000])?].concat());
    }
    Ok(seeds)
}

fn header(class: u8, kind: u8, machine: u8) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
    (out[16], out[18], out[20]) = (kind, machine, 1);
    out
}

fn words<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A module: `.modinfo`, the names of the sections, three headers of sections.
fn module() -> Vec<u8> {
    let mut out = header(2, 1, 62);
    let info = b"vermagic=6.1.0 SMP preempt\0version=2.3.1\0firmware=a/b.bin\0license=CDDL\0";
    let names = b"\0.modinfo\0.shstrtab\0";
    out.extend(info);
    let names_at = out.len() as u64;
    out.extend(names);
    out.resize(out.len().next_multiple_of(8), 0);
    let headers = out.len() as u64;
    for (name, kind, at, size) in [(0, 0, 0, 0), (1, 1, 64, info.len()), (10, 3, names_at, names.len())] {
        out.extend(words([name | kind << 32, 0, 0, at, size as u64, 0, 1, 0]));
    }
    out[40..48].copy_from_slice(&headers.to_le_bytes());
    (out[52], out[58], out[60], out[62]) = (64, 64, 3, 2);
    out
}

/// A program: the loader, two libraries and a directory for them.
fn program() -> Vec<u8> {
    let mut out = header(2, 3, 62);
    let interpreter = b"/lib64/ld-linux-x86-64.so.2\0";
    let names = b"\0libc.so.6\0libzfs.so.4\0$ORIGIN/../lib:/opt/lib\0";
    let (interpreter_at, names_at) = (64 + 3 * 56, 64 + 3 * 56 + interpreter.len() as u64);
    let dynamic_at = (names_at + names.len() as u64).next_multiple_of(8);
    // Needed, needed, runpath, string table, its size, end.
    let dynamic = words([1, 1, 1, 11, 29, 23, 5, names_at, 10, names.len() as u64, 0, 0]);
    let end = dynamic_at + dynamic.len() as u64;
    for (kind, at, size) in
        [(3, interpreter_at, interpreter.len() as u64), (1, 0, end), (2, dynamic_at, dynamic.len() as u64)]
    {
        out.extend(words([kind | 4 << 32, at, at, at, size, size, 8]));
    }
    out.extend(interpreter);
    out.extend(names);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(dynamic);
    (out[32], out[52], out[54], out[56]) = (64, 64, 56, 3);
    out
}

/// Programs, modules, and an ld.so.conf.
pub fn programs() -> Vec<Vec<u8>> {
    let mut small = header(1, 1, 3);
    // 32 bits: no sections, no segments.
    small.truncate(52);
    let mut other = module();
    other[18] = 183;
    vec![module(), program(), small, other, b"# c\ninclude /etc/ld.so.conf.d/*.conf\n/opt/lib\n".to_vec()]
}

/// The four files of depmod, and modprobe.d.
pub fn indexes() -> Vec<Vec<u8>> {
    let dep = b"updates/zfs.ko: updates/spl.ko\nupdates/spl.ko:\nk/virtio_blk.ko.xz:\nk/h-l.ko.zst: k/ext4.ko\nk/ext4.ko:\nb.ko: c.ko\nc.ko: b.ko\n";
    let alias = b"alias virtio:d00000002v* virtio-blk\nalias fs-ext4 ext4\nalias crypto-x? h_l\nalias dmi*:bvn A B:* c\nalias pci:v*[0-9]* b\n";
    let softdep = b"# c\nsoftdep virtio_blk pre: h-l crypto-xx post: ext4\nsoftdep zfs post: virtio_blk\n";
    let builtin = b"kernel/fs/ahci.ko\n";
    let modprobe = b"options zfs zfs_arc_max=1 \\\n b=2\nblacklist pc-spkr\nblacklist ext4\nalias pci:x zfs\nsoftdep spl pre: b\ninstall x /bin/true\n";
    let files: [&[u8]; 5] = [dep, alias, softdep, builtin, modprobe];
    vec![files.join(&0), b"b.ko: c.ko\nc.ko: b.ko\nd.ko: b.ko c.ko\n\0\0softdep b pre: d\n".to_vec()]
}

/// A keymap that includes another, the two separated by a NUL, and a binary one.
pub fn keymaps() -> Vec<Vec<u8>> {
    let german = b"keymaps 0-2,4-6,8\nalt_is_meta\ncharset \"iso-8859-15\"\ninclude \"base\"\nkeycode 21 = z\n\
        control altgr keycode 0x10 = U+20ac +0xe4 Meta_a\\\n F12\nstring F1 = \"x\"\nstrings as usual\n\
        compose as usual for \"iso-8859-1\"\ncompose '\\'' 'a' to 0341\ncompose 'e' U+0065 to eacute\n";
    let base = b"keycode 30 = a A # letter\nkeycode 31 = +s ! another\nkeycode 56 = Alt\nplain keycode 12 = ssharp\n";
    let mut binary = b"bkeymap\x01".to_vec();
    binary.resize(7 + 256, 0);
    binary.resize(7 + 256 + 256, 2);
    vec![[&german[..], &base[..]].join(&0), binary]
}

/// A boot's record behind a command line.
pub fn facts() -> Vec<Vec<u8>> {
    let mut datasets = ["tank", "tank/ROOT", "tank/ROOT/a", "tank/home", "tank/vol"].map(Dataset::with_defaults);
    datasets[2].mountpoint = Mountpoint::Path("/".to_owned());
    datasets[3].mountpoint = Mountpoint::Path("/home".to_owned());
    datasets[4].kind = Kind::Volume;
    let report = BootReport {
        version: "1".to_owned(),
        zfs: Some("2.3".to_owned()),
        request: Some(taproot_init::cmdline::parse(b"root=ZFS=tank/ROOT/a ro")),
        pools: vec![PoolFact { bootfs: Some("tank/ROOT/a".to_owned()), ..PoolFact::named("tank", 7) }],
        root: Some("tank/ROOT/a".to_owned()),
        expected: vec![ExpectedPool { name: "tank".to_owned(), guid: 7, vdevs: vec!["/dev/vda".to_owned()] }],
        datasets: datasets.to_vec(),
        fstab: fstab::parse(b"tank/home /home zfs noauto,nofail 0 0\n/dev/vda1 /boot ext4 defaults 0 2\n"),
        ..BootReport::default()
    };
    let json = report.to_json();
    let lines = ["root=zfs:AUTO taproot.mounts=all", "zfs=bootfs taproot.rollback-to=x", "root=ZFS=tank/ROOT/a@s"];
    lines.iter().map(|line| format!("{line}\0{json}").into_bytes()).collect()
}
