//! Writes seed inputs for each fuzz target below the directory given: encodings of a mirrored pool's labels, a spare,
//! and an ioctl's arguments; what a scout says of them; words of the command line; what a tree to pack holds, and what was packed.

mod builder;
mod scout;

use std::path::Path;
use std::{env, fs, io};

use taproot_init::devices::verity::{Format, Superblock};
use taproot_init::zfs::nvlist::{NvList, Value};

fn list<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
    pairs.into_iter().collect()
}

fn disk(id: u64, guid: u64) -> NvList {
    list([
        ("type", Value::text("disk")),
        ("id", Value::U64(id)),
        ("guid", Value::U64(guid)),
        ("path", Value::text("/dev/disk/by-id/virtio-d-part1")),
        ("devid", Value::text("virtio-d-part1")),
        ("phys_path", Value::text("pci-0000:00:04.0")),
        ("whole_disk", Value::U64(1)),
        ("create_txg", Value::U64(4)),
    ])
}

fn mirror(id: u64) -> NvList {
    let guid = 100 * (id + 1);
    list([
        ("type", Value::text("mirror")),
        ("id", Value::U64(id)),
        ("guid", Value::U64(guid)),
        ("metaslab_array", Value::U64(68)),
        ("metaslab_shift", Value::U64(29)),
        ("ashift", Value::U64(12)),
        ("asize", Value::U64(4 << 30)),
        ("is_log", Value::U64(0)),
        ("children", Value::ListArray(vec![disk(0, guid + 1), disk(1, guid + 2)])),
    ])
}

fn member(guid: u64, top: NvList) -> NvList {
    list([
        ("version", Value::U64(5000)),
        ("name", Value::text("rpool")),
        ("state", Value::U64(0)),
        ("txg", Value::U64(4)),
        ("pool_guid", Value::U64(7)),
        ("errata", Value::U64(0)),
        ("hostid", Value::U64(0x0a0b_0c0d)),
        ("hostname", Value::text("host")),
        ("top_guid", Value::U64(top.u64("guid").unwrap_or(0))),
        ("guid", Value::U64(guid)),
        ("vdev_children", Value::U64(3)),
        ("hole_array", Value::U64Array(vec![2])),
        ("vdev_tree", Value::List(top)),
        ("features_for_read", Value::List(list([("com.delphix:hole_birth", Value::Boolean)]))),
    ])
}

/// One value of each of the other types.
fn exotic() -> NvList {
    list([
        ("byte", Value::Byte(1)),
        ("i16", Value::I16(-2)),
        ("mmp_seq", Value::U16(2)),
        ("type", Value::I32(2)),
        ("load-rewind-policy", Value::U32(1)),
        ("i64", Value::I64(-4)),
        ("bytes", Value::ByteArray(vec![1, 2, 3])),
        ("i16s", Value::I16Array(vec![-1])),
        ("u16s", Value::U16Array(vec![1, 2])),
        ("i32s", Value::I32Array(vec![1])),
        ("u32s", Value::U32Array(vec![1])),
        ("i64s", Value::I64Array(vec![1])),
        ("strings", Value::StrArray(vec![b"a".to_vec(), Vec::new()])),
        ("time", Value::HrTime(1)),
        ("force", Value::BooleanValue(true)),
        ("i8", Value::I8(-1)),
        ("u8", Value::U8(1)),
        ("booleans", Value::BooleanArray(vec![true, false])),
        ("i8s", Value::I8Array(vec![-1])),
        ("wkeydata", Value::U8Array(vec![0x6b; 32])),
        ("double", Value::Double(0)),
    ])
}

/// Labels that OpenZFS wrote, each followed by its checksum.
const REAL: [&[u8]; 2] = [
    include_bytes!("../../../init-rs/src/zfs/label/testdata/mirror-openzfs-2.1.label"),
    include_bytes!("../../../init-rs/src/zfs/label/testdata/raidz-openzfs-2.3.label"),
];

/// The checksum of a label: 256 bits.
const CHECKSUM: usize = 32;

fn write(directory: &Path, seeds: &[Vec<u8>]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (i, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("seed-{i}")), seed)?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds DIRECTORY"))?;
    let directory = Path::new(&directory);
    let spare = list([
        ("version", Value::U64(5000)),
        ("state", Value::U64(3)),
        ("guid", Value::U64(9)),
        ("path", Value::text("/dev/vdk1")),
    ]);
    let made =
        [member(101, mirror(0)), member(102, mirror(0)), member(201, mirror(1)), member(301, disk(1, 301)), spare];
    let real = REAL.iter().map(|label| {
        let list = label.len().checked_sub(CHECKSUM).and_then(|end| label.get(..end)).unwrap_or_default();
        // On the disk there are zeros behind it, and the first of them belong to it.
        NvList::decode(&[list, &[0; 64]].concat()).map_err(io::Error::other)
    });
    let real = real.collect::<io::Result<Vec<_>>>()?;
    let labels: Vec<NvList> = made.into_iter().chain(real).collect();

    let nvlists =
        labels.iter().chain([&exotic()]).flat_map(|l| [l.encode_native(), l.encode_xdr()]).collect::<Vec<_>>();
    write(&directory.join("nvlist"), &nvlists)?;

    let copies = |control: u8, odd: u8| labels.iter().map(move |l| [vec![control, odd], l.encode_xdr()].concat());
    write(&directory.join("label"), &copies(0, 0).chain(copies(7, 5)).chain(copies(15, 0)).collect::<Vec<_>>())?;

    let mut sets = vec![vec![1; 65], (0..=96).map(|n| n | 1).collect()];
    let mut all = vec![0];
    for label in &labels {
        let packed = label.encode_xdr();
        all.extend(u16::try_from(packed.len()).unwrap_or(0).to_le_bytes());
        all.extend(packed);
    }
    sets.push(all);
    write(&directory.join("assemble"), &sets)?;

    // Each known word with what may follow it, the shapes that roots have, and lines of systems that exist.
    let words = taproot_init::cmdline::known::KNOWN.iter().map(|known| format!("{}{}", known.word, known.form));
    let roots =
        ["root=ZFS=p/d@s", "root=zfs:p/d+e", "root=\"ZFS=p/a b\" -- single", "root=p/d boot=zfs", "zfs=p rpool=1"];
    let corpus = include_str!("../../../init-rs/src/cmdline/corpus.txt");
    let whole = corpus.lines().filter_map(|line| line.strip_prefix("line: ")).map(str::to_owned);
    let lines = words.chain(roots.map(str::to_owned)).chain(whole).map(String::into_bytes).collect::<Vec<_>>();
    write(&directory.join("cmdline"), &lines)?;

    write(&directory.join("scout_message"), &scout::messages(&labels))?;
    write(&directory.join("layer_state"), &layer_states())?;
    write(&directory.join("superblock"), &devices())?;
    write(&directory.join("text"), &texts())?;
    write(&directory.join("verity"), &trees())?;
    write(&directory.join("layerlist"), &lists())?;
    write(&directory.join("notes"), &notes())?;
    write(&directory.join("persistence_conf"), &persistence().map(<[u8]>::to_vec))?;

    write(&directory.join("archive"), &builder::archives()?)?;
    write(&directory.join("elf"), &builder::programs())?;
    write(&directory.join("modules"), &builder::indexes())?;
    write(&directory.join("keymap"), &builder::keymaps())?;
    write(&directory.join("facts"), &builder::facts())
}

/// States of layers, without the first line and the checksum, which the target puts there.
fn layer_states() -> Vec<Vec<u8>> {
    let sum = "07".repeat(32);
    let head = "generation 9\nflags index=off metacopy=off redirect_dir=off xino=off\nnumbers 3 1\nkeep 2\ngood 4\n";
    let images = format!("image a.sqsh 9 {sum} made\nimage b.sqsh 20 {sum} given\n");
    let ends = [
        format!(
            "stack 3 #2 a.sqsh b.sqsh\npast 1 - b.sqsh\ncommit c.sqsh 0 -\nphase verified 7 12 {sum}\nfrom #2\ndiscard-upper 1"
        ),
        "stack 3 a.sqsh b.sqsh\ntrial 1 3 #2 b.sqsh\ncommit a.sqsh 0 -\nphase trial\nfrom #2".to_owned(),
        "stack 2 a.sqsh b.sqsh\nrollback - 3\nphase ready\nfrom\ndiscard-file tmp-a.5".to_owned(),
        "stack 2 a.sqsh b.sqsh\nmerge c.sqsh\nphase building 8\nfrom a.sqsh b.sqsh\ntrouble space no room".to_owned(),
    ];
    ends.iter().map(|end| format!("{head}{images}{end}").into_bytes()).collect()
}

/// The beginnings of devices, and of a program, behind the byte that makes them long enough.
fn devices() -> Vec<Vec<u8>> {
    let magics: [(usize, &[u8]); 12] = [
        (1080, b"\x53\xef"),
        (0, b"XFSB"),
        (0x10040, b"_BHRfS_M"),
        (4086, b"SWAPSPACE2"),
        (4076, b"SWAPSPACE2S1SUSPEND\0"),
        (1024, b"\x10\x20\xf5\xf2"),
        (3, b"NTFS    "),
        (3, b"EXFAT   "),
        (0x8000, b"\x01CD001"),
        (0, b"EFI PART"),
        (0, b"#!/bin/sh\n"),
        (0, b"\x7fELF\x02\x01"),
    ];
    let mut seeds: Vec<Vec<u8>> = magics
        .iter()
        .map(|(at, magic)| {
            let mut bytes = vec![0; (at + magic.len() + 1).next_multiple_of(512)];
            bytes[0] = 30;
            bytes[at + 1..at + 1 + magic.len()].copy_from_slice(magic);
            bytes
        })
        .collect();
    for (kind_at, kind, sector) in [(82, &b"FAT32   "[..], 32_u8), (54, b"FAT16   ", 1)] {
        let mut fat = vec![0; 4096];
        fat[0] = 30;
        fat[1 + kind_at..1 + kind_at + 8].copy_from_slice(kind);
        // Sectors of 512 bytes, clusters of 8, reserved sectors, two tables, 512 entries, a cluster for the root.
        for (at, byte) in
            [(12, 2), (13, 8), (14, sector), (16, 2), (18, 2), (22, 1), (36, 1), (44, 2), (510, 0x55), (511, 0xaa)]
        {
            fat[1 + at] = byte;
        }
        seeds.push(fat);
    }
    seeds
}

/// Superblocks of hash trees, beginnings of images, a root hash.
fn trees() -> Vec<Vec<u8>> {
    let formats = [(4096, 4096, 3, &b"salt"[..]), (512, 1024, 300, b""), (512, 512, 1 << 40, b"")];
    let superblocks = formats.into_iter().filter_map(|(data, hash, blocks, salt)| {
        let format = Format::new(data, hash, blocks, salt).ok()?;
        Some([&Superblock { uuid: [7; 16], format }.bytes()[..], b"data"].concat())
    });
    let mut squashfs = vec![0; 96];
    squashfs[..4].copy_from_slice(b"hsqs");
    squashfs[41] = 9;
    let mut erofs = vec![0; 1088];
    erofs[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    (erofs[1036], erofs[1060]) = (12, 3);
    superblocks.chain([squashfs, erofs, format!("roothash={}\n", "0f".repeat(32)).into_bytes()]).collect()
}

/// A list with its signature and without it, and a public key.
fn lists() -> Vec<Vec<u8>> {
    let sums = [
        "e127894b7593e08595175aff47005fe0fcab03ffdae1c4cd6594ee7b90920680",
        "43934e53274df5691e51f0a8adbf134f5778c2760c84debba9f3402fd2e9ca39",
    ];
    let text = format!(
        "taproot-layers 1\nserial 42\nlayer 30-site 1048576 sha256 {}\nlayer base 314572800 verity {}\n",
        sums[0], sums[1]
    );
    let signature = "b384f4724c4acfc5b9c5a3755c401e67881547d2c53618989db883eaa92ea13ca917c52b5422ebc99ddd1852684586da7b9db41728a90de9809041daaf4f730b";
    let key = "ed25519 03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8 of the tests\n";
    [format!("{text}signature {signature}\n"), text, key.to_owned()].map(String::into_bytes).to_vec()
}

/// Every option of `persistence.conf`, and what is passed over.
fn persistence() -> [&'static [u8]; 3] {
    [
        b"# mine\n/ union,source=all\n/home\n/etc union\n/home/me/.ssh bind,source=keys\n/root link,source=dots\n",
        b"/etc union\n/usr union\n/var union\n/home union\n/root union\n/srv union\n/opt union\n",
        b"/ union,source=.\n/home\n/a union,bind\n/run x\n/lib64\n/b source=../c\n/b source=/c d\n",
    ]
}

/// A note of each kind, behind the byte that chooses the kind.
fn notes() -> Vec<Vec<u8>> {
    let json = "{\"uuid\":\"11111111-2222-3333-4444-5555555555aa\",\"offset\":38912,\"osReleaseId\":\"debian\"}";
    let location: Vec<u8> = json.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    // Attributes, length of the path, no description; a PCI device, a partition with a GUID, the end.
    let pci = [1, 1, 6, 0, 0, 5].to_vec();
    let partition = [&[4, 1, 42, 0][..], &[0; 20], &[7; 16], &[2, 2]].concat();
    let path = [pci, partition, [0x7f, 0xff, 4, 0].to_vec()].concat();
    let length = u16::try_from(path.len()).unwrap_or(0).to_le_bytes();
    let option = [&[1, 0, 0, 0][..], &length, &[0, 0], &path].concat();
    let texts = [
        location,
        option,
        b"42 layers.list\n7 other\n".to_vec(),
        b"site 1\nbase 2\n\0base 3\nnew 4\n".to_vec(),
        b"name filesystem.squashfs\nmarker\niso 9\niso-kind iso9660\niso-uuid u\niso-label l\nend".to_vec(),
        b"a.squashfs\nb.squashfs\nx.module\n\0a.squashfs b.squashfs\n".to_vec(),
    ];
    (0_u8..).zip(texts).map(|(kind, text)| [vec![kind], text].concat()).collect()
}

/// One text of each kind, behind the byte that chooses the kind.
fn texts() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"tank/usr /usr zfs x-initrd.mount,zfsutil 0 0\nLABEL=a\\040b /home ext4 nofail 0 2\n# c\n",
        b"tank\t/tank\ton\ton\ton\ton\ton\toff\ton\toff\t-\tnone\t-\t-\t-\t-\t-\t-\t-\t-\n",
        b"add@/devices/virtio0/block/vda\0SUBSYSTEM=block\0DEVNAME=vda\0MODALIAS=virtio:d2v1\0",
        b"kernel=6.1\npacker=x\ncmdline=quiet\npool=tank\t7\t/dev/vda\n",
        b"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        b"/dev/disk/by-label/a\\x20b",
        b"taproot-keymap 1\nname de\ncomplete\ntable 0 21=b7a 44=b79\ntable 1\ncompose 60 61 e0\n",
        b"taproot-modules 1\nmodule\tzfs\t/z.ko\tboot\tspl\t-\ta=1\nalias\tpci:v*[0-9]?\tzfs\nblacklist\tx\n",
    ];
    (0_u8..).zip(texts).map(|(kind, text)| [&[kind], text].concat()).collect()
}
