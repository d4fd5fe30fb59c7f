//! Roots made of layers, on real systems: what is on top wins, what a layer takes away is gone, nothing of an image is lost; every
//! kind of upper; layers that come late, lack or are cut off.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use taproot_tests::kit::{self, System};
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::{explained_failure, vm};
use taproot_tests::vm::{Bus, Disk, Mount, Report, Running, Scratch, Vm};
use taproot_tests::{image, scenarios_on_newest};

/// What the booted system says of its root.
const LOOK: &str = r#"say() { echo "@@$*"; }
say LAYER $(cat /etc/layer)
say MIDDLE $(cat /opt/middle)
say DELETED $(test -e /etc/debian_version || echo gone)
say SKEL $(ls -A /etc/skel)
say LINKS $(stat -c %h /opt/kinds/first) $(stat -c %i /opt/kinds/first /opt/kinds/second | uniq | wc -l)
say SUID $(stat -c %a /opt/kinds/suid)
attribute() { perl -e '$b = "\0" x 64; $n = syscall(`uname -m` =~ /aarch64/ ? 8 : 191, $ARGV[0], $ARGV[1], $b, 64); print unpack("H*", substr($b, 0, $n))' "$@"; }
say CAPABLE $(attribute /opt/kinds/capable security.capability)
say LISTED $(attribute /opt/acl/listed system.posix_acl_access)
say COPIED $(echo x >>/opt/acl/listed; attribute /opt/acl/listed system.posix_acl_access)
mkdir -p /run/nest/upper /run/nest/work /run/nest/root
say NEST $(mount -t overlay -o lowerdir=/,upperdir=/run/nest/upper,workdir=/run/nest/work nest /run/nest/root && cat /run/nest/root/etc/layer && umount /run/nest/root)
say NULL $(stat -c %t:%T /opt/kinds/null) $(echo x >/opt/kinds/null && echo writes)
say REMOUNT $(systemctl is-failed systemd-remount-fs)
say OLD $(cat /root/written 2>/dev/null)
say KEPT $(cat /run/taproot/base/upper/old-1/upper/root/written 2>/dev/null)
echo $RANDOM-written >/root/written && say WRITES $(cat /root/written)
for place in base layer-device upper layers/base layers/middle layers/top; do
    say PLACE $place $(findmnt -n -o FSTYPE,VFS-OPTIONS /run/taproot/$place | tr -s ' ' | cut -d, -f1)
done
say LOOPS $(losetup -n -l -O RO,AUTOCLEAR | tr -s ' ' | sort -u)
ls -1 /mnt | sed 's/^/@@MNT /'
"#;

fn at(report: &Report, point: &str) -> Mount {
    report.mounts().into_iter().rev().find(|m| m.point == point).unwrap_or_else(|| panic!("nothing is on {point}"))
}

fn value<'a>(mount: &'a Mount, option: &str) -> Option<&'a str> {
    mount.super_options.iter().find_map(|o| o.strip_prefix(option)?.strip_prefix('='))
}

/// A booted machine's report, and what [`LOOK`] said.
struct Seen {
    report: Report,
    said: String,
}

impl Seen {
    fn of(vm: &mut Running) -> Self {
        let report = vm.report(200).unwrap();
        let said = vm.script(100).unwrap();
        Self { report, said }
    }

    /// What was said under a tag.
    fn tag(&self, tag: &str) -> Vec<&str> {
        let prefix = format!("@@{tag} ");
        self.said.lines().filter_map(|line| line.trim().strip_prefix(&prefix)).collect()
    }

    fn one(&self, tag: &str) -> &str {
        self.tag(tag).first().copied().unwrap_or_default()
    }
}

fn boot(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> Seen {
    let vm = vm(&format!("layers-{name}"), system, words).unwrap();
    let script = format!("{LOOK}\nsystemctl --no-block poweroff\n");
    let mut vm = vm.disks(disks).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let seen = Seen::of(&mut vm);
    vm.wait_exit(60).unwrap();
    seen
}

/// Everything that has to be true of the three layers, whatever the upper is.
fn check(seen: &Seen, system: &System) {
    let Seen { report, .. } = seen;
    assert_eq!(report.hostname(), "top");
    assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
    let root = at(report, "/");
    assert_eq!(root.kind, "overlay");
    assert!(root.options.iter().any(|option| option == "rw"), "{root:?}");
    for option in ["index", "metacopy", "redirect_dir", "xino"] {
        // What is the kernel's default is not shown.
        assert!(matches!(value(&root, option), None | Some("off")), "{option}: {root:?}");
    }
    assert_eq!(seen.one("LAYER"), "top", "{}", seen.said);
    assert_eq!(seen.one("MIDDLE"), "middle");
    assert_eq!(seen.one("DELETED"), "gone");
    assert_eq!(seen.one("SKEL"), "new", "the directory is opaque");
    assert_eq!(seen.one("LINKS"), "2 1");
    assert_eq!(seen.one("SUID"), "4755");
    assert_eq!(seen.one("CAPABLE"), "0100000200200000000000000000000000000000", "{}", seen.said);
    assert_eq!(seen.one("NEST"), "top", "a level is free for an overlay of a container: {}", seen.said);
    assert_eq!(seen.one("NULL"), "1:3 writes");
    assert_ne!(seen.one("REMOUNT"), "failed");
    assert!(seen.one("WRITES").ends_with("-written"), "{}", seen.said);
    assert_eq!(seen.one("LOOPS"), "1 1", "{}", seen.said);
    let json = report.json.as_ref().expect("boot.json");
    assert_eq!(json["root"], format!("layers {} on LABEL={LABEL}", words_layers(report)), "{}", system.name);
}

fn words_layers(report: &Report) -> String {
    let line = report.one("CMDLINE").to_owned();
    let json = report.json.as_ref().expect("boot.json");
    let words = json["request"]["words"].as_array().unwrap();
    let layers = words.iter().filter_map(|word| word.as_str()).find_map(|word| word.split_once("layers="));
    layers.unwrap_or_else(|| panic!("{line}")).1.to_owned()
}

/// Boots layers whose bottom only says what it sees.
fn tiny(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> Report {
    let mut vm = vm(&format!("layers-{name}"), system, words).unwrap().disks(disks).start().unwrap();
    let report = vm.report(60).unwrap();
    vm.wait_exit(20).unwrap();
    let root = at(&report, "/");
    assert_eq!((root.kind.as_str(), report.hostname()), ("overlay", "top"), "{root:?}");
    report
}

/// A machine whose boot fails: what it explains.
fn fails(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> String {
    let vm = vm(&format!("layers-{name}"), system, words).unwrap().disks(disks).start().unwrap();
    let text = explained_failure(&vm, 60).unwrap();
    vm.kill().unwrap();
    text
}

fn upper_of(report: &Report) -> String {
    value(&at(report, "/"), "upperdir").unwrap_or_default().to_owned()
}

fn is_read_only(report: &Report, point: &str) -> bool {
    let mount = at(report, point);
    mount.options.iter().chain(&mount.super_options).any(|option| option == "ro")
}

const STACK: &str = "taproot.layers=top:middle:base";

scenarios_on_newest! {
    /// The upper is a directory of the root device: what is written is there at the next boot. `ro` is for boot loaders' sake, and a
    /// layer's line for `/` is about another root. Then it is set aside, and the system begins with a fresh one.
    fn directory_upper(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::disk(system, &scratch).unwrap();
        let words = format!("root=LABEL={LABEL} ro taproot.layers=line:top:middle:base");
        let first = boot("directory", system, vec![disk.clone()], &words);
        check(&first, system);
        assert_eq!(first.one("OLD"), "");
        let root = at(&first.report, "/");
        assert_eq!(value(&root, "upperdir"), Some("/run/taproot/base/upper/upper"), "{root:?}");
        assert_eq!(value(&root, "workdir"), Some("/run/taproot/base/upper/work"), "{root:?}");
        assert_eq!(first.tag("MNT"), [""; 0]);
        let second = boot("directory-again", system, vec![disk.clone()], &words);
        check(&second, system);
        assert_eq!(second.one("OLD"), first.one("WRITES"));
        let third = boot("directory-reset", system, vec![disk], &format!("{words} taproot.upper_reset"));
        check(&third, system);
        assert_eq!((third.one("OLD"), third.one("KEPT")), ("", second.one("WRITES")), "{}", third.said);
    }

    /// Over all of a Debian, what is written goes to memory. An access control list, which only erofs keeps, is still there after
    /// its file was copied up.
    fn memory_upper(system) {
        let scratch = Scratch::new().unwrap();
        let disk = layers::disk(system, &scratch).unwrap();
        let lists = layers::small_disk(&scratch, "lists0", "LISTS", &[(layers::with_list(&scratch).unwrap(), "list.erofs")]).unwrap();
        let words = format!("root=LABEL={LABEL} taproot.layerdev=LABEL=LISTS taproot.layers=top:list:middle:base taproot.upper=ram:400M");
        let seen = boot("memory", system, vec![disk, lists], &words);
        check(&seen, system);
        assert_eq!((seen.one("LISTED"), seen.one("COPIED")), (layers::LIST, layers::LIST), "{}", seen.said);
        assert_eq!(value(&at(&seen.report, "/"), "upperdir"), Some("/run/taproot/upper/upper"));
        assert!(is_read_only(&seen.report, "/run/taproot/base"));
        assert_eq!(value(&at(&seen.report, "/run/taproot/upper"), "size"), Some("409600k"));
    }

    /// A partition by its label, the same without it, and each way to go on.
    fn upper_on_a_device_and_without_it(system) {
        let scratch = Scratch::new().unwrap();
        let disk = || layers::small_disk(&scratch, "tiny0", LABEL, &layers::tiny(system).unwrap()).unwrap();
        let words = format!("root=LABEL={LABEL} {STACK} taproot.upper=label:keep taproot.wait=5");
        let keep = layers::small_disk(&scratch, "keep0", "keep", &[]).unwrap();
        let report = tiny("device", system, vec![disk(), keep], &words);
        assert_eq!(upper_of(&report), "/run/taproot/upper/upper/upper");
        assert_eq!(at(&report, "/run/taproot/upper").kind, "ext4");
        let text = fails("no-upper", system, vec![disk()], &words);
        assert!(text.contains("LABEL=keep: it did not appear within 5 s"), "{text}");
        let report = tiny("to-memory", system, vec![disk()], &format!("{words} taproot.upper_fallback=ram"));
        assert_eq!(at(&report, "/run/taproot/upper").kind, "tmpfs");
        let problems = report.json.as_ref().unwrap()["problems"].to_string();
        assert!(problems.contains("the root's upper is not the one that is asked for, but memory"), "{problems}");
        let report = tiny("to-nothing", system, vec![disk()], &format!("{words} taproot.upper_fallback=ro"));
        assert!(is_read_only(&report, "/") && upper_of(&report).is_empty());
    }

    /// What earlier boots left in the upper, as a layer under memory; then set aside whole. The power fails as soon as that is done, and
    /// the next boot has a fresh upper.
    fn an_old_upper_is_read_only_or_set_aside(system) {
        let scratch = Scratch::new().unwrap();
        let name = scratch.path().join("name");
        std::fs::write(&name, "kept\n").unwrap();
        let mut files = layers::tiny(system).unwrap();
        files.push((name, "upper/upper/etc/hostname"));
        let disk = layers::small_disk(&scratch, "tiny0", LABEL, &files).unwrap();
        let boots = |name: &str, word: &str| {
            let words = format!("root=LABEL={LABEL} ro {STACK} {word}");
            let mut vm = vm(&format!("layers-{name}"), system, &words).unwrap().disk(disk.clone()).start().unwrap();
            let report = vm.report(60).unwrap();
            vm.wait_exit(20).unwrap();
            report
        };
        let report = boots("upper-read-only", "taproot.upper_readonly");
        assert_eq!(report.hostname(), "kept");
        assert_eq!((at(&report, "/run/taproot/upper").kind.as_str(), upper_of(&report).as_str()), ("tmpfs", "/run/taproot/upper/upper"));
        assert!(is_read_only(&report, "/run/taproot/base"));
        // What is written to this disk is in its file at once.
        let words = format!("root=LABEL={LABEL} ro {STACK} taproot.upper_reset");
        let cut = vm("layers-upper-cut", system, &words).unwrap().disk(disk.clone()).start().unwrap();
        cut.expect("the upper that was there is kept in /run/taproot/base/upper/old-1", 60).unwrap();
        cut.kill().unwrap();
        let report = boots("upper-fresh", "");
        assert_eq!((report.hostname(), upper_of(&report).as_str()), ("top", "/run/taproot/base/upper/upper"));
        let kept = ["-R", "cat /upper/old-1/upper/etc/hostname"];
        assert_eq!(kit::run(Command::new("debugfs").args(kept).arg(&disk.path)).unwrap(), "kept\n");
    }

    /// One squashfs and a USB stick, by the commands of docs/layers.md, and what its entry for GRUB names there: a whole system,
    /// read-write although the boot loader says `ro`, and what is written lies on the stick. Nothing of its fstab is about `/`.
    fn a_stick_by_the_commands_of_the_page(system) {
        let page = std::fs::read_to_string(taproot_tests::checkout().join("docs/layers.md")).unwrap();
        let section = page.split("\n## ").find(|section| section.starts_with("From one squashfs")).unwrap();
        let commands: Vec<&str> = section.split("\n\n").nth(2).unwrap().lines().map(str::trim).collect();
        assert_eq!(commands.len(), 5, "{commands:#?}");
        let scratch = Scratch::new().unwrap();
        let disk = scratch.blank("stick0", 1 << 30).unwrap();
        std::os::unix::fs::symlink(system.squashfs(), scratch.path().join("filesystem.squashfs")).unwrap();
        let script = format!(
            "set -e\nsudo() {{ \"$@\"; }}\ntaproot() {{ {} \"$@\" --init {}; }}\n{}\n",
            image::builder().display(),
            image::boot_binary().display(),
            commands.join("\n").replace("/dev/sdX1", &disk.path.display().to_string())
        );
        let mut made = Command::new("unshare");
        made.args(["--mount", "--propagation", "private", "bash", "-c", &script]).current_dir(scratch.path());
        kit::run(&mut made).unwrap();
        let entry = section.split("\n\n").find(|block| block.trim_start().starts_with("menuentry ")).unwrap();
        let named = |word: &str| entry.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap().replace("RELEASE", &system.kernel);
        assert!(commands[4].contains(&format!("-L {} ", named("search --set=root --label "))), "{entry}");
        let [kernel, initrd] = ["linux ", "initrd "].map(|word| {
            let to = scratch.path().join(word.trim());
            layers::file_of(&disk, &named(word), &to).unwrap();
            to
        });
        let script = "echo kept >/root/written\nsystemctl --no-block poweroff\n";
        let vm = Vm::new("layers-stick", system, &initrd).kernel(&kernel).append("ro taproot-test.report");
        let mut vm = vm.disk(disk.clone().on(Bus::Usb)).file("opt/taproot/script", script.as_bytes()).start().unwrap();
        let report = vm.report(200).unwrap();
        vm.wait_exit(60).unwrap();
        assert_eq!(report.one("STATE"), "active failed=0", "{:?}", report.all("FAILED"));
        assert!(at(&report, "/").kind == "overlay" && !is_read_only(&report, "/"));
        let written = ["-R", "cat /upper/upper/root/written"];
        assert_eq!(kit::run(Command::new("debugfs").args(written).arg(&disk.path)).unwrap(), "kept\n");
    }

    /// Layers on a device of their own, which comes late; a missing one, and one that is cut off.
    fn layer_device(system) {
        let scratch = Scratch::new().unwrap();
        let files = layers::tiny(system).unwrap();
        let (own, others): (Vec<_>, Vec<_>) = files.iter().cloned().partition(|(_, name)| name.starts_with("top"));
        let base = || layers::small_disk(&scratch, "tiny0", LABEL, &own).unwrap();
        let words = format!("root=LABEL={LABEL} {STACK} taproot.layerdev=LABEL=MORE");
        let more = layers::small_disk(&scratch, "more0", "MORE", &others).unwrap();
        let mut machine = vm("layers-late", system, &words).unwrap().disks([base()]).start().unwrap();
        machine.expect("waiting for the layer device LABEL=MORE", 30).unwrap();
        machine.plug_in(&more).unwrap();
        let report = machine.report(60).unwrap();
        machine.wait_exit(20).unwrap();
        assert_eq!(report.hostname(), "top");
        assert!(is_read_only(&report, "/run/taproot/layer-device"));

        let empty = layers::small_disk(&scratch, "more0", "MORE", &[]).unwrap();
        let text = fails("missing", system, vec![base(), empty], &words);
        assert!(text.contains("layer middle and 1 more is missing"), "{text}");
        let cut = scratch.path().join("cut");
        let whole = others.iter().find(|(_, name)| name.starts_with("base")).unwrap().0.clone();
        let bytes = std::fs::read(whole).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let middle = others.iter().find(|(_, name)| name.starts_with("middle")).unwrap().clone();
        let cut = layers::small_disk(&scratch, "more0", "MORE", &[middle, (cut, "base.sqsh")]).unwrap();
        let text = fails("cut", system, vec![base(), cut], &words);
        assert!(text.contains("layer base cannot be used") && text.contains("it is cut off"), "{text}");
    }

    /// The layout that RuckusRD's installer makes: a dataset for the upper and one for the layers; where OpenZFS cannot have the
    /// upper, and the zvol that can be it.
    fn pool_and_its_zvol(system) {
        let scratch = Scratch::new().unwrap();
        let pool = layers::pool(&system.name, system, &scratch).unwrap();
        let words = "root=ZFS=zroot/root sqsh_layerdev=ZFS=zroot/sqsh sqsh_layers=top:middle:base";
        if system.zfs.starts_with("2.1") {
            let text = fails("dataset", system, vec![pool.clone()], words);
            assert!(text.contains("OpenZFS can since 2.2; taproot.upper=zvol:POOL/NAME"), "{text}");
        } else {
            let report = tiny("dataset", system, vec![pool.clone()], &format!("{words} ro"));
            assert_eq!(upper_of(&report), "/run/taproot/base/upper/upper");
            assert!(!is_read_only(&report, "/"));
            assert!(is_read_only(&report, "/run/taproot/layer-device"));
            for point in ["root-true", "sqsh_layerdev", "sqsh_layer-top", "sqsh_layer-base"] {
                at(&report, &format!("/mnt/{point}"));
            }
        }
        let report = tiny("zvol", system, vec![pool], &format!("{words} taproot.upper=zvol:zroot/live"));
        assert_eq!(at(&report, "/run/taproot/upper").source, "/dev/zd0");
        assert_eq!(at(&report, "/run/taproot/upper").kind, "ext4");
    }
}
