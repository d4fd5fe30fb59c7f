mod also;
mod layouts;
mod rounds;
mod sound;

use super::*;
use crate::cmdline::{Also, Decided, parse};
use crate::plan::facts::{CanMount, Kind, Mountpoint};
use crate::plan::fstab;

static NOT_MADE: BTreeMap<String, Made> = BTreeMap::new();
static NONE: BTreeSet<String> = BTreeSet::new();

/// A root without links, of which nothing is mounted yet.
fn ground<'a>(root: &'a Root, datasets: &'a [Dataset], fstab: &'a [FstabEntry]) -> Ground<'a> {
    Ground { root, datasets, fstab, made: &NOT_MADE, given_up: &NONE, taken_away: &NONE, place: &str::to_owned }
}

fn dataset(spec: &str) -> Dataset {
    let mut words = spec.split(' ');
    let mut d = Dataset::with_defaults(words.next().unwrap());
    for word in words {
        match word {
            "on" => d.canmount = CanMount::On,
            "off" => d.canmount = CanMount::Off,
            "noauto" => d.canmount = CanMount::NoAuto,
            "legacy" => d.mountpoint = Mountpoint::Legacy,
            "none" => d.mountpoint = Mountpoint::None,
            "ro" => d.readonly = true,
            "zoned" => d.zoned = true,
            "locked" => (d.key_available, d.encryption_root) = (Some(false), Some("t/key".into())),
            "unlocked" => d.key_available = Some(true),
            "volume" => d.kind = Kind::Volume,
            "zol" => d.zol_mountpoint = Some("/zol".into()),
            "received" => d.received = true,
            "no-overlay" => d.overlay = false,
            path => match path.split_once('=') {
                Some(("from", above)) => d.mountpoint_of = Some(above.into()),
                Some(("key", location)) => {
                    (d.key_available, d.key_location) = (Some(false), Some(location.into()));
                    d.encryption_root = Some(d.name.clone());
                }
                _ => d.mountpoint = Mountpoint::Path(path.into()),
            },
        }
    }
    d
}

/// Plans with the first dataset as root.
fn make(specs: &[&str], fstab: &str, line: &str) -> MountPlan {
    make_with(specs, fstab, &parse(line.as_bytes()))
}

fn make_with(specs: &[&str], fstab: &str, request: &Request) -> MountPlan {
    let all: Vec<_> = specs.iter().map(|s| dataset(s)).collect();
    let plan_of = |all: &[Dataset], root: &Dataset| {
        plan(ground(&Root::Dataset(root.clone()), all, &fstab::parse(fstab.as_bytes())), request)
    };
    let result = plan_of(&all, &all[0]);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(result, plan_of(&reversed, &all[0]), "the order of datasets must not matter");
    result
}

fn steps(plan: &MountPlan) -> Vec<(&str, &str)> {
    plan.steps.iter().map(|s| (s.dataset.as_str(), s.target.as_str())).collect()
}

#[track_caller]
fn skipped(plan: &MountPlan, dataset: &str, why: &str) {
    let found = plan.skipped.iter().find(|s| s.dataset == dataset).unwrap_or_else(|| panic!("{dataset} not skipped"));
    assert!(found.why.contains(why), "{}", found.why);
}

#[test]
fn debian_with_two_environments() {
    let plan = make(
        &[
            "t/ROOT/a noauto /",
            "t off none",
            "t/ROOT off none",
            "t/ROOT/a/var off /var",
            "t/ROOT/a/var/log on /var/log",
            "t/ROOT/a/noauto noauto /noauto",
            "t/ROOT/b noauto /",
            "t/ROOT/b/var on /var",
            "t/home on /home",
            "t/home/root on /root",
            "t/srv legacy",
            "t/unlisted legacy",
            "t/swap volume",
        ],
        "t/srv /srv zfs nodev,nofail 0 0\n/dev/vda1 /boot/efi vfat defaults 0 1\nt/ROOT/a / zfs defaults 0 0\n",
        "root=zfs:AUTO",
    );
    assert_eq!(
        steps(&plan),
        [
            ("t/ROOT/a", "/"),
            ("t/home", "/home"),
            ("t/home/root", "/root"),
            ("t/srv", "/srv"),
            ("t/ROOT/a/var/log", "/var/log"),
        ]
    );
    assert_eq!(plan.steps[3].origin, Origin::Fstab);
    assert!(plan.steps[3].nofail && !plan.steps[2].nofail);
    assert_eq!(plan.steps[3].options.flags, libc::MS_NODEV | libc::MS_RELATIME);
    assert_eq!(plan.steps[3].why, "fstab line 1");
    assert!(plan.steps[4].options.data.ends_with(",mntpoint=/var/log"));
    skipped(&plan, "t/ROOT/b/var", "another boot environment, t/ROOT/b");
    skipped(&plan, "t/ROOT/a/var", "canmount=off");
    skipped(&plan, "t/ROOT/a/noauto", "canmount=noauto");
    skipped(&plan, "t/unlisted", "no fstab line");
    assert!(plan.skipped.iter().all(|s| s.dataset != "t/swap"));
}

#[test]
fn order_is_by_path_not_by_name() {
    let plan =
        make(&["t/r /", "t/r/a /usr/local", "t/r/b /usr", "t/c legacy", "t/d /usr-x"], "t/c /usr/local/share zfs", "");
    let targets: Vec<_> = plan.steps.iter().map(|s| s.target.as_str()).collect();
    assert_eq!(targets, ["/", "/usr", "/usr/local", "/usr/local/share", "/usr-x"]);
}

#[test]
fn children_of_a_root_with_a_path_move_with_it() {
    let plan = make(
        &[
            "t/s/be1 /t/be1",
            "t/s/be1/var /t/be1/var",
            "t/s/be1/abs /abs",
            "t/s/be1/x /t/be1x",
            "t/s/be1/y /t/be1",
            "t/o /t/be1/o",
        ],
        "",
        "",
    );
    assert_eq!(
        steps(&plan),
        [
            ("t/s/be1", "/"),
            ("t/s/be1/abs", "/abs"),
            ("t/o", "/t/be1/o"),
            ("t/s/be1/x", "/t/be1x"),
            ("t/s/be1/var", "/var"),
        ]
    );
    skipped(&plan, "t/s/be1/y", "t/s/be1 is mounted at /");
}

#[test]
fn what_cannot_be_mounted() {
    let plan = make(
        &["t/r /", "t/z zoned /z", "t/u unlocked /u", "t/d ../x", "t/e /a/../b", "t/p /proc/x", "t/run /running"],
        "",
        "",
    );
    assert_eq!(steps(&plan), [("t/r", "/"), ("t/run", "/running"), ("t/u", "/u")]);
    skipped(&plan, "t/z", "zoned");
    skipped(&plan, "t/d", "not an absolute path");
    skipped(&plan, "t/e", "not a plain path");
    skipped(&plan, "t/p", "lies in /proc");
}

#[test]
fn one_mount_point_one_dataset() {
    let plan =
        make(&["t/a/root /", "t/a/home /home", "t/0/home /home", "t/srv /srv", "t/l legacy"], "t/l /srv zfs", "");
    assert_eq!(steps(&plan), [("t/a/root", "/"), ("t/a/home", "/home"), ("t/l", "/srv")]);
    skipped(&plan, "t/0/home", "t/a/home is mounted at /home");
    skipped(&plan, "t/srv", "t/l is mounted at /srv");
}

#[test]
fn fstab_lines() {
    let specs =
        ["t/ROOT/a /", "t/ROOT/b legacy", "t/l legacy", "t/p /p", "t/q noauto /q", "t/v volume", "t/k legacy locked"];
    let plan = make(
        &specs,
        "t/p /other zfs defaults\n\
         t/q /q2/ zfs zfsutil,ro\n\
         t/l / zfs defaults\n\
         t/l /l zfs x-systemd.automount\n\
         u/x /x zfs\n\
         t/none /n zfs\n\
         t/v /v zfs\n\
         t/k /k zfs\n\
         t/p@s /s zfs\n\
         t/ROOT/b /b zfs\n\
         t/q /q3 zfs zfsutil\n",
        "",
    );
    assert_eq!(steps(&plan), [("t/ROOT/a", "/"), ("t/ROOT/b", "/b"), ("t/k", "/k"), ("t/p", "/p"), ("t/q", "/q2")]);
    assert!(plan.steps[1].why.starts_with("fstab line 10, although it belongs to another"), "{}", plan.steps[1].why);
    assert!(plan.steps[4].options.data.starts_with("ro,"));
    skipped(&plan, "t/l", "fstab line 3: it names another root");
    skipped(&plan, "t/p", "fstab line 1: its mountpoint is /p, not legacy");
    skipped(&plan, "u/x", "another pool");
    skipped(&plan, "t/none", "no such dataset");
    skipped(&plan, "t/v", "not a filesystem");
    skipped(&plan, "t/p@s", "snapshot");
    let plan = make(&specs, "t/l /l zfs noauto,nofail\nt/p none zfs zfsutil\n", "");
    skipped(&plan, "t/l", "noauto");
    assert_eq!(steps(&plan), [("t/ROOT/a", "/"), ("t/p", "/p")]);
}

#[test]
fn ro_and_rw() {
    let rdonly = |plan: &MountPlan, n: usize| plan.steps[n].options.flags & libc::MS_RDONLY != 0;
    let specs = ["t/r /", "t/home /home"];
    let plan = make(&specs, "t/r / zfs ro", "rw ro");
    assert!(rdonly(&plan, 0) && !rdonly(&plan, 1) && plan.remount_root.is_none());
    assert!(plan.steps[0].why.ends_with("read-only by ro"));
    // Nothing says that it is to stay so.
    let remount = make(&specs, "", "ro").remount_root.unwrap();
    assert_eq!(remount.options.flags & libc::MS_RDONLY, 0);
    // the property decides without a word, and with rw
    for line in ["", "ro rw"] {
        let plan = make(&specs, "", line);
        assert!(!rdonly(&plan, 0) && plan.remount_root.is_none());
        assert!(rdonly(&make(&["t/r / ro"], "", line), 0));
    }
    assert!(make(&["t/r / ro"], "", "ro").remount_root.is_none());
}

#[test]
fn settings_narrow_the_properties() {
    let specs = [
        "t/ROOT/a /",
        "t/ROOT/a/usr /usr",
        "t/ROOT/a/lib64 /lib64",
        "t/ROOT/a/opt /opt",
        "t/usr /usr/local",
        "t/home /home",
        "t/l legacy",
        "t/off off /off",
    ];
    let of = |which: Which| {
        let mut request = parse(b"");
        request.mounts.which = Decided::new(which, "taproot.mounts=x");
        make_with(&specs, "t/l /l zfs", &request)
    };
    let targets = |plan: &MountPlan| plan.steps.iter().skip(1).map(|s| s.target.clone()).collect::<Vec<_>>();
    assert_eq!(targets(&of(Which::All)), ["/home", "/l", "/lib64", "/opt", "/usr", "/usr/local"]);
    assert_eq!(targets(&of(Which::Children)), ["/l", "/lib64", "/opt", "/usr"]);
    assert_eq!(targets(&of(Which::System)), ["/l", "/lib64", "/usr"]);
    assert_eq!(targets(&of(Which::None)), ["/l"]);
    skipped(&of(Which::None), "t/home", "left out by taproot.mounts=x");
    // Whoever named a dataset is told why it is not there.
    let named = ["t/home", "t/none", "u/a", "t/l", "t/off"];
    let list = of(Which::List(named.map(str::to_owned).to_vec()));
    assert_eq!(targets(&list), ["/home", "/l"]);
    let whys = [
        "t/none is not mounted: there is no such dataset",
        "u/a is not mounted: it lies in another pool",
        "canmount=off",
    ];
    assert_eq!(list.warnings.len(), whys.len(), "{:?}", list.warnings);
    for (warning, why) in list.warnings.iter().zip(whys) {
        assert!(warning.starts_with("taproot.mounts=x: ") && warning.contains(why), "{warning}");
    }

    let mut request = parse(b"ro");
    request.mounts.fstab = Decided::new(false, "taproot.fstab=no");
    let plan = make_with(&specs, "t/l /l zfs\nt/ROOT/a / zfs ro\n/dev/x /usr ext4", &request);
    skipped(&plan, "t/l", "mountpoint=legacy");
    assert!(plan.steps.iter().all(|s| s.foreign.is_none()));
    assert!(plan.remount_root.is_none(), "the booted system reads its fstab all the same");
}

#[test]
fn a_users_mountpoint_of_the_roots_children() {
    let plan = make(&["t/a/r /", "t/a/r/x none zol", "t/y none zol"], "", "");
    assert_eq!(steps(&plan), [("t/a/r", "/"), ("t/a/r/x", "/zol")]);
    skipped(&plan, "t/y", "mountpoint=none");
}

#[test]
fn other_file_systems_of_fstab() {
    let plan = make(
        &["t/a/r /", "t/a/r/local /usr/local", "t/srv /srv"],
        "LABEL=usr /usr ext4 ro,errors=remount-ro 0 1\n\
         LABEL=srv /srv ext4 defaults,x-initrd.mount 0 2\n\
         UUID=A-B /boot/efi vfat umask=0077 0 1\n\
         UUID=A-B /efi vfat umask=0077,x-initrd.mount,nofail 0 1\n\
         tmpfs /var/tmp tmpfs size=1M,x-initrd.mount\n\
         h:/n /n nfs x-initrd.mount\n\
         h:/m /m nfs x-initrd.mount,nofail\n\
         u/d /d zfs x-initrd.mount\n\
         u/e /e zfs\n\
         /dev/x / ext4 defaults\n\
         /dev/y /opt ext4 noauto,x-initrd.mount\n\
         UUID=s none swap sw\n",
        "",
    );
    let found: Vec<_> =
        plan.steps.iter().map(|s| (s.target.as_str(), s.foreign.as_ref().map(|f| f.fstype.as_str()))).collect();
    assert_eq!(
        found,
        [
            ("/", None),
            ("/efi", Some("vfat")),
            ("/srv", Some("ext4")),
            ("/usr", Some("ext4")),
            ("/usr/local", None),
            ("/var/tmp", Some("tmpfs")),
        ]
    );
    let usr = &plan.steps[3];
    assert_eq!(
        (usr.options.flags & libc::MS_RDONLY, usr.options.data.as_str()),
        (libc::MS_RDONLY, "errors=remount-ro")
    );
    assert!(plan.steps[1].nofail);
    skipped(&plan, "t/srv", "LABEL=srv is mounted at /srv");
    skipped(&plan, "/dev/y", "noauto");
    skipped(&plan, "u/e", "another pool");
    assert_eq!(plan.warnings.len(), 3, "{:?}", plan.warnings);
    assert!(plan.warnings[2].contains("LABEL=srv (fstab line 2) and t/srv"), "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("h:/n is not mounted on /n: nfs needs"), "{:?}", plan.warnings);
    assert!(plan.warnings[1].contains("u/d is not mounted on /d: it lies in another pool"), "{:?}", plan.warnings);
}

#[test]
fn root_flags_go_over_properties_and_words() {
    let rdonly = |plan: &MountPlan| plan.steps[0].options.flags & libc::MS_RDONLY != 0;
    let with = |line: &[u8], flags: &str| {
        let mut request = parse(line);
        request.root_flags = Some(Decided::new(flags.to_owned(), format!("rootflags={flags}")));
        make_with(&["t/r / ro", "t/h /h"], "", &request)
    };
    let plan = with(b"", "zfsutil,noatime,rw,subvol=x");
    assert!(!rdonly(&plan) && plan.steps[0].options.flags & libc::MS_NOATIME != 0);
    assert!(plan.steps[1].options.flags & libc::MS_NOATIME == 0);
    assert_eq!(
        plan.warnings,
        ["rootflags=zfsutil,noatime,rw,subvol=x: the zfs module has no option `subvol=x`; left out"]
    );
    assert!(!plan.steps[0].options.data.contains("subvol"));
    assert!(rdonly(&with(b"rw", "ro")));
    let both = with(b"ro", "rw");
    assert!(!rdonly(&both) && both.remount_root.is_none());
}

#[test]
fn a_long_list_is_shortened() {
    let skip = |n: usize, why: &str| Skipped { dataset: format!("t/{n:04}"), why: why.into(), more: 0 };
    let all: Vec<_> =
        (0..5000).map(|n| skip(n, if n % 2 == 0 { "legacy" } else { "off" })).chain([skip(5000, "other")]).collect();
    let short = condense(all);
    assert_eq!(short.len(), 2 * NAMED + 1);
    assert_eq!(short.iter().map(|s| s.more + 1).sum::<usize>(), 5001);
    assert_eq!((short[0].more, short[2 * NAMED - 2].more), (0, 2500 - NAMED));
}

#[test]
fn from_a_pool_that_is_imported_read_only_all_is_mounted_so() {
    let specs = ["t/r /", "t/a /a", "t/l legacy", "t/x noauto /x"];
    let fstab = "t/l /l zfs rw\nLABEL=e /e ext4 rw,x-initrd.mount\n";
    let plan = make(&specs, fstab, "ro rootflags=rw taproot.also=t/x taproot.import=ro");
    let (zfs, others): (Vec<_>, Vec<_>) = plan.steps.iter().partition(|s| s.foreign.is_none());
    assert_eq!((zfs.len(), others.len()), (4, 1));
    for step in zfs {
        let MountOptions { flags, data } = &step.options;
        assert!(flags & libc::MS_RDONLY != 0 && data.starts_with("ro,"), "{step:?}");
    }
    assert_eq!(others[0].options.flags & libc::MS_RDONLY, 0);
    assert!(plan.steps[0].why.ends_with("read-only by taproot.import=ro"), "{}", plan.steps[0].why);
    assert_eq!(make(&specs, "", "ro taproot.import=ro").remount_root, None, "it could not be made writable");
}
