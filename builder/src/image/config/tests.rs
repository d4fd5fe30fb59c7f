use super::*;
use crate::image::edit::Password;
use crate::image::{Format, Loader};
use crate::progress::Progress;
use std::fs;

fn load(files: &[(&str, &str)], environment: &[(&str, &str)], said: &[Said<'_>]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, text)| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&paths, environment, said, 1_700_000_000)
}

fn one(text: &str) -> Result<Config> {
    load(&[("a.toml", text)], &[], &[])
}

fn error(text: &str) -> String {
    format!("{:#}", one(text).unwrap_err())
}

/// The template with every key as it stands there.
fn uncommented() -> String {
    let keep = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    keys::template().lines().map(|line| keep(line) + "\n").collect()
}

#[test]
fn the_template_says_nothing_and_has_everything() {
    let nothing = one(&keys::template()).unwrap();
    assert_eq!(nothing.show(), load(&[], &[], &[]).unwrap().show());
    let all = one(&uncommented()).unwrap();
    let json = all.json();
    for key in keys::KEYS {
        assert!(json.get(key.path).is_some(), "{}", key.path);
        assert!(!key.help.is_empty() && (key.default.len() + key.example.len() > 0), "{}", key.path);
        if !key.default.is_empty() && key.default != "[]" {
            assert_eq!(
                json.get(key.path),
                nothing.json().get(key.path),
                "{}: the template shows the default",
                key.path
            );
        }
    }
    for (list, keys) in [("dataset", keys::DATASET), ("user", keys::USER), ("state", keys::STATE)] {
        for key in keys {
            assert!(json[list][0].get(key.path).is_some(), "{list}.{}", key.path);
        }
    }
    assert!(all.show().contains("\"install.after\" = "));
    let page = include_str!("../../../../docs/image-configuration.md");
    for key in keys::KEYS.iter().chain(keys::DATASET).chain(keys::USER).chain(keys::STATE) {
        assert!(page.contains(&format!("| `{}` |", key.path)), "docs/image-configuration.md: {}", key.path);
    }
    for stage in hooks::STAGES {
        assert!(page.contains(&format!("`{stage}`")), "docs/image-configuration.md: {stage}");
    }
}

#[test]
fn what_is_shown_says_the_same_again() {
    let all = one(&uncommented()).unwrap();
    let again = one(&all.show()).unwrap();
    assert_eq!(again.json(), all.json());
    assert!(all.show().contains("a.toml:"), "{}", all.show());
}

#[test]
fn the_command_line_comes_first_then_the_environment_then_the_last_file() {
    let files = [
        ("a.toml", "[pool]\nname = \"a\"\nashift = 9\nseed = \"a\"\n[system]\nlocales = [\"x\", \"y\"]\n"),
        ("b.toml", "[pool]\nname = \"b\"\nseed = \"b\"\n[system]\nlocales = []\n"),
    ];
    let environment = [
        ("TAPROOT_IMAGE_POOL_NAME", "c"),
        ("TAPROOT_IMAGE_POOL_SEED", "c"),
        ("TAPROOT_IMAGE_SYSTEM_SSH_KEYS", "k, l"),
        ("OTHER", "x"),
    ];
    let config = load(&files, &environment, &[("--pool", "pool.name", "d".into())]).unwrap();
    let row = config.row();
    assert_eq!((row.text("pool.name"), row.text("pool.seed")), (Some("d"), Some("c")));
    assert_eq!(row.number::<u32>("pool.ashift").unwrap(), Some(9));
    assert_eq!(
        (row.list("system.locales").len(), row.list("system.ssh-keys")),
        (0, &["k".to_owned(), "l".to_owned()][..])
    );
    let shown = config.show();
    for (line, origin) in [
        ("name = \"d\"", "--pool"),
        ("seed = \"c\"", "$TAPROOT_IMAGE_POOL_SEED"),
        ("ashift = 9", "a.toml:3"),
        ("locales = []", "b.toml:5"),
        ("sector = 512", "default"),
    ] {
        assert!(
            shown.lines().any(|shown| shown.starts_with(line) && shown.contains("# ") && shown.ends_with(origin)),
            "{line}: {shown}"
        );
    }
}

#[test]
fn unknown_keys_are_refused_with_what_may_have_been_meant() {
    for (text, expected) in [
        (
            "[pool]\nname = \"a\"\ncompresion = \"lz4\"\n",
            "a.toml:3: pool.compresion is not known; did you mean pool.compression?",
        ),
        ("[system]\nroot_password = \"locked\"\n", "did you mean system.root-password?"),
        ("[pol]\nname = \"a\"\n", "did you mean pool.name?"),
        ("[[dataset]]\nname = \"a\"\nmountpiont = \"/\"\n", "did you mean mountpoint?"),
        ("[[dataset]]\nmountpoint = \"/\"\n", "expected name ="),
        ("[pool]\nashift = \"12\"\n", "expected a whole number, found a text"),
        ("[system]\nlocales = \"C\"\n", "expected a list of texts"),
        ("[hooks]\n\"instal.after\" = \"x\"\n", "did you mean install.after?"),
        ("[hooks]\ninstall.around = \"x\"\n", "STAGE.before"),
        ("[hooks]\npool.replace = \"x\"\n", "nothing takes the place of this stage"),
        ("[pool\n", "a.toml"),
    ] {
        let said = error(text);
        assert!(said.contains(expected), "{said}");
    }
    let said = load(&[], &[("TAPROOT_IMAGE_POOL_NAM", "x")], &[]).unwrap_err().to_string();
    assert!(said.contains("did you mean TAPROOT_IMAGE_POOL_NAME?"), "{said}");
    let said = load(&[], &[], &[("--set", "pool.nam", "x".into())]).unwrap_err().to_string();
    assert!(said.contains("did you mean pool.name?"), "{said}");
}

#[test]
fn data_sets_merge_by_name() {
    let first = "[[dataset]]\nname = \"ROOT/a\"\nmountpoint = \"/\"\ncanmount = \"noauto\"\nbootfs = true\n[[dataset]]\nname = \"home\"\nmountpoint = \"/home\"\n";
    let second = "[[dataset]]\nname = \"home\"\nmountpoint = \"/srv/home\"\nproperties = [\"recordsize=8K\"]\n[[dataset]]\nname = \"b\"\nclone-of = \"ROOT/a\"\nmountpoint = \"/\"\n";
    let config = load(&[("a.toml", first), ("b.toml", second)], &[], &[]).unwrap();
    let plan = config.plan(&words::Words::default()).unwrap();
    let sets: Vec<(&str, Option<&str>)> =
        plan.pool.datasets.iter().map(|set| (set.name.as_str(), set.tree.as_deref())).collect();
    assert_eq!(sets, [("", None), ("ROOT/a", Some("/")), ("home", Some("/srv/home")), ("b", None)]);
    assert_eq!(plan.pool.bootfs.as_deref(), Some("ROOT/a"));
    assert!(plan.pool.datasets[2].properties.contains(&("recordsize".into(), "8K".into())));
    assert_eq!(config.show().matches("[[dataset]]").count(), 3);
}

#[test]
fn it_comes_to_a_plan() {
    let config = one("[pool]\nname = \"tank\"\ncompression = \"zstd-9\"\n[disk]\nsize = \"20G\"\nswap = 1048576\n[boot]\nloader = \"grub\"\n[output]\nraw = \"${name}-${suffix}.raw\"\nqcow2 = \"x.qcow2\"\n").unwrap();
    let plan = config.plan(&words::Words { name: "tank".into(), time: config.time, ..Default::default() }).unwrap();
    assert_eq!((plan.disk.size, plan.disk.swap, plan.disk.esp), (Some(20 << 30), 1 << 20, 512 << 20));
    assert_eq!((plan.boot.loader, plan.boot.cmdline.as_str()), (Loader::Grub, "zfs=tank"));
    assert_eq!(plan.outputs[0].path, Path::new("tank-1700000000.raw"));
    assert_eq!(plan.outputs[1].format, Format::Qcow2);
    assert_eq!(plan.pool.datasets[0].compression, Some(crate::pool::Compression::Zstd(9)));
    assert_eq!(plan.pool.bootfs.as_deref(), Some("ROOT/default"));
    let plan = one("[boot]\nloader = \"grub-pool\"\n").unwrap().plan(&words::Words::default()).unwrap();
    assert_eq!(plan.pool.compatibility, crate::pool::Compatibility::Grub);
    assert_eq!(plan.pool.datasets[0].compression, Some(crate::pool::Compression::Lz4));
    for (text, expected) in [
        ("[boot]\nloader = \"lilo\"\n", "systemd-boot, bls"),
        ("[disk]\nsize = \"20X\"\n", "K, M, G or T"),
        ("[disk]\nsector = 520\n", "512 or 4096"),
        ("[pool]\ncompression = \"zstd-22\"\n", "zstd-19"),
        ("[boot]\nsign-key = \"k\"\n", "belong together"),
        ("[output]\nraw = \"${x}\"\n", "not known"),
    ] {
        let said = format!("{:#}", one(text).unwrap().plan(&words::Words::default()).unwrap_err());
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn exactly_one_source() {
    assert!(one("").unwrap().source().unwrap_err().to_string().contains("found none"));
    let two = one("[source]\ntar = \"-\"\nmmdebstrap = { suite = \"bookworm\" }\n").unwrap();
    let said = two.source().unwrap_err().to_string();
    assert!(said.contains("source.tar (") && said.contains("a.toml:3"), "{said}");
    let Source::Mmdebstrap(debian) =
        one("[source.mmdebstrap]\nsuite = \"trixie\"\ninclude = []\n").unwrap().source().unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (debian.suite.as_str(), debian.mode.as_str(), debian.include.len(), debian.timeout),
        ("trixie", "unshare", 0, 3600)
    );
    // A file's paths begin where it lies.
    let Source::Directory(path) = one("[source]\ndirectory = \"tree\"\n").unwrap().source().unwrap() else { panic!() };
    assert!(path.is_absolute() && path.ends_with("tree"));
    assert_eq!(
        one("[source]\noci = \"oci:/x/y:1.2\"\n").unwrap().source().unwrap(),
        Source::Oci("/x/y".into(), Some("1.2".into()), None)
    );
}

#[test]
fn passwords_come_from_files_and_are_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let hash = file("hash", "$6$salt$sum\n");
    let key = file("key.pub", "# mine\nssh-ed25519 AAAA me\n");
    let text = format!(
        "[system]\nroot-password = \"file:{hash}\"\nssh-keys = [\"{key}\", \"ssh-rsa BBBB you\"]\n[[user]]\nname = \"ann\"\npassword = \"locked\"\n"
    );
    let edits = one(&text).unwrap().edits().unwrap();
    assert_eq!(edits.root_password, Password::Hash("$6$salt$sum".into()));
    assert_eq!(edits.ssh_keys, ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"]);
    assert_eq!((edits.users[0].name.as_str(), &edits.users[0].password), ("ann", &Password::Locked));
    let said = format!("{:#}", one("[system]\nroot-password = \"hunter2\"\n").unwrap().edits().unwrap_err());
    assert!(said.contains("file:PATH") && !said.contains("hunter2"), "{said}");
    for (text, expected) in [
        ("hostname = \"a b\"", "letters"),
        ("hostid = \"xyz\"", "8 hexadecimal"),
        ("identity = \"some\"", "strip or keep"),
        ("add = [\"x\"]", "SOURCE:TARGET"),
    ] {
        let said = format!("{:#}", one(&format!("[system]\n{text}\n")).unwrap().edits().unwrap_err());
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn hooks_run_in_their_order_and_failures_count() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let say = |word: &str| {
        format!("{{ inline = \"echo {word} $TAPROOT_STAGE $POOL_NAME $SOURCE_DATE_EPOCH >> {}\" }}", log.display())
    };
    let text = format!(
        "[hooks]\npool.before = [{}, {}]\n\"pool.after\" = {}\n\"source.replace\" = {}\n\"boot.before\" = {{ inline = \"exit 3\" }}\n",
        say("a"),
        say("b"),
        say("c"),
        say("d")
    );
    let hooks = one(&text).unwrap().hooks();
    let around = hooks::Surroundings { pool: "tank".into(), time: 5, ..Default::default() };
    let own = || {
        let mut file = fs::OpenOptions::new().append(true).open(&log)?;
        Ok(std::io::Write::write_all(
            &mut file, b"own
",
        )?)
    };
    let quiet = Progress::Quiet;
    assert!(hooks.stage("pool", &around, &quiet, own).unwrap().is_some());
    let replaced = hooks.stage("source", &around, &quiet, || -> Result<()> { panic!("it was replaced") });
    assert!(replaced.unwrap().is_none());
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "a pool tank 5\nb pool tank 5\nown\nc pool tank 5\nd source tank 5\n"
    );
    let said = hooks.stage("boot", &around, &quiet, || Ok(())).unwrap_err().to_string();
    assert!(said.contains("boot.before") && said.contains("exit status: 3"), "{said}");
}
