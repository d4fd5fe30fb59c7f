//! Layers under dm-verity on real kernels: sealed by the companion, mapped by the library through the seam.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use taproot::layer::image::sum;
use taproot::layer_integrity::{Place, SecretKey, seal};
use taproot_init::plan::layerlist::{Layer, LayerList, Seal};
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::vm::{Disk, Scratch, Vm};
use taproot_tests::{kit, scenarios, words};

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

    /// One machine, one attempt after the other: a layer without its tree, cut off, changed, with a wrong sum or an old list is not mounted, and
    /// the whole one boots under its tree.
    fn layers_that_are_not_as_they_were_sealed_do_not_boot(system) {
        let scratch = Scratch::new().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let put = |name: &str, bytes: &[u8]| {
            fs::write(at(name), bytes).unwrap();
            at(name)
        };
        let image = put("base.sqsh", &fs::read(taproot_tests::plain::image("squashfs").unwrap()).unwrap());
        let data = fs::read(&image).unwrap();
        let root = seal(&image, Place::Beside, b"").unwrap().root;
        let tree = at("base.verity");
        let flipped = put("flipped", &changed(&data, data.len() / 2));
        let cut = put("cut", &data[..data.len() / 2]);
        let (size, sum) = sum(&image, |_| ()).unwrap();
        let sums = put("sums", format!("{sum}  base.sqsh\n").as_bytes());
        let key = SecretKey::new([3; 32]);
        let list = |serial| LayerList { serial, layers: vec![Layer { name: "base".to_owned(), size, seal: Seal::Sha256(sum) }] };
        let (new, old) = (put("new", key.sign(&list(5)).unwrap().as_bytes()), put("old", key.sign(&list(4)).unwrap().as_bytes()));
        let unsigned = put("unsigned", list(9).render().as_bytes());
        let files = [
            (&image, "bare/base.sqsh"),
            (&image, "good/base.sqsh"), (&tree, "good/base.verity"),
            (&cut, "cut/base.sqsh"), (&tree, "cut/base.verity"),
            (&flipped, "flip/base.sqsh"), (&tree, "flip/base.verity"),
            (&flipped, "sum/base.sqsh"), (&sums, "sum/base.sha256"),
            (&image, "new/base.sqsh"), (&new, "new/layers.list"),
            (&image, "old/base.sqsh"), (&old, "old/layers.list"),
            (&image, "unsigned/base.sqsh"), (&unsigned, "unsigned/layers.list"),
        ];
        let files: Vec<(PathBuf, &str)> = files.into_iter().map(|(path, name)| (path.clone(), name)).collect();
        let disk = layers::small_disk(&scratch, "sealed0", LABEL, &files).unwrap();
        let words = format!("root=LABEL={LABEL} taproot.layers=base taproot.layerdir=bare taproot.upper=ram roothash={root}");
        let mut vm = vm("verity-boots", system, &words).unwrap().disks([disk]).start().unwrap();
        let fails = |said: &str| {
            let text = explained_failure(&vm, 60).unwrap();
            assert!(text.contains(said), "no {said:?} in: {text}");
        };
        fails("it has no tree, neither beside it");
        for (words, said) in [
            ("taproot.layerdir=cut", "it is cut off"),
            ("taproot.layerdir=flip", "it is not what its tree and the root hash"),
        ] {
            vm.type_line(&format!("retry {words}")).unwrap();
            fails(said);
        }
        let agree = |words: &str| {
            vm.type_line(&format!("retry {words}")).unwrap();
            vm.expect(words::CONFIRM, 10).unwrap();
            vm.type_line("yes").unwrap();
        };
        agree("roothash= taproot.layerdir=sum");
        fails("its sum is");
        // The key that an image would have.
        let public = key.public().unwrap().render("test");
        vm.type_line("shell").unwrap();
        vm.expect(words::SHELL_PROMPT, 20).unwrap();
        vm.type_line("mkdir -p /etc/taproot/layer-keys").unwrap();
        vm.type_line(&format!("echo '{}' >/etc/taproot/layer-keys/test.pub", public.trim())).unwrap();
        vm.type_line("exit").unwrap();
        vm.expect(words::PROMPT, 10).unwrap();
        for (words, said) in [
            ("taproot.layerdir=unsigned", "expected a line `signature`"),
            ("taproot.layerdir=new taproot.upper=dir init=/none", "has no"),
            ("taproot.layerdir=old", "expected a list with serial number 5 or later"),
        ] {
            vm.type_line(&format!("retry {words}")).unwrap();
            fails(said);
        }
        vm.type_line("shell").unwrap();
        vm.expect(words::SHELL_PROMPT, 20).unwrap();
        vm.type_line("rm /etc/taproot/layer-keys/test.pub; exit").unwrap();
        vm.expect(words::PROMPT, 10).unwrap();
        vm.type_line(&format!("retry taproot.layerdir=good init= taproot.upper=ram roothash={root}")).unwrap();
        let report = vm.report(90).unwrap();
        let mounts = report.mounts();
        let layer = mounts.iter().find(|mount| mount.point == "/run/taproot/layers/base").unwrap();
        assert_eq!((layer.source.as_str(), layer.kind.as_str()), ("/dev/dm-0", "squashfs"), "{layer:?}");
        vm.wait_exit(20).unwrap();
    }
}
