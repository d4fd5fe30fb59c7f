//! What is kept on media of its own: on zvols, partitions and in files; what follows when it cannot be; and directories beside an
//! upper.

use super::layers::{KEY, LAYERS, boots, ext4, fails, images, machine, mounted, on_ext4, text, zroot};
use super::{Dataset, Effect, Fault, Holds, Machine, Node, Pool, Tree, World, seconds};
use crate::sim::layering::ext4_file;
use crate::sim::zfs::dataset::Key;
use std::path::Path;
use taproot_init::sys::System as _;

const SEVEN: &str = "/etc union\n/usr union\n/var union\n/home union\n/root union\n/srv union\n/opt union\n";
const BASE: &str = "/run/taproot/persistence";

fn medium(conf: &str) -> Tree {
    Tree::of(&[("persistence.conf", conf.as_bytes())])
}

/// A machine with layers on vda and a medium on vdb.
fn with(words: &str, label: &str, tree: Tree) -> Machine {
    let mut machine = on_ext4(words);
    machine.add("vdb", ext4(label, tree));
    machine
}

fn is_overlay(world: &World, dir: &str) -> bool {
    mounted(world, &format!("/newroot{dir}")).is_some_and(|(_, fstype, read_only)| fstype == "overlay" && !read_only)
}

fn report(world: &World) -> String {
    text(world, "/run/taproot/boot.json")
}

/// A pool with a locked zvol whose file system is a medium.
fn on_zvol(words: &str) -> Machine {
    let mut machine = machine(&format!("{LAYERS} taproot.key=/key taproot.key_prompt=no {words}"));
    machine.files.put("key", Node::File(KEY.to_vec(), 0o600));
    let live = |dataset: &mut Dataset| {
        dataset.volume = true;
        let (format, location) = (1, "file:///key".to_owned());
        let key = Key { format, location, salt: 0, iterations: 0, bytes: KEY.to_vec(), loaded: false };
        (dataset.key, dataset.encryption_root) = (Some(key), Some("live".into()));
    };
    let pool: Pool = zroot(false).dataset("live", live);
    machine.add_pool(pool);
    machine.add("vdb", ext4("root", images("", &["top", "middle", "base"])));
    let zvol = machine.add("zd16", ext4("other", medium(SEVEN)));
    zvol.links = vec!["zvol/zroot/live".to_owned()];
    zvol.arrives = seconds(6);
    machine
}

#[test]
fn seven_unions_on_a_zvol_with_a_key() {
    let world = boots(on_zvol("persistence-zfs=zroot/live"));
    assert_eq!(mounted(&world, &format!("{BASE}/zd16")).unwrap(), ("/dev/zd16".into(), "ext4".into(), false));
    for dir in ["etc", "usr", "var", "home", "root", "srv", "opt"] {
        assert!(
            is_overlay(&world, &format!("/{dir}")) || mounted(&world, &format!("/newroot/{dir}")).is_some(),
            "{dir}"
        );
        assert!(world.stat(Path::new(&format!("{BASE}/zd16/{dir}/rw"))).is_ok(), "{dir}");
    }
    assert!(is_overlay(&world, "/etc") && is_overlay(&world, "/opt"));
    assert_eq!(text(&world, "/newroot/etc/layer"), "top", "the order of the layers is the root's");
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs", "what is not kept is in memory");
    assert!(!world.story().contains("exported pool"), "{}", world.story());
    assert_eq!(world.read_link(Path::new("/run/live/persistence")).unwrap(), Path::new(BASE));
    let mut none = on_zvol("persistence-zfs=zroot/none");
    let world = boots(none.clone());
    assert!(report(&world).contains("NOTHING IS KEPT of what is written: zroot/none: there is no dataset"));
    none.cmdline += " taproot.upper_fallback=fail";
    assert!(fails(none, "no-upper").contains("there is no dataset zroot/none"));
}

#[test]
fn a_partition_keeps_directories_which_are_filled_once() {
    let mut tree = medium("/home bind\n/opt bind,source=o\n/var/none union\n");
    tree.text("o/mine", "kept");
    let mut machine = with("persistence", "persistence", tree);
    machine.images.get_mut("base").unwrap().text("home/me/file", "mine");
    let world = boots(machine.clone());
    assert_eq!(mounted(&world, "/newroot/home").unwrap().1, "bind");
    assert_eq!(text(&world, &format!("{BASE}/vdb/home/me/file")), "mine", "filled from the layers");
    assert_eq!(world.list(Path::new("/newroot/opt")).unwrap(), ["mine"], "what is there already is as it was");
    assert_eq!(mounted(&world, "/newroot/var/none").unwrap().1, "bind", "no layer has it");
    assert!(report(&world).contains("\"directory\": \"/home\""), "{}", report(&world));
    // By the name of its partition, and only on such disks as are wanted.
    machine.cmdline += " persistence-media=removable";
    assert!(report(&boots(machine)).contains("no file system and no partition is labelled"));
}

#[test]
fn the_whole_root_can_be_kept_and_an_upper_by_its_own_word_is_stronger() {
    let machine = with("persistence", "persistence", medium("/ union\n"));
    let world = boots(machine.clone());
    assert!(world.story().contains(&format!("{BASE}/vdb/rw")), "{}", world.story());
    assert_eq!(mounted(&world, "/run/taproot/upper"), None);
    assert!(!report(&world).contains("NOT KEPT") && !report(&world).contains("NOTHING IS KEPT"));
    let mut own = machine;
    own.cmdline += " taproot.upper=dir";
    let world = boots(own);
    assert!(report(&world).contains("so `/ union` is passed over"), "{}", report(&world));
    assert!(world.story().contains("/run/taproot/base/upper/upper"));
}

#[test]
fn a_medium_that_says_nothing_and_one_that_lacks_are_told_of() {
    let world = boots(with("persistence", "persistence", Tree::default()));
    let said = report(&world);
    assert!(said.contains("nothing is kept on /dev/vdb: it has no persistence.conf"), "{said}");
    assert!(said.contains("NOTHING IS KEPT") && said.contains("the root's upper is not the one that is asked for"));
    assert_eq!(mounted(&world, &format!("{BASE}/vdb")), None);
    assert_eq!(mounted(&world, "/run/taproot/upper").unwrap().1, "tmpfs");

    let lacking = on_ext4("persistence persistence-label=mine");
    let world = boots(lacking.clone());
    assert!(report(&world).contains("no file system and no partition is labelled, and no file called mine"));
    assert!(world.time() < seconds(20), "{:?}", world.time());
    let with_word = |word: &str| {
        let mut machine = lacking.clone();
        machine.cmdline += word;
        machine
    };
    assert!(fails(with_word(" taproot.upper_fallback=fail"), "no-upper").contains("nothing can be kept (persistence)"));
    assert!(mounted(&boots(with_word(" taproot.upper_fallback=ro")), "/newroot").unwrap().2);
    // Its disk may come late, if somebody says that it does.
    let mut late = with_word(" taproot.wait=60");
    late.add("vdb", ext4("mine", medium("/home\n"))).arrives = seconds(40);
    assert!(mounted(&boots(late), "/newroot/home").is_some());
    let world = boots(with_word(" persistence-encryption=luks"));
    assert!(report(&world).contains("taproot-init opens no LUKS"), "{}", report(&world));
}

/// A file on a disk that has other things, and in the base itself.
#[test]
fn a_file_is_a_medium_on_another_disk_or_beside_the_layers() {
    let mut other = Tree::default();
    other.put("live/persistence", ext4_file("kept"));
    let mut machine = with("persistence persistence-path=/live", "stuff", other.clone());
    machine.images.insert("kept".to_owned(), medium("/home\n/ union,source=all\n"));
    let world = boots(machine.clone());
    assert_eq!(mounted(&world, &format!("{BASE}/vdb.file")).unwrap().1, "ext4");
    assert!(!mounted(&world, &format!("{BASE}/vdb.host")).unwrap().2);
    assert!(mounted(&world, "/newroot/home").is_some());
    assert!(world.story().contains(&format!("{BASE}/vdb.file/all/rw")), "{}", world.story());
    let holds = &mut machine.device("vda").unwrap().holds;
    let Holds::Filesystem { tree, .. } = holds else { panic!() };
    tree.put("live/persistence", ext4_file("kept"));
    machine.device("vdb").unwrap().holds = ext4("stuff", Tree::default());
    let world = boots(machine.clone());
    assert!(mounted(&world, "/newroot/home").is_some());
    assert!(!mounted(&world, "/run/taproot/base").unwrap().2);
    machine.cmdline += " persistence-storage=filesystem";
    assert!(mounted(&boots(machine), "/newroot/home").is_none());
}

#[test]
fn what_is_only_read_goes_on_in_memory() {
    let mut tree = medium("/home\n/opt union\n/srv\n/ union,source=all\n");
    tree.text("home/me/file", "kept");
    tree.text("opt/rw/mine", "kept");
    tree.text("all/rw/etc/layer", "kept");
    for words in ["persistence persistence-read-only", "persistence taproot.import=ro"] {
        let world = boots(with(words, "persistence", tree.clone()));
        assert!(mounted(&world, &format!("{BASE}/vdb")).unwrap().2, "{words}");
        assert_eq!(text(&world, "/newroot/etc/layer"), "kept", "{words}");
        assert_eq!(text(&world, "/newroot/home/me/file"), "kept", "{words}");
        assert!(
            world.stat(Path::new("/newroot/opt/mine")).is_ok() && world.stat(Path::new("/newroot/opt/top")).is_ok()
        );
        assert!(is_overlay(&world, "/home") && is_overlay(&world, "/opt"), "{words}");
        assert!(mounted(&world, "/newroot/srv").is_none(), "{words}: nothing is there yet");
        assert!(!report(&world).contains("NOT KEPT"), "{words}: {}", report(&world));
    }
}

#[test]
fn directories_beside_the_upper() {
    let words = "taproot.bind=/var/lib/containers:/var/lib/docker";
    let mut machine = on_ext4(words);
    machine.images.get_mut("base").unwrap().text("var/lib/containers/storage.conf", "x");
    let world = boots(machine.clone());
    for dir in ["containers", "docker"] {
        let (source, fstype, read_only) = mounted(&world, &format!("/newroot/var/lib/{dir}")).unwrap();
        let at = format!("run/taproot/base/upper/bind/var/lib/{dir}");
        assert_eq!((source.trim_start_matches('/'), fstype.as_str(), read_only), (at.as_str(), "bind", false));
    }
    assert_eq!(text(&world, "/run/taproot/base/upper/bind/var/lib/containers/storage.conf"), "x");
    machine.cmdline += " taproot.upper=none";
    let world = boots(machine.clone());
    assert!(report(&world).contains("nothing takes what is written to the root"), "{}", report(&world));
    machine.cmdline = machine.cmdline.replace("none", "ram");
    let world = boots(machine);
    assert_eq!(
        mounted(&world, "/newroot/var/lib/docker").unwrap().0.trim_start_matches('/'),
        "run/taproot/upper/bind/var/lib/docker"
    );
}

#[test]
fn links_lead_to_the_files_of_a_medium() {
    let mut tree = medium("/home/me link,source=dots\n/root link,source=none\n");
    tree.text("dots/.profile", "mine");
    tree.text("dots/.config/a/b", "mine");
    let mut machine = with("persistence", "persistence", tree);
    machine.images.get_mut("base").unwrap().text("home/me/.profile", "theirs");
    let world = boots(machine);
    let link = world.read_link(Path::new("/newroot/home/me/.profile")).unwrap();
    assert_eq!(link, Path::new(BASE).join("vdb/dots/.profile"));
    assert_eq!(text(&world, "/newroot/home/me/.config/a/b"), "mine");
    assert!(report(&world).contains("WHAT IS WRITTEN TO /root IS NOT KEPT on /dev/vdb"), "{}", report(&world));
}

#[test]
fn a_directory_that_cannot_be_kept_follows_the_policy() {
    let machine = with("persistence taproot.upper_fallback=fail", "persistence", medium("/home\n"));
    let faults = vec![Fault::at("bind", 0, Effect::Errno(libc::EIO))];
    let boot = |policy: &str| {
        let mut machine = machine.clone();
        machine.cmdline = machine.cmdline.replace("fallback=fail", policy);
        let world = World::new(machine, faults.clone());
        let end = super::run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        (end, world)
    };
    let (_, world) = boot("fallback=fail");
    assert!(world.printed().contains("/home cannot lie on /dev/vdb"), "{}", world.printed());
    let (_, world) = boot("fallback=ram");
    assert!(report(&world).contains("WHAT IS WRITTEN TO /home IS NOT KEPT"), "{}", report(&world));
    assert!(mounted(&world, "/newroot/home").is_none());
    let (_, world) = boot("fallback=ro");
    assert!(mounted(&world, "/newroot/home").unwrap().2);
}
