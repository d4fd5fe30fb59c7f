use super::*;
use crate::made::tar::{Made, archive};
use crate::tar::{Archive, Entry, Kind, TarError, write};
use std::collections::BTreeMap;

fn text(path: &str, content: &str) -> Made {
    Made::file(path, content)
}

fn link(path: &str, target: &str) -> Made {
    Made { target: target.into(), mode: 0o777, ..Made::new(path, b'2') }
}

fn hard(path: &str, target: &str) -> Made {
    Made { target: target.into(), ..Made::new(path, b'1') }
}

fn dir(path: &str) -> Made {
    Made::new(path, b'5')
}

/// What came out: by path, with its content.
type Tree = BTreeMap<String, (Entry, Vec<u8>)>;

fn edited(entries: &[Made], edits: Edits) -> Result<(Tree, Report, Vec<u8>), TarError> {
    let bytes = archive(entries);
    let mut edited = Edited::new(Archive::new(bytes.as_slice()), edits);
    let mut out = Vec::new();
    write::archive(&mut edited, &mut out)?;
    let (report, _) = edited.finish();
    let mut tree = Tree::new();
    let mut read = Archive::new(out.as_slice());
    while let Some(entry) = read.next_entry()? {
        let mut content = vec![0; usize::try_from(write::stored(&entry)).unwrap()];
        read.read(&mut content)?;
        let path = String::from_utf8(entry.path.clone()).unwrap().trim_end_matches('/').to_owned();
        let again = entry.kind != Kind::Directory && tree.contains_key(&path);
        assert!(!again, "{path} is there twice");
        tree.insert(path, (entry, content));
    }
    Ok((tree, report, out))
}

fn said(entries: &[Made], edits: Edits) -> String {
    edited(entries, edits).unwrap_err().to_string()
}

fn content(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.get(path).unwrap_or_else(|| panic!("{path} is not there: {:?}", tree.keys())).1.clone())
        .unwrap()
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n";
const SHADOW: &str = "root:$6$x$y:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n";

fn system() -> Vec<Made> {
    vec![
        dir("./"),
        dir("./etc"),
        text("./etc/group", "root:x:0:\nvideo:x:44:\n"),
        text("./etc/gshadow", "root:*::\nvideo:*::\n"),
        text("./etc/hostname", "builder\n"),
        text("./etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tbuilder\n"),
        text("./etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        text("./etc/passwd", PASSWD),
        Made { mode: 0o640, owner: (0, 42), ..text("./etc/shadow", SHADOW) },
        dir("./etc/skel"),
        text("./etc/skel/.bashrc", "# shell\n"),
        dir("./etc/ssh"),
        text("./etc/ssh/ssh_host_rsa_key", "secret"),
        text("./etc/ssh/sshd_config", "x"),
        dir("./home"),
        dir("./usr"),
        dir("./usr/bin"),
        text("./usr/bin/sudo", "x"),
        dir("./usr/share"),
        dir("./usr/share/zoneinfo"),
        text("./usr/share/zoneinfo/UTC", "TZif"),
        dir("./var"),
        dir("./var/log"),
        dir("./var/log/apt"),
        text("./var/log/apt/term.log", "x"),
        text("./var/log/syslog", "x"),
    ]
}

fn with(more: &[Made]) -> Vec<Made> {
    [system(), more.to_vec()].concat()
}

#[test]
fn identity_is_left_out_and_told() {
    let (tree, report, _) = edited(&system(), Edits::default()).unwrap();
    assert_eq!(content(&tree, "etc/machine-id"), "");
    assert_eq!(tree["etc/machine-id"].0.mode, 0o444);
    assert_eq!(content(&tree, "etc/hostname"), "localhost\n");
    assert_eq!(content(&tree, "etc/hosts"), "127.0.0.1\tlocalhost\n");
    for gone in ["etc/ssh/ssh_host_rsa_key", "var/log/syslog", "var/log/apt/term.log"] {
        assert!(!tree.contains_key(gone), "{gone}");
    }
    assert!(tree.contains_key("var/log/apt") && tree.contains_key("etc/ssh/sshd_config"));
    assert_eq!(report.removed["var/log"], ("log".to_owned(), 2));
    assert_eq!(report.removed["etc/ssh/ssh_host_rsa_key"].1, 1);
    assert!(report.kept.iter().any(|kept| kept.what == "the password of root"), "{report}");
    let shown = report.to_string();
    assert!(
        shown.contains("left out  /var/log (log, 2 entries)") && shown.contains("etc/machine-id (emptied"),
        "{shown}"
    );
    assert!(serde_json::to_string(&report).unwrap().contains("\"etc/ssh/ssh_host_rsa_key\""));
    assert_eq!(report.entries, tree.len() as u64);
    // What was kept aside is the same but for its place in the stream.
    assert_eq!((tree["etc/shadow"].0.mode, tree["etc/shadow"].0.gid), (0o640, 42));
    assert_eq!(content(&tree, "etc/shadow"), SHADOW);
}

#[test]
fn a_machine_that_is_to_stay_itself() {
    let (tree, report, _) = edited(&system(), Edits { identity: Identity::Keep, ..Edits::default() }).unwrap();
    let before = system();
    for made in &before {
        let path = String::from_utf8(made.path.clone()).unwrap();
        let path = if path == "./" { "." } else { path.trim_start_matches("./").trim_end_matches('/') };
        assert_eq!(tree[path].1, made.content, "{path}");
    }
    assert_eq!((tree.len(), report.removed.len()), (before.len(), 0));
}

#[test]
fn scaffolding_goes() {
    let entries = with(&[
        dir("./usr/sbin"),
        text("./usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"),
        text("./usr/sbin/start-stop-daemon", "#!/bin/sh\nexit 0\n"),
        text("./usr/sbin/start-stop-daemon.REAL", "ELF"),
        text("./usr/sbin/invoke-rc.d", "#!/bin/sh\n# the real one\n"),
        text("./etc/resolv.conf", "nameserver 10.0.0.1\n"),
        dir("./etc/apt"),
        dir("./etc/apt/apt.conf.d"),
        text("./etc/apt/apt.conf.d/99proxy", "Acquire::http::Proxy \"http://10.0.0.1:3142\";\nAPT::X \"1\";\n"),
        text("./etc/apt/apt.conf.d/98nested", "Acquire { http { Proxy \"http://10.0.0.1\"; }; };\n"),
        text(
            "./etc/apt/sources.list",
            "deb [trusted=yes] http://localhost:3142/debian bookworm main\ndeb http://deb.example.org/debian bookworm main\n",
        ),
        dir("./etc/apt/sources.list.d"),
        text(
            "./etc/apt/sources.list.d/a.sources",
            "Types: deb\nURIs: file:/srv/mirror\nSuites: x\n\nTypes: deb\nURIs: http://deb.example.org/debian\nSuites: y\n",
        ),
        dir("./var/lib"),
        dir("./var/lib/dpkg"),
        text(
            "./var/lib/dpkg/diversions",
            "/sbin/start-stop-daemon\n/sbin/start-stop-daemon.REAL\n:\n/usr/bin/a\n/usr/bin/a.distrib\nb\n",
        ),
    ]);
    let (tree, report, _) = edited(&entries, Edits::default()).unwrap();
    assert!(!tree.contains_key("usr/sbin/policy-rc.d") && !tree.contains_key("etc/resolv.conf"));
    assert!(!tree.contains_key("usr/sbin/start-stop-daemon.REAL"));
    assert_eq!(content(&tree, "usr/sbin/start-stop-daemon"), "ELF");
    assert_eq!(content(&tree, "usr/sbin/invoke-rc.d"), "#!/bin/sh\n# the real one\n");
    assert_eq!(content(&tree, "var/lib/dpkg/diversions"), "/usr/bin/a\n/usr/bin/a.distrib\nb\n");
    let mark = "# taproot: of the machine that made this image: ";
    assert_eq!(
        content(&tree, "etc/apt/apt.conf.d/99proxy"),
        format!("{mark}Acquire::http::Proxy \"http://10.0.0.1:3142\";\nAPT::X \"1\";\n")
    );
    assert!(report.kept.iter().any(|kept| kept.path == "etc/apt/apt.conf.d/98nested"), "{report}");
    let list = content(&tree, "etc/apt/sources.list");
    assert!(list.starts_with(mark) && list.ends_with("\ndeb http://deb.example.org/debian bookworm main\n"), "{list}");
    let sources = content(&tree, "etc/apt/sources.list.d/a.sources");
    assert_eq!(
        sources,
        "Enabled: no\nTypes: deb\nURIs: file:/srv/mirror\nSuites: x\n\nTypes: deb\nURIs: http://deb.example.org/debian\nSuites: y\n"
    );
    // The real program may come first, as in an archive that is not sorted.
    let (mut unsorted, count) = (entries.clone(), entries.len());
    unsorted.swap(system().len() + 2, system().len() + 3);
    assert_eq!(content(&edited(&unsorted, Edits::default()).unwrap().0, "usr/sbin/start-stop-daemon"), "ELF");
    assert_eq!(unsorted.len(), count);
}

#[test]
fn disks_of_the_machine_that_made_it() {
    let entries = with(&[
        text("./etc/fstab", "# table\nUUID=1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\n"),
        text("./etc/crypttab", "c UUID=2 none luks\n"),
        dir("./etc/default"),
        text(
            "./etc/default/grub",
            "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet root=UUID=1 resume=/dev/sda2\"\n",
        ),
        dir("./etc/kernel"),
        text("./etc/kernel/cmdline", "root=UUID=1 ro console=tty0\n"),
        dir("./boot"),
        dir("./boot/grub"),
        text("./boot/grub/grub.cfg", "x"),
    ]);
    let lines = vec!["UUID=AB-CD /boot/efi vfat umask=0077 0 1".to_owned()];
    let (tree, ..) = edited(&entries, Edits { fstab: Some(lines), ..Edits::default() }).unwrap();
    let mark = "# taproot: of the machine that made this image: ";
    assert_eq!(
        content(&tree, "etc/fstab"),
        format!(
            "# table\n{mark}UUID=1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\nUUID=AB-CD /boot/efi vfat umask=0077 0 1\n"
        )
    );
    assert_eq!(content(&tree, "etc/crypttab"), format!("{mark}c UUID=2 none luks\n"));
    assert_eq!(content(&tree, "etc/default/grub"), "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
    assert_eq!(content(&tree, "etc/kernel/cmdline"), "ro console=tty0\n");
    assert!(!tree.contains_key("boot/grub/grub.cfg"));
    let (tree, ..) = edited(&entries, Edits::default()).unwrap();
    assert!(content(&tree, "etc/fstab").contains("\nUUID=1 / ext4"), "a table that nobody asked to change");
}

fn somebody() -> User {
    User {
        name: "ann".into(),
        groups: vec!["video".into()],
        sudo: true,
        password: Password::Hash("$6$s$h".into()),
        ssh_keys: vec!["ssh-ed25519 AAAAC3Nz ann".into()],
        ..User::default()
    }
}

#[test]
fn accounts_are_made() {
    let edits = Edits {
        users: vec![somebody()],
        root_password: Password::Locked,
        ssh_keys: vec!["ssh-ed25519 AAAAroot r".into()],
        time: 86_400 * 20_000,
        ..Edits::default()
    };
    let (tree, report, _) = edited(&system(), edits.clone()).unwrap();
    assert_eq!(content(&tree, "etc/passwd"), format!("{PASSWD}ann:x:1000:1000::/home/ann:/bin/bash\n"));
    assert_eq!(content(&tree, "etc/group"), "root:x:0:\nvideo:x:44:ann\nann:x:1000:\n");
    assert_eq!(content(&tree, "etc/gshadow"), "root:*::\nvideo:*::ann\nann:!::\n");
    let shadow = content(&tree, "etc/shadow");
    assert_eq!(shadow, "root:!*:20000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\nann:$6$s$h:20000:0:99999:7:::\n");
    let of = |path: &str| (tree[path].0.mode, tree[path].0.uid, tree[path].0.gid);
    assert_eq!((of("home/ann"), of("home/ann/.bashrc")), ((0o700, 1000, 1000), (0o644, 1000, 1000)));
    assert_eq!((of("home/ann/.ssh"), of("home/ann/.ssh/authorized_keys")), ((0o700, 1000, 1000), (0o600, 1000, 1000)));
    assert_eq!(content(&tree, "root/.ssh/authorized_keys"), "ssh-ed25519 AAAAroot r\n");
    assert_eq!(of("etc/sudoers.d/ann"), (0o440, 0, 0));
    assert_eq!(content(&tree, "etc/sudoers.d/ann"), "ann ALL=(ALL:ALL) ALL\n");
    assert!(report.kept.iter().any(|kept| kept.what == "the password of ann"), "{report}");
    assert!(!report.to_string().contains("$6$"), "hashes are nobody's business");
    for (wrong, expected) in [
        (User { groups: vec!["none".into()], ..somebody() }, "no group \"none\""),
        (User { name: "Ann Lee".into(), ..somebody() }, "small letters"),
        (User { uid: Some(65_534), ..somebody() }, "65534 is taken"),
        (User { ssh_keys: vec!["-----BEGIN OPENSSH PRIVATE KEY".into()], ..somebody() }, "public ssh key"),
        (User { password: Password::Hash("a:b".into()), ..somebody() }, "colon"),
    ] {
        let said = said(&system(), Edits { users: vec![wrong], ..edits.clone() });
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn root_without_a_password_is_refused() {
    let mut open = system();
    for made in &mut open {
        if made.path == b"./etc/shadow" {
            made.content = b"root::19000:0:99999:7:::\n".to_vec();
        }
    }
    assert!(said(&open, Edits::default()).contains("--set system.allow-empty-root=true"));
    assert!(
        said(&system(), Edits { root_password: Password::Empty, ..Edits::default() })
            .contains("--set system.allow-empty-root=true")
    );
    assert!(edited(&open, Edits { root_password: Password::Locked, ..Edits::default() }).is_ok());
    let (_, report, _) = edited(&open, Edits { allow_empty_root: true, ..Edits::default() }).unwrap();
    assert!(report.kept.iter().any(|kept| kept.what.contains("open to whoever comes")));
}

#[test]
fn settings_are_written() {
    let edits = Edits {
        hostname: Some("box.example.org".into()),
        hostid: Some(0x0102_0304),
        timezone: Some("UTC".into()),
        locales: vec!["en_US.UTF-8 UTF-8".into(), "de_DE.UTF-8 UTF-8".into()],
        keymap: Some("de-latin1".into()),
        ..Edits::default()
    };
    let entries = with(&[
        text("./etc/locale.gen", "# de_DE.UTF-8 UTF-8\nfr_FR.UTF-8 UTF-8\n"),
        text("./etc/debian_version", "12\n"),
        text("./etc/timezone", "x\n"),
    ]);
    let (tree, report, _) = edited(&entries, edits.clone()).unwrap();
    assert_eq!(content(&tree, "etc/hostname"), "box.example.org\n");
    assert_eq!(content(&tree, "etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tbox.example.org box\n");
    assert_eq!(tree["etc/hostid"].1, [4, 3, 2, 1]);
    assert_eq!(tree["etc/localtime"].0.target, b"/usr/share/zoneinfo/UTC");
    assert_eq!(content(&tree, "etc/timezone"), "UTC\n");
    assert_eq!(content(&tree, "etc/locale.gen"), "de_DE.UTF-8 UTF-8\n# fr_FR.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n");
    assert_eq!(
        (content(&tree, "etc/locale.conf"), content(&tree, "etc/default/locale")),
        ("LANG=en_US.UTF-8\n".into(), "LANG=en_US.UTF-8\n".into())
    );
    assert_eq!(content(&tree, "etc/vconsole.conf"), "KEYMAP=de-latin1\n");
    assert!(report.notes.iter().any(|note| note.contains("locale-gen")), "{report}");
    assert!(said(&entries, Edits { timezone: Some("Mars/Base".into()), ..edits }).contains("Mars/Base"));
}

#[test]
fn things_are_added_in_the_place_of_others() {
    let entries = with(&[link("./lib", "usr/lib"), text("./etc/motd", "old"), hard("./etc/motd2", "./usr/bin/sudo")]);
    let add = vec![
        Added::file("etc/motd", "new"),
        Added::link("usr/lib/a/b", "../c"),
        Added { mode: 0o755, ..Added::file("usr/bin/x", "#!") },
    ];
    let (tree, report, _) = edited(&entries, Edits { add, ..Edits::default() }).unwrap();
    assert_eq!(content(&tree, "etc/motd"), "new");
    assert_eq!(tree["usr/lib/a/b"].0.target, b"../c");
    assert_eq!((tree["usr/lib/a"].0.kind, tree["usr/lib/a"].0.mode), (Kind::Directory, 0o755));
    assert_eq!(tree["etc/motd2"].0.target, b"usr/bin/sudo");
    assert!(report.added.iter().any(|added| added.path == "usr/bin/x"));
    let behind = Edits { add: vec![Added::file("lib/x", "")], ..Edits::default() };
    assert!(said(&entries, behind).contains("is a link"));
}

#[test]
fn what_is_no_archive_of_a_system() {
    for (entry, expected) in [
        (text("/etc/x", ""), "begins with /"),
        (text("./etc/../../x", ""), "leads out"),
        (text(&format!("./etc/{}", "x".repeat(256)), ""), "255 bytes"),
        (text(&"d/".repeat(2100), ""), "4095 bytes"),
        (text("./etc/hostname", ""), "there twice"),
        (text("./usr/bin/sudo", ""), "there twice"),
        (text("./usr/bin/sudo/x", ""), "no directory"),
        (hard("./x", "./later"), "not there before it"),
        (hard("./x", "/usr/bin/sudo"), "begins with /"),
        (hard("./x", "./etc"), "a directory"),
        (hard("./x", "./var/log/syslog"), "left out"),
    ] {
        let said = said(&with(std::slice::from_ref(&entry)), Edits::default());
        assert!(said.contains(expected), "{:?}: {said}", String::from_utf8_lossy(&entry.path));
    }
    let behind = with(&[link("./lib", "usr"), text("./lib/x", "")]);
    assert!(said(&behind, Edits::default()).contains("behind a symbolic link"));
    // Directories may come again, as tar(1) writes them when it is given several.
    assert!(edited(&with(&[dir("./etc")]), Edits::default()).is_ok());
    let whole = archive(&system());
    let mut cut = Edited::new(Archive::new(&whole[..whole.len() / 2]), Edits::default());
    assert!(matches!(write::archive(&mut cut, &mut Vec::new()), Err(TarError::Cut { .. })));
}

#[test]
fn other_names_of_what_is_kept_aside_come_after_it() {
    let (tree, _, out) = edited(&with(&[hard("./etc/hosts2", "./etc/hosts")]), Edits::default()).unwrap();
    assert_eq!(
        (tree["etc/hosts2"].0.kind, tree["etc/hosts2"].0.target.as_slice()),
        (Kind::HardLink, &b"etc/hosts"[..])
    );
    let at = |name: &[u8]| out.windows(name.len()).position(|window| window == name).unwrap();
    assert!(at(b"etc/hosts2\0") > at(b"etc/hosts\0"));
}
