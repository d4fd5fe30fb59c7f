use proptest::prelude::*;

use super::*;

fn split(line: &str) -> Vec<(String, Option<String>)> {
    tokenize(line.as_bytes()).into_iter().map(|w| (w.key, w.value)).collect()
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
        ("root=UUID=1234", "names no ZFS dataset; expected root=ZFS="),
        ("root=/dev/sda1", "root=/dev/sda1"),
        ("root=p/d", "expected root=ZFS="),
        ("root=", "names no ZFS dataset"),
        ("root=ZFS=", "is empty"),
        ("root=ZFS=p//d", "is empty"),
        ("root=ZFS=p/d@s", "snapshot"),
        ("zfs=p/ü", "cannot be in a name"),
        ("zfs=", "is empty"),
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

    assert!(parse(b"debug quiet").quiet() && !parse(b"quiet debug").quiet() && parse(b"quiet debug").debug());
    assert!(!parse(b"").quiet() && !parse(b"").debug());
    assert_eq!(parse(b"panic=-1").rescue.on_failure.value, OnFailure::Reboot(Duration::ZERO));

    let request = parse(b"taproot.wait=soon taproot.colour=red taproot.wait init=x loglevel=a panic=b");
    let words: Vec<_> = request.notes.iter().map(|n| n.word.as_str()).collect();
    assert_eq!(words, ["taproot.wait=soon", "taproot.colour=red", "taproot.wait", "init=x", "loglevel=a", "panic=b"]);
    assert_eq!(request.wait.why, "default (30 s)");
    assert_eq!(request.init, None);
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
