mod roots;

use proptest::prelude::*;

use super::*;

fn split(line: &str) -> Vec<(String, Option<String>)> {
    tokenize(line.as_bytes()).into_iter().map(|w| (w.key, w.value)).collect()
}

#[test]
fn which_boots_begin_with_zfs() {
    let layers = "root=LABEL=a taproot.layers=b";
    for line in ["", "root=ZFS=p/d", "zfs=p/d", "root=LABEL=a taproot.also_pools=p", "root=LABEL=a taproot.menu"] {
        assert!(parse(line.as_bytes()).names_pools(), "{line}");
    }
    for more in [
        "taproot.upper=zvol:p/v",
        "taproot.upper=zfs:p/d",
        "taproot.layerdev=ZFS=p/d",
        "persistence persistence-zfs=p/v",
    ] {
        assert!(parse(format!("{layers} {more}").as_bytes()).names_pools(), "{more}");
    }
    for line in [
        "root=LABEL=a",
        "root=/dev/sda1",
        layers,
        "root=LABEL=a rd.overlay",
        "root=LABEL=a taproot.layers=b persistence",
    ] {
        assert!(!parse(line.as_bytes()).names_pools(), "{line}");
    }
}

#[test]
fn words_as_the_kernel_splits_them() {
    type Expected<'a> = &'a [(&'a str, Option<&'a str>)];
    let cases: &[(&str, Expected<'_>)] = &[
        ("", &[]),
        (" \t\n\x0b ", &[]),
        ("quiet  ro\n", &[("quiet", None), ("ro", None)]),
        ("a=b=c d=", &[("a", Some("b=c")), ("d", Some(""))]),
        ("a=\"b c\" d", &[("a", Some("b c")), ("d", None)]),
        ("\"a=b c\" d", &[("a", Some("b c")), ("d", None)]),
        ("\"a b\"", &[("a b", None)]),
        // quotes inside a word protect, but stay
        ("a=b\"c d\"e f", &[("a", Some("b\"c d\"e")), ("f", None)]),
        ("a=b\" c\"", &[("a", Some("b\" c\""))]),
        // an open quote reaches to the end
        ("a=\"b c", &[("a", Some("b c"))]),
        ("=x", &[("=x", None)]),
        ("=x=y", &[("=x", Some("y"))]),
        ("a -- b=c", &[("a", None), ("--", None), ("b", Some("c"))]),
        ("a='b c'", &[("a", Some("'b")), ("c'", None)]),
        ("a\0b", &[("a", None)]),
        ("\"", &[("", None)]),
    ];
    for (line, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect();
        assert_eq!(split(line), expected, "{line:?}");
    }
    assert_eq!(
        tokenize(b"\"a=b c\" d=\"e\"").iter().map(|w| &w.text[..]).collect::<Vec<_>>(),
        ["\"a=b c\"", "d=\"e\""]
    );
}

fn dataset(name: &str) -> Selector {
    Selector::Dataset { pool: name.split('/').next().unwrap().into(), dataset: name.into() }
}

#[test]
fn roots() {
    let cases: &[(&str, Selector, &str)] = &[
        ("root=ZFS=p/d ro", dataset("p/d"), "root=ZFS=p/d"),
        ("root=zfs:p/d", dataset("p/d"), "root=zfs:p/d"),
        ("root=zfs:ZFS=p/d", dataset("p/d"), "root=zfs:ZFS=p/d"),
        // what GRUB writes for a root on the pool's own dataset
        ("root=ZFS=p", dataset("p"), "root=ZFS=p"),
        ("root=\"ZFS=p/with space\"", dataset("p/with space"), "root=\"ZFS=p/with space\""),
        ("root=zfs:AUTO", Selector::Auto, "root=zfs:AUTO"),
        ("root=zfs", Selector::Auto, "root=zfs"),
        ("root=zfs:", Selector::Auto, "root=zfs:"),
        ("zfs=bootfs", Selector::Auto, "zfs=bootfs"),
        ("zfs=auto", Selector::Auto, "zfs=auto"),
        ("zfs=p/d root=ZFS=q/e", dataset("p/d"), "zfs=p/d"),
        ("root=ZFS=q/e zfs=bootfs", Selector::Auto, "zfs=bootfs"),
        ("zfs=p", Selector::Pool("p".into()), "zfs=p"),
        ("root=ZFS=a/b root=ZFS=c/d", dataset("c/d"), "root=ZFS=c/d"),
        ("zfs=off root=ZFS=a/b", dataset("a/b"), "root=ZFS=a/b"),
        ("", Selector::Auto, "default: no root= or zfs= word"),
        ("-- root=ZFS=a/b", Selector::Auto, "default: no root= or zfs= word"),
    ];
    for (line, selector, why) in cases {
        let request = parse(line.as_bytes());
        assert_eq!((&request.root.value, request.root.why.as_str()), (selector, *why), "{line}");
        assert_eq!(request.problems, [], "{line}");
    }
}

#[test]
fn roots_that_cannot_be() {
    for (line, part) in [
        ("root=/dev/nfs", "names no ZFS dataset and no block device; expected root=ZFS="),
        ("root=p/d", "expected root=ZFS="),
        ("root=ZFS=", "is empty"),
        ("root=ZFS=p//d", "is empty"),
        ("root=ZFS=p/d@", "is empty"),
        ("root=ZFS=p/d@s@t", "a second `@`"),
        ("root=/p/d", "did you mean root=ZFS=p/d?"),
        (
            "root=ZFS=/ROOT/d",
            "lacks the pool's name at its beginning (GRUB's scripts write this where grub-probe cannot read",
        ),
        ("root=ZFS=/ROOT/d", "expected root=ZFS=POOL/ROOT/d, or zfs=POOL/ROOT/d beside it"),
        ("bootfs=/ROOT/d", "lacks the pool's name"),
        ("root='ZFS=p/my", "needs double quotes"),
        ("real_root=ZFS=p//d", "is empty"),
        ("rpool=p/d", "expected rpool=pool"),
        ("zfs=p/ü", "cannot be in a name"),
        ("zfs=", "`` is not a dataset name: it is empty; expected root="),
        ("zfs=/p/d", "lacks the pool's name"),
        ("root=ZFS=p/d//", "begins or ends with `/`"),
        ("rpool=p@s", "`p@s` is a snapshot; expected rpool=pool, or zfs="),
    ] {
        let request = parse(line.as_bytes());
        let Selector::Unusable(message) = &request.root.value else { panic!("{line}: {:?}", request.root) };
        assert!(message.contains(part), "{line}: {message}");
        assert_eq!(request.problems, [Note { word: line.into(), message: message.clone() }]);
    }
    // zfs= names the root, so a foreign root= is only noted
    let request = parse(b"root=/dev/sda1 zfs=p/d");
    assert!(request.problems.is_empty());
    assert_eq!(request.notes[0].message, "zfs=p/d wins over root=");
}

#[test]
fn the_other_words() {
    let request = parse(b"ro quiet init=/a rw debug init=/sbin/x panic=5 loglevel=7 taproot.wait=90 -- single ro\n");
    assert!(!request.read_only.as_ref().unwrap().value);
    assert_eq!(request.read_only.unwrap().why, "rw");
    assert_eq!(request.init, Some(Decided::new("/sbin/x".into(), "init=/sbin/x")));
    assert_eq!(request.rescue.on_failure, Decided::new(OnFailure::Reboot(Duration::from_secs(5)), "panic=5"));
    assert_eq!(request.console_level, Some(Decided::new(7, "loglevel=7")));
    assert_eq!(request.wait, Decided::new(Duration::from_secs(90), "taproot.wait=90"));
    assert_eq!(request.degraded, Decided::new(Some(Duration::from_secs(10)), "default (10 s)"));
    assert_eq!(request.init_args, ["single", "ro"]);
    assert_eq!(request.words.len(), 9);
    assert!(request.notes.is_empty(), "{:?}", request.notes);

    assert!(parse(b"debug quiet").quiet() && !parse(b"quiet debug").quiet() && !parse(b"").quiet());
    assert!(parse(b"").console_level.is_none());
    assert_eq!(parse(b"panic=-1").rescue.on_failure.value, OnFailure::Reboot(Duration::ZERO));

    let request = parse(b"taproot.wait=soon taproot.colour=red taproot.wait init=x loglevel=a panic=b");
    let words: Vec<_> = request.notes.iter().map(|n| n.word.as_str()).collect();
    assert_eq!(words, ["taproot.wait=soon", "taproot.colour=red", "taproot.wait", "init=x", "loglevel=a", "panic=b"]);
    assert_eq!(request.wait.why, "default (30 s)");
    assert_eq!(request.init, None);
}

/// What a line sets.
type Check = fn(&Request) -> bool;

/// Our own words: a value that is understood, and what it sets.
const OWN_WORDS: &[(&str, Check)] = &[
    ("taproot.wait=forever", |r| r.wait.value == Duration::MAX),
    ("taproot.wait=5 zfs_wait=9 rootwait", |r| r.wait == Decided::new(Duration::from_secs(5), "taproot.wait=5")),
    ("taproot.degraded=no", |r| r.degraded.value.is_none()),
    ("taproot.degraded=0", |r| r.degraded.value.is_none()),
    ("taproot.degraded=now", |r| r.degraded.value == Some(Duration::ZERO)),
    ("taproot.degraded=1", |r| r.degraded.value == Some(Duration::from_secs(1))),
    ("taproot.degraded=no taproot.degraded=yes", |r| r.degraded.value == Some(Duration::from_secs(10))),
    ("taproot.degraded_wait=0", |r| r.degraded.value == Some(Duration::ZERO)),
    ("taproot.degraded-wait=7", |r| r.degraded.value == Some(Duration::from_secs(7))),
    ("taproot.hostid=strict zfs_force=1", |r| r.import.hostid_policy.value == HostidPolicy::Strict),
    ("taproot.hostid=known", |r| !r.import.hostid_policy.is_default()),
    ("taproot.hostid=0x1f spl_hostid=00bab10c", |r| r.import.hostid == Some(Decided::new(31, "taproot.hostid=0x1f"))),
    ("taproot.hostid=force taproot.hostid=0x1", |r| {
        r.import.hostid_policy.value == HostidPolicy::Force && r.import.hostid.is_some()
    }),
    ("taproot.import=ro", |r| r.import.read_only.value),
    ("taproot.import=ro taproot.import=rw", |r| !r.import.read_only.value),
    ("taproot.import_dir=/a:/b taproot.import_dir=/c", |r| r.import.dirs.len() == 3),
    ("taproot.missing_log", |r| r.import.missing_log.value),
    ("taproot.skip_pools=a,,1234", |r| r.import.skip == ["a", "1234"]),
    ("taproot.key=LABEL=STICK:/a/b taproot.key=file:///c", |r| {
        r.keys.files[0].device.as_deref() == Some("LABEL=STICK")
            && r.keys.files[0].path == "/a/b"
            && r.keys.files[1].path == "/c"
            && r.keys.files[1].device.is_none()
    }),
    ("taproot.key_wait=forever", |r| r.keys.file_wait.value == Duration::MAX),
    ("taproot.key_prompt=no", |r| !r.keys.prompt.value),
    ("taproot.key_prompt=yes taproot.rescue=reboot", |r| r.keys.prompt.value),
    ("panic=1", |r| r.keys.prompt.value && r.rescue.on_failure.value.headless()),
    ("rd.emergency=poweroff", |r| r.keys.prompt.value && r.rescue.on_failure.value.headless()),
    ("panic=1 taproot.rescue=poweroff:9", |r| !r.keys.prompt.value),
    ("taproot.rescue=reboot", |r| !r.keys.prompt.value && r.keys.prompt.why.contains("taproot.rescue=reboot")),
    ("taproot.key_tries=0", |r| r.keys.tries.value == 0),
    ("taproot.key_timeout=60", |r| r.keys.timeout.value == Some(Duration::from_secs(60))),
    ("taproot.key_timeout=0", |r| r.keys.timeout.value.is_none() && !r.keys.timeout.is_default()),
    ("taproot.mounts=children", |r| r.mounts.which.value == Which::Children),
    ("taproot.mounts=system", |r| r.mounts.which.value == Which::System),
    ("taproot.mounts=none", |r| r.mounts.which.value == Which::None),
    ("taproot.mounts=no", |r| r.mounts.which.value == Which::None),
    ("taproot.mounts=none taproot.mounts=yes", |r| r.mounts.which.value == Which::All),
    ("taproot.mounts=tank", |r| r.mounts.which.value == Which::List(vec!["tank".into()])),
    ("taproot.mounts=none taproot.mounts=all", |r| r.mounts.which.value == Which::All),
    ("taproot.mounts=\"p/a b,p/c+d\"", |r| r.mounts.which.value == Which::List(vec!["p/a b".into(), "p/c d".into()])),
    ("taproot.also=p/a taproot.also=p/b,p/c", |r| {
        r.mounts.also.iter().map(|also| also.dataset.as_str()).eq(["p/a", "p/b", "p/c"])
    }),
    ("taproot.also=p/nix=/nix,p/my+a=/a/b+c", |r| {
        let also = |dataset: &str, target: &str| Also { dataset: dataset.into(), target: Some(target.into()) };
        r.mounts.also == [also("p/nix", "/nix"), also("p/my a", "/a/b+c")]
    }),
    ("taproot.fstab=no", |r| !r.mounts.fstab.value),
    ("taproot.destroy_newer=yes", |r| r.snapshots.destroy_newer.value),
    ("taproot.clone=p/ROOT/try", |r| r.snapshots.clone.as_ref().unwrap().value == "p/ROOT/try"),
    ("taproot.resume_wait=3 resumewait", |r| r.resume.wait.value == Duration::from_secs(3)),
    ("taproot.rescue", |r| r.rescue.stops == [Decided::new(Stage::Start, "taproot.rescue")]),
    ("taproot.rescue=now", |r| r.rescue.stops.len() == 1),
    ("taproot.rescue=yes taproot.rescue=no", |r| r.rescue.stops.is_empty()),
    ("taproot.rescue=menu panic=3", |r| r.rescue.on_failure.value == OnFailure::Menu && r.keys.prompt.value),
    ("taproot.rescue=shell", |r| r.rescue.on_failure.value == OnFailure::Shell),
    ("taproot.rescue=locked rd.shell=1", |r| r.rescue.on_failure.value == OnFailure::Locked),
    ("taproot.rescue=reboot:30", |r| r.rescue.on_failure.value == OnFailure::Reboot(Duration::from_secs(30))),
    ("taproot.rescue=poweroff:0", |r| r.rescue.on_failure.value == OnFailure::PowerOff(Duration::ZERO)),
    ("taproot.attempts=9", |r| r.rescue.attempts.value == 9),
    ("taproot.break=handover,import,start rd.break=pre-mount break=top", |r| {
        let stages: Vec<_> = r.rescue.stops.iter().map(|s| s.value).collect();
        stages == [Stage::Start, Stage::Import, Stage::Mount, Stage::HandOver]
    }),
    ("taproot.break", |r| r.rescue.stops[0].value == Stage::Start),
    ("taproot.menu", |r| r.rescue.menu.as_ref().unwrap().value.is_none()),
    ("taproot.menu=1", |r| r.rescue.menu.as_ref().unwrap().value == Some(Duration::from_secs(1))),
    ("taproot.menu=yes", |r| r.rescue.menu.as_ref().unwrap().value.is_none()),
    ("taproot.menu taproot.menu=0", |r| r.rescue.menu.is_none()),
    ("taproot.fallback=p/a,p/b", |r| {
        r.fallback.iter().map(|f| f.value.clone()).eq([dataset("p/a"), dataset("p/b")].map(Fallback::Root))
            && r.fallback[0].why.ends_with("p/b")
    }),
    ("taproot.fallback=bootfs", |r| {
        r.fallback == [Decided::new(Fallback::Root(Selector::Auto), "taproot.fallback=bootfs")]
    }),
    ("taproot.fallback=ZFS=p/a,UUID=1-2,zfs:AUTO root=ZFS=q/d", |r| {
        let pool = Selector::Pool("q".into());
        let roots = [dataset("p/a"), Selector::Device("UUID=1-2".into()), pool].map(Fallback::Root);
        r.fallback.iter().map(|f| f.value.clone()).eq(roots)
    }),
    ("taproot.also_pools=a,7 taproot.also_pools=b", |r| {
        r.import.also.iter().map(|also| also.value.as_str()).eq(["a", "7", "b"])
    }),
    ("taproot.auto=expected", |r| r.import.automatic == Decided::new(Automatic::Expected, "taproot.auto=expected")),
    ("taproot.auto=expected taproot.auto=any", |r| r.import.automatic.value == Automatic::Any),
    ("taproot.layers=a:b taproot.layerdev=UUID=1 taproot.layerdir=/d/", |r| {
        r.layers.as_ref().is_some_and(|l| l.names.value == ["a", "b"] && l.device.is_some() && l.dir.value == "d")
    }),
    ("taproot.layers=a taproot.bind=/var/lib/docker", |r| r.layers.as_ref().unwrap().bind.is_some()),
    ("taproot.layers=a taproot.upper=ram taproot.upper_fallback=ro taproot.to_ram=no", |r| {
        r.layers
            .as_ref()
            .is_some_and(|l| l.to_ram.is_none() && l.fallback.value == UpperFallback::ReadOnly && !l.places)
    }),
    ("taproot.layers=a taproot.upper_reset", |r| r.layers.as_ref().is_some_and(|l| l.fresh.is_some())),
    ("taproot.layers=a taproot.upper_readonly", |r| r.layers.as_ref().is_some_and(|l| l.retained.is_some())),
    (
        "taproot.layers=a taproot.roothash=a:a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0 taproot.layerlist=l",
        |r| r.layers.as_ref().is_some_and(|l| l.integrity.roots.contains_key("a") && l.integrity.list.is_some()),
    ),
    ("taproot.layers=a taproot.layer_sums=no taproot.verity=lazy,panic", |r| {
        r.layers.as_ref().is_some_and(|l| !l.integrity.sums.value && l.integrity.lazy.value)
    }),
    ("taproot.layers=a taproot.upper-fallback=ram", |r| {
        r.layers.as_ref().is_some_and(|l| l.fallback.value == UpperFallback::Ram)
    }),
    ("taproot.log=error debug", |r| r.console_level.as_ref().unwrap().value == 4),
    ("quiet taproot.log=warn", |r| r.console_level.as_ref().unwrap().value == 5),
    ("taproot.log=info", |r| !r.quiet() && r.console_level.as_ref().unwrap().value == 7),
    ("taproot.log=debug", |r| r.console_level.as_ref().unwrap().value == 8),
];

#[test]
fn own_words() {
    for (line, check) in OWN_WORDS {
        let request = parse(line.as_bytes());
        assert!(check(&request), "{line}: {request:#?}");
        assert!(request.notes.is_empty() && request.problems.is_empty(), "{line}: {:?}", request.notes);
        assert!(request.module_options.is_empty(), "{line}");
    }
    for known in known::KNOWN.iter().filter(|known| known.word.starts_with("taproot.")) {
        assert!(OWN_WORDS.iter().any(|(line, _)| line.contains(known.word)), "{} has no case", known.word);
    }
    assert_eq!(parse(b"taproot.wait=99999999999999999999").wait.value, Duration::from_secs(1_000_000_000));
}

/// Words that make no sense, and a part of what is said of each.
const SLIPS: &[(&str, &str)] = &[
    ("taproot.wait=1m", "expected taproot.wait=SECONDS|forever; ignored"),
    ("taproot.wait", "expected taproot.wait=SECONDS"),
    ("taproot.degraded=later", "SECONDS|now|no"),
    ("taproot.hostid=maybe", "strict|known|force|0xHEX"),
    ("taproot.import=yes", "ro|rw"),
    ("taproot.import_dir=disk", "expected taproot.import_dir=/DIR"),
    ("taproot.key=secret", "[DEVICE:]/PATH"),
    ("taproot.key=https://host/key", "[DEVICE:]/PATH"),
    ("taproot.skip_pools=a*", "'*' cannot be in a name; left out"),
    ("taproot.mounts=p//a", "is empty"),
    ("taproot.also=p/a=nix", "`nix` is not where a dataset can be mounted; expected p/a=/path; left out"),
    ("taproot.also=p/a=/", "`/` is not where"),
    ("taproot.also=p/a=/x/../y", "expected p/a=/path"),
    ("taproot.also=p//a=/x", "is empty"),
    ("taproot.fallback=p/a@s", "names a snapshot; expected a dataset, such as `p/a`; left out"),
    ("taproot.clone=try", "POOL/DATASET"),
    ("taproot.rescue=menu:5", "menu|shell"),
    ("taproot.rescue=reboot:soon", "reboot[:SECONDS]"),
    ("taproot.break=late", "no stage is called late; known: start, import"),
    ("rd.break=premount", "known: cmdline"),
    ("taproot.menu=long", "SECONDS|yes|no"),
    ("taproot.log=all", "error|warn|info|debug"),
    ("taproot.wiat=5", "unknown, ignored; did you mean taproot.wait?"),
    ("taproot.key_promt=no", "did you mean taproot.key_prompt?"),
    ("taproot.degraded_wiat=5", "did you mean taproot.degraded_wait?"),
    ("taproot.colour=red", "unknown, ignored; "),
    ("taproot.", "unknown"),
    ("zfs_force=maybe", "expected yes or no"),
    ("rollback=2", "expected yes or no"),
    ("bootfs.snapshot=a/b", "holds a `/`"),
    ("rd.emergency=shout", "reboot|poweroff|halt"),
    ("rd.emergency", "reboot|poweroff|halt"),
    ("resume_offset=4k", "=NUMBER"),
    ("zfs_wait", "=SECONDS"),
    ("taproot.Wait=5", "did you mean taproot.wait?"),
    ("taproot.mounts=children,p/a", "all|children|system|none|DATASET,...; ignored"),
    ("taproot.mounts=child", "ignored; did you mean taproot.mounts=children?"),
    ("taproot.mounts=root", "ignored; did you mean taproot.mounts=none?"),
    ("taproot.mounts=Sys,p/a", "did you mean taproot.mounts=system?"),
    ("taproot.mounts=ALL", "all|children|system|none|DATASET,...; ignored"),
    ("taprot.wait=5", "unknown, ignored; did you mean taproot.wait?"),
    ("Taproot.wait=5", "did you mean taproot.wait?"),
    ("taproot_wait=5", "did you mean taproot.wait?"),
    (
        "'taproot.wait=5'",
        "single quotes mean nothing on a kernel command line; unknown, ignored; did you mean taproot.wait?",
    ),
    ("'root=ZFS=p/d'", "single quotes mean nothing on a kernel command line; unknown, ignored; did you mean root=?"),
    ("'panic=5'", "did you mean panic?"),
    ("ROOT=ZFS=p/d", "unknown, ignored; did you mean root=?"),
    ("ZFS=p/d", "did you mean zfs=?"),
    ("Real_Root=ZFS=p/d", "did you mean real_root=?"),
    ("zfs:p/D", "did you mean root=zfs:p/D?"),
    ("rootfs=zfs:p/d@s", "nothing reads rootfs=, ignored; did you mean root=ZFS=p/d@s?"),
    ("rootdev=ZFS=p", "did you mean root=ZFS=p?"),
    ("init=/linuxrc", "a program of the initramfs"),
    ("dozfs=always", "expected dozfs[=force|cache,...]"),
];

#[test]
fn words_that_make_no_sense_change_nothing_and_are_reported() {
    for (line, part) in SLIPS {
        let request = parse(line.as_bytes());
        let [note] = request.notes.as_slice() else { panic!("{line}: {:?}", request.notes) };
        assert_eq!(note.word, *line);
        assert!(note.message.contains(part), "{line}: {}", note.message);
        let mut bare = parse(b"");
        bare.words.clone_from(&request.words);
        bare.notes.clone_from(&request.notes);
        assert_eq!(request, bare, "{line}");
    }
}

#[test]
fn a_resume_device_is_kept_whatever_it_looks_like() {
    let request = parse(b"resume=/swapfile resume=swap:/dev/sda1");
    assert_eq!(request.resume.device.unwrap().value, "swap:/dev/sda1");
    assert_eq!(request.notes.len(), 2);
    assert!(parse(b"resume=/dev/sda1 resume=").resume.device.is_none());
}

#[test]
fn the_module_is_not_told_another_hostid_than_was_decided() {
    let request = parse(b"spl.spl_hostid=0x1 taproot.hostid=0x2");
    assert_eq!(request.import.hostid.unwrap().value, 2);
    assert!(request.module_options.is_empty());
    assert_eq!(request.notes[0].word, "spl.spl_hostid=0x1");
    let request = parse(b"spl.spl_hostid=0x2 spl_hostid=00000002 spl.spl_x=1");
    assert_eq!(request.module_options.len(), 2);
    let request = parse(b"spl.spl_hostid=00bab10c");
    assert!(request.problems[0].message.contains("spl.spl_hostid=0x00bab10c would do"), "{:?}", request.problems);
}

#[test]
fn modules() {
    let request = parse(
        b"zfs.zfs_arc_max=1 snd-hda-intel.model=\"a b\" spl.x modprobe.blacklist=a-b,,c module_blacklist=d .x y. root.z=1",
    );
    let rendered: Vec<_> = request.module_options.iter().map(|o| format!("{} {}", o.module, o.render())).collect();
    assert_eq!(rendered, ["zfs zfs_arc_max=1", "snd_hda_intel model=\"a b\"", "spl x", "root z=1"]);
    assert_eq!(request.module_blacklist, ["a_b", "c", "d"]);
    assert!(parse(b"-- zfs.x=1").module_options.is_empty());
}

proptest! {
    #[test]
    fn total(line: Vec<u8>) {
        let request = parse(&line);
        prop_assert!(request.words.len() + request.init_args.len() <= line.len());
    }

    #[test]
    fn words_hold_every_byte_but_the_space(line in "[a\"= \t.-]{0,40}") {
        let words = tokenize(line.as_bytes());
        let joined: String = words.iter().map(|w| w.text.as_str()).collect();
        let bare = |s: &str| s.replace([' ', '\t'], "");
        prop_assert_eq!(bare(&joined), bare(&line));
        for word in words {
            prop_assert!(!word.text.is_empty());
        }
    }

    #[test]
    fn the_last_root_decides(roots in proptest::collection::vec("(root=ZFS=[a-c]/[a-c]|root=zfs)", 1..5)) {
        let request = parse(roots.join(" ").as_bytes());
        prop_assert_eq!(&request.root.why, roots.last().unwrap());
    }
}

#[test]
fn a_part_that_makes_no_sense_is_left_out_and_the_rest_is_taken() {
    let request = parse(b"zfs_import_dir=/a:b taproot.break=foo,mount quiet=1");
    let notes: Vec<_> = request.notes.iter().map(|n| n.message.as_str()).collect();
    assert_eq!(notes[0], "`b` is not an absolute path; left out");
    assert!(notes[1].ends_with("known: start, import, mount, handover; left out"), "{notes:?}");
    assert_eq!((notes.len(), request.import.dirs.len(), request.rescue.stops.len()), (2, 1, 1));
    assert!(request.quiet(), "the kernel takes the word with any value");
    // Nothing that is near to a word of ours.
    let request = parse(b"taproot-test.report taproot=1 tap.wait=5 TERM=linux zfs.zfs_arc_max=1 'x'");
    assert!(request.notes.is_empty(), "{:?}", request.notes);
}

#[test]
fn a_resume_device_at_which_the_boot_stops_is_told_of() {
    for line in ["resume=sda2", "resume=UUID=", "resume=/dev/zvol/p/swap"] {
        let request = parse(line.as_bytes());
        assert!(request.notes[0].message.ends_with("the boot stops at it"), "{line}: {:?}", request.notes);
    }
    assert!(parse(b"resume=/dev/sda2 resume=").notes.is_empty());
    for line in [
        "resume=/dev/mapper/vg-swap",
        "resume=/dev/vg/swap",
        "resume=/dev/dm-3",
        "resume=/dev/md/0",
        "resume=/dev/md127",
    ] {
        let request = parse(line.as_bytes());
        assert!(request.notes[0].message.contains("neither LUKS nor LVM"), "{line}: {:?}", request.notes);
    }
    for device in [
        "/dev/disk/by-id/ata-x-part2",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part2",
        "/dev/cciss/c0d0p2",
        "PARTLABEL=swap",
    ] {
        let request = parse(format!("resume={device}").as_bytes());
        assert!(request.notes.is_empty() && request.resume.device.unwrap().value == device, "{device}");
    }
    for none in ["none", "no", "off", "0"] {
        let request = parse(format!("resume=/dev/sda2 resume={none}").as_bytes());
        assert!(
            request.resume.device.is_none() && request.resume.disabled.is_none() && request.notes.is_empty(),
            "{none}"
        );
    }
}
