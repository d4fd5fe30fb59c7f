//! Pools that were written without ZFS, in front of the real one: imported without force, every file compared, changed, destroyed in
//! part, scrubbed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../../builder/tests/made/tar.rs"]
mod made;

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;

use made::{Made, archive, noise};
use taproot::pool::{Compatibility, Compression, Dataset, Options, Snapshot, State, Volume, verify, write_states};
use taproot::tar::Archive;
use taproot_tests::compare::LOOK;
use taproot_tests::kit;
use taproot_tests::scenarios;
use taproot_tests::vm::{Disk, Scratch, Vm};

const SIZE: u64 = 1 << 30;

/// What is done to each pool; `$1` is its name.
const CHECK: &str = r#"
pool=$1
# A directory of one link would do in a file system that does not count them; ZFS does.
look() { python3 /run/look.py /mnt >/run/found; [ -z "$(find /mnt -type d -links 1)" ]; }
whole() {
    zdb -e -p /dev/disk/by-id -bcc $pool >/run/zdb 2>&1 || { tail -30 /run/zdb; exit 1; }
    grep -q 'No leaks' /run/zdb || { tail -30 /run/zdb; exit 1; }
    ! grep -i 'mismatch\|error' /run/zdb || exit 1
}
whole
zpool import -N $pool
zpool status $pool
[ "$(zpool get -H -o value bootfs $pool)" = $pool/ROOT/debian ]
[ "$(zfs get -H -o value canmount $pool/ROOT/debian)" = noauto ]
[ "$(zfs get -H -o value canmount $pool/ROOT)" = off ]
[ "$(zfs get -H -o value origin $pool/ROOT/second)" = $pool/ROOT/debian@installed ]
[ "$(zfs get -H -o value org.example:note $pool/home)" = "of a user" ]
zfs holds $pool/ROOT/debian@installed | grep keep
zfs list -t all -o name,used,refer,usedbysnapshots,mountpoint,compressratio -r $pool
mkdir -p /mnt
mount -t zfs -o zfsutil $pool/ROOT/debian /mnt
mount -t zfs -o zfsutil $pool/home /mnt/home
look
diff /run/expected /run/found | head -20
cmp /run/expected /run/found
zfs userspace -H $pool/ROOT/debian
df /mnt | tail -1
# Everything is read again from the disk, then changed and destroyed in part.
rm -r /mnt/many
echo more >>/mnt/etc/passwd
for n in 1 2 3; do cp /mnt/noise /mnt/noise.$n; done
dd if=/dev/zero of=/mnt/sparse bs=1M seek=20 count=2 conv=notrunc 2>/dev/null
mv /mnt/etc/passwd /mnt/usr/passwd
ln /mnt/usr/bin/tool /mnt/etc/tool
chmod 600 /mnt/zeros
zfs snapshot $pool/ROOT/debian@later
rm /mnt/noise /mnt/etc/tool
umount /mnt/home /mnt
mount -t zfs -o zfsutil $pool/ROOT/second /mnt
look
[ $(wc -l </run/found) -gt 600 ]
rm -r /mnt/many /mnt/sizes
echo clone >/mnt/etc/passwd
umount /mnt
zfs promote $pool/ROOT/second
zfs promote $pool/ROOT/debian
zfs destroy -r $pool/ROOT/second
"#;

/// What is done to a pool of several states besides.
const STATES: &str = r#"
for state in miniroot bootable; do
    mount -t zfs $pool/ROOT/debian@$state /mnt
    mount -t zfs $pool/home@$state /mnt/home
    look
    diff /run/expected.$state /run/found | head -20
    cmp /run/expected.$state /run/found
    umount /mnt/home /mnt
done
zfs holds $pool/home@miniroot | grep of-the-miniroot
[ "$(zfs get -H -o value origin $pool/machines/miniroot)" = $pool/ROOT/debian@miniroot ]
for n in $(seq 100); do [ -e /dev/zd0 ] && break; sleep 0.1; done
cmp -n $(stat -c %s /run/volume) /run/volume /dev/zd0
[ "$(zfs get -H -p -o value volsize,volblocksize $pool/volume | tr '\n' ' ')" = "16777216 16384 " ]
dd if=/dev/zero of=/dev/zd0 bs=64K count=3 conv=notrunc,fsync 2>/dev/null
for state in miniroot bootable; do zfs release -r of-the-$state $pool@$state; done
zfs destroy $pool/volume@bootable
# As increments they arrive as they were.
zfs send $pool/ROOT/debian@miniroot | zfs receive -u -o acltype=posix -o xattr=sa $pool/steps
zfs send -I miniroot $pool/ROOT/debian@installed | zfs receive -u $pool/steps
for state in miniroot bootable; do
    mount -t zfs $pool/steps@$state /mnt
    look
    umount /mnt
    grep -v '^/home' /run/found >/run/found.steps
    grep -v '^/home' /run/expected.$state | cmp - /run/found.steps
done
zfs destroy -r $pool/steps
# The clone of the first takes its snapshots, changes, and gives them back; the one in the middle goes away.
mount -t zfs -o zfsutil $pool/machines/miniroot /mnt
rm -r /mnt/usr
cp /mnt/noise /mnt/second
umount /mnt
zfs promote $pool/machines/miniroot
zfs promote $pool/ROOT/debian
zfs destroy $pool/ROOT/debian@bootable
mount -t zfs $pool/ROOT/debian@installed /mnt
look
umount /mnt
grep -v '^/home' /run/found >/run/found.steps
grep -v '^/home' /run/expected | cmp - /run/found.steps
zfs destroy $pool/machines/miniroot
zfs destroy $pool/ROOT/debian@miniroot
"#;

/// The end of each.
const END: &str = r"
zfs send $pool/ROOT/debian@installed | zfs receive -u -o acltype=posix -o xattr=sa $pool/received
mount -t zfs -o zfsutil $pool/received /mnt
look
grep -v '^/home' /run/found >/run/found.steps
grep -v '^/home' /run/expected | cmp - /run/found.steps
umount /mnt
zfs release keep $pool/ROOT/debian@installed
zfs destroy $pool/ROOT/debian@installed
zpool export $pool
zpool import -N $pool
zpool scrub -w $pool
zpool status -v $pool | grep 'with 0 errors'
zpool status -v $pool | grep 'No known data errors'
zfs destroy -r $pool/ROOT
zpool wait -t free $pool
zpool export $pool
whole
echo $pool is through
";

/// Bytes that compress to about a half.
fn text(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{:x} ", state >> 18)
    });
    words.flat_map(String::into_bytes).take(size).collect()
}

fn tree() -> Vec<Made> {
    let dir = |path: &str| Made::new(path, b'5');
    let link = |path: &str, target: &str| Made { target: target.into(), ..Made::new(path, b'2') };
    let hard = |path: &str, target: &str| Made { target: target.into(), ..Made::new(path, b'1') };
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let mut all = vec![
        Made { mtime: (1_500_000_000, 5), ..dir("./") },
        dir("etc"),
        Made { mode: 0o640, owner: (0, 42), mtime: (-86_400, 123_456_789), ..Made::file("etc/passwd", "root:x:0:0\n") },
        dir("usr"),
        dir("usr/bin"),
        Made {
            mode: 0o4755,
            xattrs: vec![("security.capability".into(), capability)],
            ..Made::file("usr/bin/tool", text(300_000))
        },
        hard("usr/bin/alias", "usr/bin/tool"),
        hard("etc/alias", "./usr/bin/tool"),
        link("bin", "usr/bin"),
        link("long", &"x/".repeat(1500)),
        dir("dev"),
        Made { device: (1, 3), mode: 0o666, ..Made::new("dev/null", b'3') },
        Made { device: (7, 70_000), owner: (0, 6), mode: 0o660, ..Made::new("dev/loop", b'4') },
        Made { mode: 0o600, ..Made::new("dev/pipe", b'6') },
        Made { sparse: Some((30_000_000, 50_000_000)), ..Made::file("sparse", "in the middle of nothing") },
        Made::file("zeros", vec![0; 262_144]),
        Made::file("noise", noise(3_000_001)),
        Made {
            xattrs: vec![("user.large".into(), noise(20_000)), ("user.small".into(), b"x".to_vec())],
            ..Made::file("attributes", "a")
        },
        Made {
            acl: Some("user::rw-,user:1000:rw-,group::r--,mask::rw-,other::---".into()),
            mode: 0o660,
            ..Made::file("list", "b")
        },
        Made { mode: 0o1777, ..dir("tmp") },
        Made { mode: 0o077, owner: (3_000_000_000, 65_534), ..Made::file("odd", "c") },
        Made::file([b'n'; 255], "d"),
        Made::file(b"\xff not utf-8 \n".to_vec(), "e"),
        dir("home"),
        dir("home/user"),
        Made { owner: (1000, 1000), ..Made::file("home/user/file", "f") },
        dir("sizes"),
    ];
    for size in [0, 1, 111, 112, 113, 511, 512, 513, 4096, 100_000, 131_071, 131_072, 131_073, 262_144, (16 << 20) + 5]
    {
        all.push(Made::file(format!("sizes/{size}"), text(size)));
    }
    all.push(dir("many"));
    all.extend(
        (0..600).map(|n| Made::file(format!("many/a file with a name that does not fit in a micro ZAP {n}"), "")),
    );
    all
}

/// The tree as [`LOOK`] prints it.
fn manifest(tree: &[Made], scratch: &Scratch) -> String {
    let mut all: Vec<(Vec<Vec<u8>>, String)> = Vec::new();
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
    };
    let hard: Vec<_> = tree.iter().filter(|entry| entry.kind == b'1').map(|entry| names(&entry.target)).collect();
    for entry in tree {
        let original = if entry.kind == b'1' {
            tree.iter().find(|e| names(&e.path) == names(&entry.target)).unwrap()
        } else {
            entry
        };
        let place = names(&original.path);
        let links = if original.kind == b'5' {
            "-".into()
        } else {
            (1 + hard.iter().filter(|target| **target == place).count()).to_string()
        };
        let (format, size) = match original.kind {
            b'5' => (0o040_000, "-".to_owned()),
            b'2' => (0o120_000, original.target.len().to_string()),
            b'3' => (0o020_000, "0".into()),
            b'4' => (0o060_000, "0".into()),
            b'6' => (0o010_000, "0".into()),
            _ => (0o100_000, original.sparse.map_or(original.content.len(), |(_, size)| size).to_string()),
        };
        let mode = if original.kind == b'2' { 0o777 } else { original.mode };
        let sum = if format == 0o100_000 { md5(&whole(original), scratch) } else { "-".into() };
        let mut xattrs: Vec<String> =
            original.xattrs.iter().map(|(name, value)| format!("{name}={}", md5(value, scratch))).collect();
        if original.acl.is_some() {
            xattrs.push(format!("system.posix_acl_access={}", md5(ACL, scratch)));
        }
        let xattrs = if xattrs.is_empty() { "-".into() } else { xattrs.join(",") };
        let target = if original.kind == b'2' { printed(&original.target) } else { "-".into() };
        let time = i128::from(original.mtime.0) * 1_000_000_000
            + if original.mtime.0 < 0 { -i128::from(original.mtime.1) } else { i128::from(original.mtime.1) };
        let ((uid, gid), (major, minor)) = (original.owner, original.device);
        let own = names(&entry.path);
        let path = format!("/{}", own.iter().map(|name| printed(name)).collect::<Vec<_>>().join("/"));
        all.push((
            own,
            format!(
                "{path} {:o} {uid} {gid} {links} {size} {time} {major}:{minor} {target} {xattrs} {sum}\n",
                format | mode
            ),
        ));
    }
    all.sort();
    all.into_iter().map(|(_, line)| line).collect()
}

/// The access list of the tree's `list`, as the kernel has it.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn whole(entry: &Made) -> Vec<u8> {
    let Some((hole, size)) = entry.sparse else { return entry.content.clone() };
    let mut all = vec![0; hole];
    all.extend_from_slice(&entry.content);
    all.resize(size, 0);
    all
}

fn printed(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            33..=36 | 38..=126 => out.push(char::from(*byte)),
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
    }
    out
}

/// By the host's own program, which has no part in what is tested.
fn md5(bytes: &[u8], scratch: &Scratch) -> String {
    if bytes.is_empty() {
        return "d41d8cd98f00b204e9800998ecf8427e".into();
    }
    let path = scratch.path().join("content");
    std::fs::write(&path, bytes).unwrap();
    let said = taproot_tests::kit::run(std::process::Command::new("md5sum").arg("-b").arg(path)).unwrap();
    said.split(' ').next().unwrap().to_owned()
}

/// States before the last one: of the first much is missing, of the second the large directory, and one file is another.
fn earlier() -> [(&'static str, Vec<Made>); 2] {
    let miniroot =
        tree().into_iter().filter(|made| !made.path.starts_with(b"sizes/") && !made.path.starts_with(b"many/"));
    let bootable = tree().into_iter().filter(|made| !made.path.starts_with(b"many/")).map(|made| {
        if made.path == b"noise" {
            Made { content: [noise(1_000_000), text(5_000_000)].concat(), ..made }
        } else {
            made
        }
    });
    [("miniroot", miniroot.collect()), ("bootable", bootable.collect())]
}

fn properties(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn options(name: &str, ashift: u32, compression: Compression) -> Options {
    let root = properties(&[
        ("mountpoint", "/"),
        ("canmount", "noauto"),
        ("acltype", "posix"),
        ("xattr", "sa"),
        ("relatime", "on"),
    ]);
    Options {
        name: name.into(),
        size: SIZE,
        ashift,
        seed: "test".into(),
        time: 1_700_000_000,
        compatibility: Compatibility::OpenZfs20,
        autoexpand: true,
        jobs: 2,
        verify: true,
        bootfs: Some("ROOT/debian".into()),
        datasets: vec![
            Dataset {
                name: "ROOT/debian".into(),
                tree: Some("/".into()),
                compression: Some(compression),
                properties: root.clone(),
                snapshot: Some(Snapshot { name: "installed".into(), holds: vec!["keep".into()] }),
                ..Dataset::default()
            },
            Dataset {
                name: "home".into(),
                tree: Some("/home".into()),
                properties: properties(&[("mountpoint", "/home"), ("org.example:note", "of a user")]),
                ..Dataset::default()
            },
            Dataset {
                name: "ROOT/second".into(),
                clone_of: Some("ROOT/debian".into()),
                properties: root,
                ..Dataset::default()
            },
        ],
        ..Options::default()
    }
}

/// A pool on disks: what it was, how it is made, and the files.
struct Written {
    name: &'static str,
    paths: Vec<PathBuf>,
}

impl Written {
    fn new(scratch: &Scratch, options: &Options, name: &'static str, disks: usize, states: bool) -> Self {
        let paths: Vec<PathBuf> = (0..disks).map(|nth| scratch.path().join(format!("{name}-{nth}.img"))).collect();
        let open = |path| File::options().read(true).write(true).create_new(true).open(path).unwrap();
        let files: Vec<File> = paths.iter().map(open).collect();
        for file in &files {
            file.set_len(SIZE).unwrap();
        }
        let archives = earlier().map(|(state, tree)| (state, archive(&tree)));
        let mut inputs: Vec<_> = archives.iter().map(|(state, archive)| (*state, Archive::new(&archive[..]))).collect();
        inputs.truncate(if states { 2 } else { 0 });
        let mut earlier: Vec<State<'_>> = inputs
            .iter_mut()
            .map(|(name, input)| State {
                snapshot: Snapshot { name: (*name).to_owned(), holds: vec![format!("of-the-{name}")] },
                everywhere: true,
                input,
            })
            .collect();
        let references: Vec<&File> = files.iter().collect();
        let made = write_states(&references, options, &mut earlier, &mut Archive::new(&*archive(&tree()))).unwrap();
        for file in &files {
            verify(file, SIZE, &made).unwrap();
        }
        Written { name, paths }
    }

    fn disks(&self) -> impl Iterator<Item = Disk> {
        (0..).zip(&self.paths).map(|(nth, path)| Disk::writable(path, "raw", &format!("{}-{nth}", self.name)))
    }
}

scenarios! {
    /// One pool of three states, the same image for both, and a mirror: the smallest sectors on one of the systems, the largest on
    /// the other.
    fn pools_in_front_of_the_kernel(system) {
        let scratch = Scratch::new().unwrap();
        let volume = scratch.path().join("volume");
        std::fs::write(&volume, [vec![0; 100_000], text(300_000)].concat()).unwrap();
        let mut usual = options("usual", 12, Compression::Zstd(3));
        let content = Some(volume.clone());
        usual.datasets.push(Dataset {
            name: "volume".into(),
            volume: Some(Volume { size: 16 << 20, block_size: 16 << 10, content }),
            ..Dataset::default()
        });
        usual.datasets.push(Dataset {
            name: "machines/miniroot".into(),
            clone_of: Some("ROOT/debian@miniroot".into()),
            properties: properties(&[("mountpoint", "none"), ("canmount", "noauto")]),
            ..Dataset::default()
        });
        let usual = Written::new(&scratch, &usual, "usual", 1, true);
        let (ashift, compression) =
            if system.name == kit::SYSTEMS[0] { (9, Compression::Lz4) } else { (13, Compression::Off) };
        let mirrored = Written::new(&scratch, &options("twin", ashift, compression), "twin", 2, false);
        let script = "bash -e /run/states.sh usual && bash -e /run/check.sh twin";
        let [miniroot, bootable] = earlier().map(|(_, tree)| manifest(&tree, &scratch));
        let mut vm = Vm::helper("pools-written", system, script)
            .file("opt/taproot/files/look.py", LOOK.as_bytes())
            .file("opt/taproot/files/check.sh", [CHECK, END].concat().as_bytes())
            .file("opt/taproot/files/states.sh", [CHECK, STATES, END].concat().as_bytes())
            .file("opt/taproot/files/volume", &std::fs::read(&volume).unwrap())
            .file("opt/taproot/files/expected", manifest(&tree(), &scratch).as_bytes())
            .file("opt/taproot/files/expected.miniroot", miniroot.as_bytes())
            .file("opt/taproot/files/expected.bootable", bootable.as_bytes());
        for disk in usual.disks().chain(mirrored.disks()) {
            vm = vm.disk(disk);
        }
        let mut vm = vm.start().unwrap();
        let said = vm.script(600).unwrap();
        for name in ["usual", "twin"] {
            assert!(said.contains(&format!("{name} is through")), "{said}");
        }
        vm.wait_exit(20).unwrap();
    }
}
