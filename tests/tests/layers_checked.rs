//! Layers that are checked before they are mounted: hash trees, sums, signed lists, on real kernels.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use taproot::layer::image::sum;
use taproot::layer_integrity::{Place, SecretKey, seal};
use taproot_init::plan::layerlist::{Layer, LayerList, Seal};
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::vm::{Disk, Running, Scratch};
use taproot_tests::{scenarios_on_newest, words};

/// A disk with a layer in several conditions, each in a directory of its own.
struct Sealed {
    disk: Disk,
    /// The layer's root hash.
    root: String,
    /// The key that lists are signed by, as an image has it.
    public: String,
}

impl Sealed {
    fn new(scratch: &Scratch) -> Self {
        let at = |name: &str| scratch.path().join(name);
        let put = |name: &str, bytes: &[u8]| {
            fs::write(at(name), bytes).unwrap();
            at(name)
        };
        let image = put("base.sqsh", &fs::read(taproot_tests::plain::image("squashfs").unwrap()).unwrap());
        let data = fs::read(&image).unwrap();
        let mut flipped = data.clone();
        flipped[data.len() / 2] ^= 1;
        let root = seal(&image, Place::Beside, b"").unwrap().root.to_string();
        let tree = at("base.verity");
        let (flipped, cut) = (put("flipped", &flipped), put("cut", &data[..data.len() / 2]));
        let (size, sum) = sum(&image, |_| ()).unwrap();
        let sums = put("sums", format!("{sum}  base.sqsh\n").as_bytes());
        let key = SecretKey::new([3; 32]);
        let seal = Seal::Sha256(sum);
        let list = |serial| LayerList { serial, layers: vec![Layer { name: "base".to_owned(), size, seal }] };
        let signed = |serial| key.sign(&list(serial)).unwrap();
        let (new, old) = (put("new", signed(5).as_bytes()), put("old", signed(4).as_bytes()));
        let unsigned = put("unsigned", list(9).render().as_bytes());
        let files: [(&PathBuf, &str); 15] = [
            (&image, "bare/base.sqsh"),
            (&image, "good/base.sqsh"),
            (&tree, "good/base.verity"),
            (&cut, "cut/base.sqsh"),
            (&tree, "cut/base.verity"),
            (&flipped, "flip/base.sqsh"),
            (&tree, "flip/base.verity"),
            (&flipped, "sum/base.sqsh"),
            (&sums, "sum/base.sha256"),
            (&image, "new/base.sqsh"),
            (&new, "new/layers.list"),
            (&image, "old/base.sqsh"),
            (&old, "old/layers.list"),
            (&image, "unsigned/base.sqsh"),
            (&unsigned, "unsigned/layers.list"),
        ];
        let files: Vec<(PathBuf, &str)> = files.into_iter().map(|(path, name)| (path.clone(), name)).collect();
        let disk = layers::small_disk(scratch, "sealed0", LABEL, &files).unwrap();
        Self { disk, root, public: key.public().unwrap().render("test") }
    }
}

#[track_caller]
fn fails(vm: &Running, said: &str) {
    let text = explained_failure(vm, 60).unwrap();
    assert!(text.contains(said), "no {said:?} in: {text}");
}

/// Lines for a shell of the prompt.
fn in_the_shell(vm: &Running, lines: &[&str]) {
    vm.type_line("shell").unwrap();
    vm.expect(words::SHELL_PROMPT, 20).unwrap();
    for line in lines {
        vm.type_line(line).unwrap();
        vm.expect(words::SHELL_PROMPT, 20).unwrap();
    }
    vm.type_line("exit").unwrap();
    vm.expect(words::PROMPT, 10).unwrap();
}

scenarios_on_newest! {
    /// One machine, one attempt after the other: a layer without its tree, cut off, changed, with a wrong sum or an old list is not mounted, and
    /// the whole one boots under its tree.
    fn layers_that_are_not_as_they_were_sealed_do_not_boot(system) {
        let scratch = Scratch::new().unwrap();
        let Sealed { disk, root, public } = Sealed::new(&scratch);
        let words = format!("root=LABEL={LABEL} taproot.layers=base taproot.layerdir=bare taproot.upper=ram roothash={root}");
        let mut vm = vm("verity-boots", system, &words).unwrap().disks([disk]).start().unwrap();
        fails(&vm, "it has no tree, neither beside it");
        let attempt = |words: &str, said: &str| {
            vm.type_line(&format!("retry {words}")).unwrap();
            fails(&vm, said);
        };
        attempt("taproot.layerdir=cut", "it is cut off");
        attempt("taproot.layerdir=flip", "it is not what its tree and the root hash");
        vm.type_line("retry roothash= taproot.layerdir=sum").unwrap();
        vm.expect(words::CONFIRM, 10).unwrap();
        vm.type_line("yes").unwrap();
        fails(&vm, "its sum is");
        let key = format!("mkdir -p /etc/taproot/layer-keys; echo '{}' >/etc/taproot/layer-keys/test.pub", public.trim());
        in_the_shell(&vm, &[&key]);
        attempt("taproot.layerdir=unsigned", "expected a line `signature`");
        attempt("taproot.layerdir=new taproot.upper=dir init=/none", "has no");
        attempt("taproot.layerdir=old", "expected a list with serial number 5 or later");
        in_the_shell(&vm, &["rm /etc/taproot/layer-keys/test.pub"]);
        vm.type_line(&format!("retry taproot.layerdir=good init= taproot.upper=ram roothash={root}")).unwrap();
        let report = vm.report(90).unwrap();
        let mounts = report.mounts();
        let layer = mounts.iter().find(|mount| mount.point == "/run/taproot/layers/base").unwrap();
        assert_eq!((layer.source.as_str(), layer.kind.as_str()), ("/dev/dm-0", "squashfs"), "{layer:?}");
        vm.wait_exit(20).unwrap();
    }
}
