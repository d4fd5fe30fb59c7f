use super::*;
use crate::image::config::{Config, Source, hooks::Hook, words::Words};
use std::fs;
use std::path::Path;

fn loaded(converted: &Converted) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    fs::write(&path, &converted.toml).unwrap();
    Config::load(&[path], std::iter::empty(), &[], 1_700_000_000).unwrap()
}

#[test]
fn what_paczfs_does_by_itself() {
    let converted = convert("# nothing\n").unwrap();
    let config = loaded(&converted);
    let plan = config.plan(&Words { time: 5, ..Words::default() }).unwrap();
    assert_eq!(plan.outputs[0].path, Path::new("./paczfs-5.img"));
    assert_eq!((plan.disk.size, plan.disk.swap, plan.disk.esp), (Some(20 << 30), 4 << 30, 550 << 20));
    let sets: Vec<(&str, Option<&str>, Option<&str>)> = plan
        .pool
        .datasets
        .iter()
        .map(|set| (set.name.as_str(), set.tree.as_deref(), set.clone_of.as_deref()))
        .collect();
    let clone = |of| Some(of);
    let wanted = [
        ("", None, None),
        ("system", None, None),
        ("system/default", Some("/"), None),
        ("data", None, None),
        ("data/root", Some("/root"), None),
        ("data/home", Some("/home"), None),
        ("data/srv", Some("/srv"), None),
        ("data/machines", Some("/var/lib/machines"), None),
        ("data/postgres", Some("/var/lib/postgres"), None),
        ("data/machines/miniroot", None, clone("system/default@miniroot")),
        ("system/bootable", None, clone("system/default@bootable")),
        ("system/workstation", None, clone("system/default@workstation")),
    ];
    assert_eq!(sets, wanted);
    assert_eq!(plan.pool.bootfs.as_deref(), Some("system/default"));
    let (last, everywhere) = plan.pool.snapshot.unwrap();
    assert_eq!((last.name.as_str(), last.holds, everywhere), ("workstation", vec![HOLD.to_owned()], true));
    let Source::Pacstrap(asked) = config.source().unwrap() else { panic!() };
    assert_eq!((asked.packages.len(), asked.exclude.as_slice()), (0, &["linux".to_owned()][..]));
    let states: Vec<(String, usize, bool)> =
        config.states().into_iter().map(|state| (state.name, state.packages.len(), state.everywhere)).collect();
    let wanted = [("miniroot", 1), ("bootable", 6 - 1), ("workstation", 15)];
    assert_eq!(states, wanted.map(|(name, count)| (name.to_owned(), count, true)));
    let edits = config.edits().unwrap();
    assert_eq!((edits.locales.as_slice(), edits.allow_empty_root), (&["en_US.UTF-8 UTF-8".to_owned()][..], true));
}

const SAMPLE: &str = r#"#!/bin/bash
CONFIG_VERSION='v0.0.1'
SUFFIX='$( date +%s )'
POOL_NAME=tank      # the pool
IMAGE_FILE='./${POOL_NAME}-${SUFFIX}.img'
export QCOW2_FILE='box-${SUFFIX}.qcow2'
CACHE_PATH='server:/var/cache'
LOCALES=('de_DE.UTF-8 UTF-8'
         "en_US.UTF-8 UTF-8")   # two
declare -a WORKSTATION_PKGS=()
BOOTABLE_PKGS=( linux-lts zfs-linux-lts grub-efi-$(uname -m) )

copy-ssh-keys() {
    # a brace } in a comment, and in 'quotes }'
    cp ~/.ssh/id.pub "${CHROOT_PATH}/root/.ssh/authorized_keys"
}
set-locale() { echo LANG=C >"$CHROOT_PATH/etc/locale.conf"; handled=true; }
function prepare-users {
    if true; then { echo hi; } fi
    handled=true
}
finalize-image () { zpool set bootfs=x ${POOL_NAME}; add-tear-down x; }
"#;

#[test]
fn a_configuration_with_everything() {
    let converted = convert(SAMPLE).unwrap();
    let config = loaded(&converted);
    let plan = config.plan(&Words { name: "tank".into(), time: 5, ..Words::default() }).unwrap();
    let paths: Vec<&Path> = plan.outputs.iter().map(|output| output.path.as_path()).collect();
    assert_eq!(paths, [Path::new("./tank-5.img"), Path::new("box-5.qcow2")]);
    assert_eq!(plan.pool.name, "tank");
    let Source::Pacstrap(asked) = config.source().unwrap() else { panic!() };
    let packages: Vec<Vec<String>> = config.states().into_iter().map(|state| state.packages).collect();
    assert_eq!(packages, [vec!["base"], vec!["linux-lts", "zfs-linux-lts"], Vec::new()]);
    assert_eq!(asked.cache.as_deref(), Some("server:/var/cache"));
    assert_eq!(config.edits().unwrap().locales.len(), 0, "set-locale is in its place");
    assert!(converted.toml.contains("locales = []"));
    let files: Vec<&str> = converted.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(files, ["set-locale.sh", "copy-ssh-keys.sh", "prepare-users.sh", "finalize-image.sh"]);
    assert!(converted.files[1].1.contains("'quotes }'\n    cp ~/.ssh/id.pub"));
    assert!(converted.files[2].1.contains("{ echo hi; } fi"));
    assert!(converted.files[3].1.contains("[ \"$TAPROOT_STATE\" = workstation ] || exit 0"));
    let hooks = config.hooks();
    assert_eq!(
        hooks.0.iter().map(|(name, list)| (name.as_str(), list.len())).collect::<Vec<_>>(),
        [("install.after", 4)]
    );
    // What stands in one file says the same.
    let whole = loaded(&Converted { toml: converted.whole.clone(), ..Converted::default() });
    let inline = whole.hooks().0.remove("install.after").unwrap();
    assert_eq!(inline.len(), 4);
    for (hook, (_, text)) in inline.iter().zip(&converted.files) {
        assert_eq!(hook, &Hook::Inline { text: text.clone(), interpreter: "/bin/bash".into() });
    }
    let notes = converted.notes.join("\n");
    for said in [
        "WORKSTATION_PKGS=() means none now",
        "grub-efi-*",
        "handled=true",
        "finalize-image: calls zpool",
        "add-tear-down",
        "has no locales of its own",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    // Each file is a script that bash takes.
    for (name, text) in &converted.files {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        let checked = std::process::Command::new("bash").arg("-n").arg(dir.path().join(name)).status();
        assert!(checked.unwrap().success(), "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_line() {
    for (text, line, why) in [
        ("IMAGE_FILE=\"paczfs-${SUFFIX}.img\"\n", 1, "single quotes"),
        ("\nmodprobe zfs\n", 2, "it would have been run"),
        ("POOL_NAME=(a b)\n", 1, "expected one text"),
        ("LOCALES=x\n", 1, "a list in parentheses"),
        ("FOO=1\n", 1, "none of paczfs' own variables"),
        ("QCOW_FILE=x.qcow\n", 1, "QCOW2_FILE"),
        ("IMAGE_FILE='$HOME/x'\n", 1, "${HOME} cannot be known"),
        ("IMAGE_SIZE=$(cat size)\n", 1, "cannot be known"),
        ("helper() { :; }\n", 1, "none of paczfs' hooks"),
        ("\nprepare-zfs-pool() { handled=true; }\n", 2, "no hook takes that place"),
        ("a=1 b=2\n", 1, "expected the line to end"),
        ("LOCALES=(\n'a'\n", 1, "expected )"),
        ("IMAGE_FILE='x\n", 1, "expected '"),
        ("clean-up() {\n echo '}'\n", 1, "expected }"),
        ("if true; then :; fi\n", 1, "expected an assignment"),
    ] {
        let said = convert(text).unwrap_err().to_string();
        assert!(said.contains(&format!("line {line}: ")) && said.contains(why), "{text:?}: {said}");
    }
    let several = convert("FOO=1\nPOOL_NAME=ok\nrm -rf /\n").unwrap_err().to_string();
    assert!(several.contains("line 1: ") && several.contains("line 3: ") && !several.contains("line 2: "), "{several}");
    assert!(convert("SUFFIX=v1\nVDI_FILE='a-${SUFFIX}.vdi'\n").unwrap().toml.contains("vdi = \"a-v1.vdi\""));
}

proptest::proptest! {
    #[test]
    fn any_text_has_an_answer(text in ".{0,200}", words in proptest::collection::vec("(POOL_NAME=|LOCALES=\\(|'|\"|\\$\\{|clean-up\\(\\) \\{|\\}|\\)|#|\n| |a)", 0..40)) {
        let _ = convert(&text);
        let _ = convert(&words.concat());
    }
}
