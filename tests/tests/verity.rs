//! Layers under dm-verity on real kernels: sealed by the companion, mapped by the library through the seam.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot::layer_integrity::{Place, seal};
use taproot_tests::kit;
use taproot_tests::scenarios;
use taproot_tests::vm::{Disk, Scratch, Vm};

/// In the large file, where bytes are changed: far from the superblock and from the tables at the image's end.
const MARK: &[u8] = b"in the middle of the layer";

/// A squashfs whose content is stored as it is: a small file, and one of 1.5 MiB with [`MARK`] in its middle.
fn layer(dir: &Path) -> PathBuf {
    let (tree, image) = (dir.join("tree"), dir.join("layer.sqsh"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("small"), "small and sound\n").unwrap();
    // No block is another's like: mksquashfs keeps one copy of those.
    let mut large: Vec<u8> = (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    large.extend((0..1_u32 << 17).flat_map(|n| (n ^ 0x5a5a_0000).wrapping_mul(2_246_822_519).to_le_bytes()));
    let middle = large.len() / 2;
    large[middle..middle + MARK.len()].copy_from_slice(MARK);
    fs::write(tree.join("large"), large).unwrap();
    let stored = ["-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet", "-all-root"];
    kit::run(Command::new("mksquashfs").arg(&tree).arg(&image).args(stored)).unwrap();
    image
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

const SCRIPT: &str = r#"
set -u
by=/dev/disk/by-id/virtio
head -c "$(cat /run/tool-bytes)" $by-tool >/run/mapper && chmod 755 /run/mapper || exit 1
root=$(cat /run/roothash) wrong=$(cat /run/wrong)
map() { /run/mapper map "$@" 2>&1; }
# What a mounted layer has: whether each file can be read, and why not.
look() {
    mount -t squashfs -o ro "$1" /mnt || { echo "$2: no mount"; return; }
    echo "$2: small: $(cat /mnt/small 2>&1)"
    echo "$2: large: $(cat /mnt/large 2>&1 >/run/copy && sha256sum </run/copy | cut -c1-16)"
    [ "$2" != beside ] || { /run/mapper unmap beside 2>&1 | sed 's/^/busy: /'; }
    umount /mnt
}
echo "before: $(map early $by-data $by-tree "$root")"
modprobe dm_verity || exit 1
node=$(map beside $by-data $by-tree "$root"); echo "node: $node"
echo "read-only: $(blockdev --getro "$node") $(dd if=/dev/zero of="$node" count=1 2>&1 | head -n 1)"
look "$node" beside
echo "again: $(map beside $by-data $by-tree "$root")"
/run/mapper unmap beside; [ -e "$node" ] || echo "node gone"
node=$(map appended $by-appended $by-appended "$root"); look "$node" appended; /run/mapper unmap appended
node=$(map flipped $by-flipped $by-tree "$root"); look "$node" flipped; /run/mapper unmap flipped
node=$(map badtree $by-data $by-badtree "$root"); look "$node" badtree; /run/mapper unmap badtree
node=$(map other $by-data $by-tree "$wrong"); look "$node" other; /run/mapper unmap other
echo "cut: $(map cut $by-cut $by-tree "$root")"
echo "left: $(ls -d /dev/dm-* 2>/dev/null)"
node=$(map last $by-flipped $by-tree "$root" restart) || exit 1
echo "about to restart"
mount -t squashfs -o ro "$node" /mnt && cat /mnt/large >/dev/null
echo "still here"; sleep 600
"#;

scenarios! {
    /// A layer with the right tree, beside it or at its end, mounts and reads. A byte that was changed in it or in its tree makes the
    /// read fail, a wrong root hash the mount; and nothing is left of a device that could not be made.
    fn what_was_changed_in_a_layer_is_not_read(system) {
        let scratch = Scratch::new().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let image = layer(scratch.path());
        let data = fs::read(&image).unwrap();
        let sealed = seal(&image, Place::Beside, b"").unwrap();
        let tree = fs::read(at("layer.verity")).unwrap();
        fs::copy(&image, at("appended.sqsh")).unwrap();
        assert_eq!(seal(&at("appended.sqsh"), Place::Appended, b"").unwrap().root, sealed.root);
        let mark = data.windows(MARK.len()).position(|bytes| bytes == MARK).unwrap();
        // Behind the superblock and the top of the tree; 128 hashes of 32 bytes a block.
        let leaf = 4096 * 2 + mark / 4096 * 32;
        assert!(mark / 4096 > 128 && data.len() - mark > 4096 * 128, "the mark shares no block of hashes with the ends");

        let tool = fs::read(env!("CARGO_BIN_EXE_mapper")).unwrap();
        let mut padded = tool.clone();
        padded.resize(tool.len().next_multiple_of(512), 0);
        let disks = [
            ("tool", padded),
            ("data", data.clone()),
            ("tree", tree.clone()),
            ("appended", fs::read(at("appended.sqsh")).unwrap()),
            ("flipped", changed(&data, mark)),
            ("badtree", changed(&tree, leaf)),
            ("cut", data[..data.len() - 4096].to_vec()),
        ];
        let mut vm = Vm::helper("verity", system, SCRIPT);
        for (name, bytes) in disks {
            let disk = at(&format!("{name}.disk"));
            fs::write(&disk, bytes).unwrap();
            vm = vm.disk(Disk::read_only(&disk, name));
        }
        let files = [("roothash", sealed.root.to_string()), ("wrong", "0".repeat(64)), ("tool-bytes", tool.len().to_string())];
        for (name, text) in files {
            vm = vm.file(&format!("opt/taproot/files/{name}"), text.as_bytes());
        }
        let mut vm = vm.start().unwrap();
        vm.wait_report("about to restart", 120).unwrap();
        vm.wait_exit(60).unwrap();
        let text = vm.report.text();
        let said = |what: &str| assert!(text.contains(what), "no {what:?} in:\n{text}");
        let sum = kit::run(Command::new("sha256sum").arg(scratch.path().join("tree/large"))).unwrap();
        let sum = &sum[..16];
        said("before: Error: ");
        said("expected /dev/mapper/control of the module dm_mod, found nothing there");
        said("node: /dev/dm-0");
        said("read-only: 1 dd: ");
        for good in ["beside", "appended"] {
            said(&format!("{good}: small: small and sound"));
            said(&format!("{good}: large: {sum}"));
        }
        said("busy: Error: Os { code: 16");
        said("again: Error: Os { code: 16");
        said("node gone");
        for bad in ["flipped", "badtree"] {
            said(&format!("{bad}: small: small and sound"));
            said(&format!("{bad}: large: cat: /mnt/large: Input/output error"));
        }
        said("other: no mount");
        said("cut: Error: Os { code: 22");
        assert!(text.lines().any(|line| line.trim() == "left:"), "a device is left:\n{text}");
        assert!(!text.contains("still here"), "{text}");
    }
}
