//! What is kept on media of its own under roots made of layers, on real systems: a zvol, a partition, a file; directories beside
//! the upper, in which containers have their overlays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::PathBuf;

use taproot_tests::kit::System;
use taproot_tests::layers::{self, LABEL};
use taproot_tests::scenario::vm;
use taproot_tests::scenarios_on_newest;
use taproot_tests::vm::{Disk, Mount, Report, Scratch};

const STACK: &str = "taproot.layers=top:middle:base";
const MEDIUM: &str = "/run/taproot/persistence";

/// A booted machine's report, and what its script said.
struct Seen {
    report: Report,
    said: String,
}

impl Seen {
    fn one(&self, tag: &str) -> &str {
        let prefix = format!("@@{tag} ");
        self.said.lines().find_map(|line| line.trim().strip_prefix(&prefix)).unwrap_or_default()
    }
}

/// Boots a whole system, and runs a script in it.
fn boot(name: &str, system: &System, disks: Vec<Disk>, words: &str, script: &str) -> Seen {
    let vm = vm(&format!("persistence-{name}"), system, words).unwrap();
    let script = format!("say() {{ echo \"@@$*\"; }}\n{script}\nsystemctl --no-block poweroff\n");
    let mut vm = vm.disks(disks).file("opt/taproot/script", script.as_bytes()).start().unwrap();
    let report = vm.report(200).unwrap();
    let said = vm.script(100).unwrap();
    vm.wait_exit(60).unwrap();
    let seen = Seen { report, said };
    assert_eq!(seen.report.one("STATE"), "active failed=0", "{:?}", seen.report.all("FAILED"));
    assert_eq!(seen.report.hostname(), "top");
    seen
}

/// Boots layers whose bottom only says what it sees.
fn tiny(name: &str, system: &System, disks: Vec<Disk>, words: &str) -> Report {
    let mut vm = vm(&format!("persistence-{name}"), system, words).unwrap().disks(disks).start().unwrap();
    let report = vm.report(60).unwrap();
    vm.wait_exit(20).unwrap();
    assert_eq!(report.hostname(), "top");
    report
}

fn at(report: &Report, point: &str) -> Mount {
    report.mounts().into_iter().rev().find(|m| m.point == point).unwrap_or_else(|| panic!("nothing is on {point}"))
}

fn value<'a>(mount: &'a Mount, option: &str) -> Option<&'a str> {
    mount.super_options.iter().find_map(|o| o.strip_prefix(option)?.strip_prefix('='))
}

fn problems(report: &Report) -> String {
    report.json.as_ref().expect("boot.json")["problems"].to_string()
}

/// A file of the host that says this.
fn text(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

scenarios_on_newest! {
    /// The variant of live-boot for zvols, with its seven unions; the root itself is in memory.
    fn seven_unions_on_a_zvol(system) {
        let scratch = Scratch::new().unwrap();
        let disks = vec![
            layers::disk(system, &scratch).unwrap(),
            layers::pool(&format!("persistence-{}", system.name), system, &scratch).unwrap(),
        ];
        let script = r"
            say LAYER $(cat /etc/layer)
            say DELETED $(test -e /etc/debian_version || echo gone)
            say SKEL $(ls -A /etc/skel)
            say MODES $(stat -c %a:%U /root /etc /var /run/taproot/persistence/zd0/root/rw)
            say LINKS $(stat -c %h /opt/kinds/first) $(stat -c %a /opt/kinds/suid)
            echo mine >/home/written && say HOME $(cat /run/live/persistence/zd0/home/rw/written)
            touch /mnt/x && say MEMORY $(ls /run/taproot/upper/upper/mnt)
            say REMOUNT $(systemctl is-failed systemd-remount-fs)
        ";
        let words = format!("root=LABEL={LABEL} {STACK} persistence-zfs=zroot/live");
        let seen = boot("zvol", system, disks, &words, script);
        assert_eq!(problems(&seen.report), "[]");
        for dir in ["etc", "usr", "var", "home", "root", "srv", "opt"] {
            let mount = at(&seen.report, &format!("/{dir}"));
            assert_eq!(mount.kind, "overlay", "{mount:?}");
            assert_eq!(value(&mount, "upperdir"), Some(format!("{MEDIUM}/zd0/{dir}/rw").as_str()), "{mount:?}");
            assert_eq!(value(&mount, "workdir"), Some(format!("{MEDIUM}/zd0/{dir}/work").as_str()), "{mount:?}");
            assert!(mount.options.iter().any(|option| option == "rw"), "{mount:?}");
        }
        let medium = at(&seen.report, &format!("{MEDIUM}/zd0"));
        assert_eq!((medium.source.as_str(), medium.kind.as_str()), ("/dev/zd0", "ext4"));
        assert_eq!(at(&seen.report, "/run/taproot/upper").kind, "tmpfs");
        assert_eq!(seen.one("LAYER"), "kept", "{}", seen.said);
        assert_eq!(seen.one("DELETED"), "gone");
        assert_eq!(seen.one("SKEL"), "new", "the directory is opaque");
        assert_eq!(seen.one("MODES"), "700:root 755:root 755:root 700:root");
        assert_eq!(seen.one("LINKS"), "2 4755");
        assert_eq!((seen.one("HOME"), seen.one("MEMORY")), ("mine", "x"));
        assert_ne!(seen.one("REMOUNT"), "failed");
    }

    /// A partition that keeps directories, filled the first time, under a root whose upper is a directory of its device; and
    /// directories beside that, where a container engine mounts what it mounts.
    fn partition_and_containers(system) {
        let scratch = Scratch::new().unwrap();
        let conf = text(&scratch, "conf", "/home\n/opt bind,source=o\n/nothing unon\n");
        let keep = layers::small_disk(&scratch, "keep0", "persistence", &[(conf, "persistence.conf")]).unwrap();
        let script = r"
            containers() {
                mkdir -p $1/one $1/two $1/upper $1/work $1/merged
                echo lower >$1/one/file
                mount -t overlay overlay -o lowerdir=$1/two:$1/one,upperdir=$1/upper,workdir=$1/work $1/merged || return 1
                echo upper >$1/merged/file; echo $(cat $1/merged/file $1/upper/file $1/one/file); umount $1/merged
            }
            say CONTAINERS $(containers /var/lib/containers)
            say ONROOT $(containers /srv 2>/dev/null || echo refused)
            say BESIDE $(ls /run/taproot/base/upper/bind/var/lib/containers | wc -l) $(ls -A /run/taproot/base/upper/upper/var/lib/containers | wc -l)
            say DOCKER $(stat -c %a:%U /var/lib/docker)
            say FILLED $(cat /opt/middle) $(stat -c %h /opt/kinds/first) $(stat -c %a /opt/kinds/suid) $(stat -c %t:%T /opt/kinds/null)
            echo mine >/home/written && say HOME $(cat /run/taproot/persistence/vd*/home/written)
            say OPT $(ls /run/taproot/persistence/vd*/o)
        ";
        let words = format!(
            "root=LABEL={LABEL} {STACK} taproot.upper=dir persistence taproot.bind=/var/lib/containers:/var/lib/docker taproot.wait=60"
        );
        let disks = vec![layers::disk(system, &scratch).unwrap(), keep];
        let seen = boot("partition", system, disks, &words, script);
        assert!(problems(&seen.report).contains("unon is no option"), "{}", problems(&seen.report));
        assert_eq!(seen.one("CONTAINERS"), "upper upper lower", "{}", seen.said);
        assert_eq!(seen.one("ONROOT"), "refused", "{}", seen.said);
        assert_eq!(seen.one("BESIDE"), "5 0");
        assert_eq!(seen.one("DOCKER"), "755:root");
        assert_eq!(seen.one("FILLED"), "middle 2 4755 1:3", "{}", seen.said);
        assert_eq!((seen.one("HOME"), seen.one("OPT")), ("mine", "kinds middle"), "{}", seen.said);
        let base = at(&seen.report, "/run/taproot/base");
        let root = at(&seen.report, "/");
        assert_eq!(value(&root, "upperdir"), Some("/run/taproot/base/upper/upper"));
        for dir in ["/var/lib/containers", "/var/lib/docker"] {
            let mount = at(&seen.report, dir);
            assert_eq!((&mount.source, mount.kind.as_str()), (&base.source, "ext4"), "{mount:?}");
            assert!(mount.options.iter().any(|option| option == "rw"), "{mount:?}");
        }
        assert_eq!(at(&seen.report, "/home").kind, "ext4");
    }

    /// A file on another disk keeps all of the root; a medium that does not say what it keeps is told of.
    fn file_and_a_medium_that_says_nothing(system) {
        let scratch = Scratch::new().unwrap();
        let disk = || layers::small_disk(&scratch, "tiny0", LABEL, &layers::tiny(system).unwrap()).unwrap();
        let conf = text(&scratch, "conf", "/ union\n");
        let file = layers::file(&scratch, "file", &[(conf, "persistence.conf")]).unwrap();
        let other = layers::small_disk(&scratch, "stuff0", "STUFF", &[(file, "live/persistence")]).unwrap();
        let words = format!("root=LABEL={LABEL} {STACK} persistence persistence-path=live");
        let report = tiny("file", system, vec![disk(), other], &words);
        assert_eq!(problems(&report), "[]");
        let upper = value(&at(&report, "/"), "upperdir").unwrap().to_owned();
        assert!(upper.starts_with(MEDIUM) && upper.ends_with(".file/rw"), "{upper}");
        let medium = at(&report, upper.trim_end_matches("/rw"));
        assert!(medium.source.starts_with("/dev/loop") && medium.kind == "ext4", "{medium:?}");
        assert!(medium.options.iter().any(|option| option == "rw"), "{medium:?}");

        let keep = layers::small_disk(&scratch, "keep0", "persistence", &[]).unwrap();
        let report = tiny("silent", system, vec![disk(), keep], &words);
        let said = problems(&report);
        assert!(said.contains("it has no persistence.conf") && said.contains("NOTHING IS KEPT"), "{said}");
        assert_eq!(at(&report, "/run/taproot/upper").kind, "tmpfs");
    }
}
