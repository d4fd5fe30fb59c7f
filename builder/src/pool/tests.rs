//! Whole pools: as others see their labels, as often as they are made, and when they cannot be made.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use taproot_init::zfs::label::{PoolState, read_labels};

use super::*;
use crate::made::tar::{Made, archive};
use crate::tar::Archive;

fn options() -> Options {
    let set = |name: &str, tree: &str| Dataset { name: name.into(), tree: Some(tree.into()), ..Dataset::default() };
    Options {
        name: "made".into(),
        size: 64 << 20,
        seed: "test".into(),
        time: 1_700_000_000,
        jobs: 2,
        bootfs: Some("ROOT/debian".into()),
        datasets: vec![
            Dataset {
                compression: Some(Compression::Zstd(3)),
                snapshot: Some(Snapshot { name: "installed".into(), holds: vec!["keep".into()] }),
                ..set("ROOT/debian", "/")
            },
            set("home", "/home"),
            Dataset { name: "ROOT/second".into(), clone_of: Some("ROOT/debian".into()), ..Dataset::default() },
        ],
        ..Options::default()
    }
}

fn tree() -> Vec<Made> {
    let mut all = vec![Made::new("etc", b'5'), Made::file("etc/passwd", "root\n")];
    all.extend(
        (0..300_u32).map(|n| Made::file(format!("data/{n}"), n.to_le_bytes().repeat(usize::try_from(n).unwrap() * 10))),
    );
    all.push(Made { target: b"etc/passwd".to_vec(), ..Made::new("home/me/link", b'2') });
    all.push(Made { target: b"etc/passwd".to_vec(), ..Made::new("etc/other", b'1') });
    all
}

fn make(options: &Options, input: &[u8]) -> (File, Result<Summary, PoolError>) {
    let out = tempfile::tempfile().unwrap();
    out.set_len(options.size).unwrap();
    let made = write(&out, options, &mut Archive::new(input));
    (out, made)
}

fn content(file: &File, size: u64) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(size).unwrap()];
    file.read_exact_at(&mut all, 0).unwrap();
    all
}

fn label(file: &File, size: u64) -> Result<taproot_init::zfs::label::Label, taproot_init::zfs::label::LabelProblem> {
    read_labels(&mut |at, buffer| file.read_exact_at(buffer, at), size)
}

#[test]
fn the_labels_are_those_of_an_exported_pool() {
    let options = options();
    let (file, made) = make(&options, &archive(&tree()));
    let summary = made.unwrap();
    assert_eq!(summary.counts, Counts { entries: 303, links: 1, bytes: 300 * 299 / 2 * 40 + 5 });
    let label = label(&file, options.size).unwrap();
    assert_eq!(label.state(), PoolState::Exported);
    assert_eq!((label.pool_guid(), label.pool_name().as_deref()), (Some(summary.guid), Some("made")));
    assert_eq!(label.config.list("vdev_tree").and_then(|tree| tree.u64("ashift")), Some(12));
}

#[test]
fn the_same_input_makes_the_same_pool() {
    let input = archive(&tree());
    let bytes = |jobs: usize, seed: &str| {
        let options = Options { jobs, seed: seed.into(), ..options() };
        let (file, made) = make(&options, &input);
        (content(&file, options.size), made.unwrap())
    };
    let (first, summary) = bytes(1, "a");
    for jobs in [2, 3, 64] {
        assert!(bytes(jobs, "a") == (first.clone(), summary.clone()), "{jobs} jobs");
    }
    assert_ne!(bytes(1, "b").1.guid, summary.guid);
}

#[test]
fn what_cannot_be_made_is_said_and_is_no_pool() {
    let twice = vec![Made::file("a", "1"), Made::file("a", "2")];
    let link = |target: &str| vec![Made { target: target.into(), ..Made::new("l", b'1') }];
    let across = vec![Made::file("f", ""), Made { target: b"f".to_vec(), ..Made::new("home/f", b'1') }];
    let noise = noise();
    let large: Vec<Made> = (0..70).map(|n| Made::file(format!("file {n}"), noise.clone())).collect();
    let cases: [(Vec<u8>, &str); 10] = [
        (archive(&twice), "a: it is there twice"),
        (archive(&[Made::file("/etc/passwd", "")]), "absolute"),
        (archive(&[Made::file("a/../b", "")]), "upwards"),
        (archive(&[Made::file("a", ""), Made::file("a/b", "")]), "no directory"),
        (archive(&[Made::file([b'n'; 256], "")]), "255"),
        (archive(&link("nothing")), "nothing, which was not there before"),
        (archive(&across), "another data set"),
        (archive(&large), "the pool is full"),
        (archive(&tree())[..100_000].to_vec(), "ends too early"),
        (b"PK\x03\x04".repeat(500), "not a tar header"),
    ];
    for (input, said) in cases {
        let options = options();
        let (file, made) = make(&options, &input);
        let error = made.unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} expected, {error:?} found");
        assert!(label(&file, options.size).is_err(), "{said}");
    }
}

/// A MiB that cannot be compressed.
fn noise() -> Vec<u8> {
    let mut random = random::Random::new(b"noise");
    (0..1 << 17).flat_map(|_| random.number().to_le_bytes()).collect()
}

#[test]
fn options_that_cannot_be() {
    let with = |change: &dyn Fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        make(&options, &archive(&tree())).1.unwrap_err().to_string()
    };
    assert!(with(&|o| o.name = "mirror-1".into()).contains("mirror-1"));
    assert!(with(&|o| o.bootfs = Some("ROOT/x".into())).contains("ROOT/x"));
    assert!(with(&|o| o.compatibility = Compatibility::Grub).contains("lz4"));
    assert!(with(&|o| o.datasets[0].tree = None).contains("top of the tree"));
    assert!(with(&|o| o.datasets[1].tree = Some("/".into())).contains("two data sets"));
    assert!(with(&|o| o.datasets[1].properties = vec![("canmount".into(), "x".into())]).contains("canmount=x"));
    assert!(with(&|o| o.datasets[2].clone_of = Some("home".into())).contains("no snapshot"));
    assert!(with(&|o| o.size = 1 << 20).contains("at least"));
}

/// The writer as a process of its own, killed at 20 moments while it writes over an older pool: what is there then is the old pool,
/// the new one or none, never a half. Most moments are told by how much of the archive it was given.
#[test]
fn a_writer_that_is_killed_leaves_no_half_pool() {
    const CHILD: &str = "TAPROOT_TEST_POOL";
    let made = |seed: &str| Options { seed: seed.into(), ..options() };
    if let Some(path) = std::env::var_os(CHILD) {
        let out = File::options().read(true).write(true).open(path).unwrap();
        let archive = std::io::BufReader::new(std::io::stdin());
        write(&out, &made("new"), &mut Archive::new(archive)).unwrap();
        return;
    }
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = directory.path().join("pool");
    let noise = noise();
    let all = archive(&(0..20).map(|n| Made::file(format!("file {n}"), noise[n..].to_vec())).collect::<Vec<_>>());
    let (old, summary) = make(&made("old"), &archive(&tree()));
    let (old, old_guid) = (content(&old, options().size), summary.unwrap().guid);
    let run = |bytes: usize, after: Option<u64>| {
        std::fs::write(&path, &old).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pool::tests::a_writer_that_is_killed_leaves_no_half_pool"])
            .env(CHILD, &path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), &all[..bytes]).unwrap();
        if bytes == all.len() {
            drop(child.stdin.take());
        }
        if let Some(after) = after {
            std::thread::sleep(std::time::Duration::from_millis(after));
            child.kill().unwrap();
        }
        child.wait().unwrap();
        let file = File::open(&path).unwrap();
        match verify_any(&file, options().size) {
            Ok(_) => label(&file, options().size).unwrap().pool_guid(),
            Err(ReadError::Label(_)) => None,
            Err(ReadError::Damaged(what)) if what == "no good uberblock" => None,
            Err(other) => panic!("{other} after {bytes} bytes and {after:?} ms"),
        }
    };
    let new_guid = run(all.len(), None).unwrap();
    assert_ne!(old_guid, new_guid);
    for part in 0..14 {
        let found = run(all.len() * part / 14, Some(0));
        // With so much of the archive taken, the old pool's labels are gone.
        assert!(found.is_none() || part == 0 && found == Some(old_guid), "{part}: {found:?}");
    }
    for after in [0, 5, 10, 20, 40, 80] {
        let found = run(all.len(), Some(after));
        assert!([None, Some(new_guid)].contains(&found), "{after} ms: {found:?}");
    }
}
