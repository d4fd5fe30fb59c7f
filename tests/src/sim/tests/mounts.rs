//! Whole boots of which something is mounted beside the root.

use crate::agreement::disagreements;
use crate::sim::files::{Node, Tree};
use crate::sim::machine::{Machine, Typed};
use crate::sim::run;
use crate::sim::world::{End, World};
use crate::sim::zfs::dataset::{Dataset, Key};
use crate::sim::zfs::pool::Pool;
use serde_json::Value;

/// A machine with a pool, of which `tank/ROOT/a` is the root.
fn machine(line: &str, pool: Pool) -> Machine {
    let mut machine = Machine::new(line);
    machine.add_pool(pool.bootfs("ROOT/a"));
    machine
}

/// A pool with a root that has this fstab; `/usr` and its like are there.
fn tank(fstab: &str) -> Pool {
    Pool::new("tank", 7).disk("/dev/vda").dataset("", at("none")).dataset("ROOT/a", |d| {
        d.set("mountpoint", "/");
        d.set("canmount", 2);
        d.tree = Tree::system(fstab);
    })
}

fn at(path: &str) -> impl FnOnce(&mut Dataset) + '_ {
    move |d| d.set("mountpoint", path)
}

/// A boot that came to its end.
struct Booted {
    world: World,
    end: Option<End>,
    record: Value,
}

impl Booted {
    fn of(machine: Machine) -> Self {
        let world = World::new(machine, vec![]);
        let end = run(&world, |system| {
            let _ = taproot_init::boot::run(&system, Vec::new());
        });
        let record = world.file("/run/taproot/boot.json").map(|bytes| serde_json::from_slice(&bytes).unwrap());
        let record = record.unwrap_or_default();
        assert_eq!(disagreements(&record), [""; 0]);
        Self { world, end, record }
    }

    /// What is mounted below the new root, in order: `target source`.
    fn mounts(&self) -> Vec<String> {
        let below = |target: &str| Some(format!("/{}", target.strip_prefix("newroot/")?));
        self.world.mounts().iter().filter_map(|m| Some(format!("{} {}", below(&m.target)?, m.source))).collect()
    }

    fn problems(&self) -> String {
        self.record["problems"].to_string()
    }

    #[track_caller]
    fn handed_over(&self) {
        assert!(matches!(self.end, Some(End::HandOver { .. })), "{:?}\n{}", self.end, self.world.printed());
    }
}

/// fstab, the list of datasets and keys lie on a dataset of their own.
#[test]
fn etc_on_a_dataset_of_its_own() {
    let fstab = "tank/srv /srv zfs defaults 0 0\n";
    let raw = *b"0123456789abcdef0123456789abcdef";
    let pool = tank("tank/wrong /wrong zfs defaults 0 0\n")
        .dataset("ROOT/a/etc", |d| {
            d.set("mountpoint", "/etc");
            d.tree = Tree::of(&[("fstab", fstab.as_bytes()), ("keys/home", &raw)]);
        })
        .dataset("srv", at("legacy"))
        .dataset("wrong", at("legacy"))
        .dataset("boot", at("/boot"))
        .dataset("home", |d| {
            d.set("mountpoint", "/home");
            d.encryption_root = Some("home".into());
            d.key = Some(Key {
                format: 1,
                location: "file:///etc/keys/home".into(),
                salt: 0,
                iterations: 0,
                bytes: raw.to_vec(),
                loaded: false,
            });
        });
    let booted = Booted::of(machine("zfs=tank", pool));
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/etc tank/ROOT/a/etc", "/boot tank/boot", "/srv tank/srv", "/home tank/home"]);
    assert_eq!(booted.problems(), "[]");
}

/// The list in the root's `/etc` is its original's and knows nothing of the clone's datasets.
#[test]
fn the_roots_own_datasets_are_looked_at_whatever_the_list_says() {
    let mut root = tank("");
    for n in 0..150 {
        root = root.dataset(&format!("data/{n:03}"), at("none"));
    }
    let list = "tank/home\t/home\ton\ntank/ROOT/old/usr\t/usr\ton\ntank/gone\t/gone\ton\n";
    let pool = root
        .dataset("ROOT/a", |d| d.tree.text("etc/zfs/zfs-list.cache/tank", list))
        .dataset("ROOT/a/usr", at("/usr"))
        .dataset("ROOT/old", |d| {
            d.set("mountpoint", "/");
            d.set("canmount", 2);
        })
        .dataset("ROOT/old/usr", at("/usr"))
        .dataset("home", at("/home"))
        .dataset("unlisted", at("/unlisted"));
    let booted = Booted::of(machine("zfs=tank", pool));
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/home tank/home", "/usr tank/ROOT/a/usr"]);
}

/// A root whose init lies in `/usr`, and a clone's containers that lost `canmount=off`.
fn hidden(cover: impl FnOnce(&mut Dataset)) -> Pool {
    let mut system = Tree::system("");
    let init = system.get("sbin/init").cloned().unwrap_or(Node::Dir);
    system.take("sbin");
    system.put("usr/sbin/init", init);
    system.put("sbin", Node::Link("usr/sbin".into()));
    tank("").dataset("ROOT/a", |d| d.tree = system).dataset("ROOT/a/usr", cover).dataset("ROOT/a/var", at("/var"))
}

#[test]
fn an_empty_dataset_over_the_init_is_taken_away() {
    let pool = hidden(at("/usr")).dataset("ROOT/a/usr/local", at("/usr/local"));
    let booted = Booted::of(machine("zfs=tank", pool));
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/var tank/ROOT/a/var", "/usr/local tank/ROOT/a/usr/local"]);
    let problems = booted.problems();
    assert!(problems.contains("tank/ROOT/a/usr on /usr is empty and hid the program to start"), "{problems}");
    assert!(problems.contains("zfs set canmount=off tank/ROOT/a/usr"), "{problems}");
    let mounts = booted.record["mounts"].as_array().unwrap();
    let errors: Vec<_> =
        mounts.iter().filter(|m| !m["error"].is_null()).map(|m| m["target"].as_str().unwrap()).collect();
    assert_eq!(errors, ["/usr"]);
    assert!(booted.world.file("/run/taproot/below").is_none());
}

/// Something is in it: nobody but a person can say that it may go.
#[test]
fn what_covers_the_init_and_is_not_empty_is_named() {
    let pool = hidden(|d| {
        d.set("mountpoint", "/usr");
        d.tree.text("share/doc", "x");
    });
    let booted = Booted::of(machine("zfs=tank", pool));
    assert!(matches!(booted.end, Some(End::Question(_))), "{:?}", booted.end);
    let printed = booted.world.printed();
    assert!(printed.contains("tank/ROOT/a/usr, which is mounted on /usr, hides /sbin/init"), "{printed}");
    assert!(printed.contains("taproot.mounts=none") && printed.contains("canmount=noauto"), "{printed}");
    let booted = Booted::of(machine("zfs=tank taproot.mounts=none", hidden(at("/usr"))));
    booted.handed_over();
}

#[test]
fn a_root_that_is_empty_but_for_what_is_named() {
    let mut store = Tree::default();
    store.put("store/x/init", Tree::system("").get("sbin/init").cloned().unwrap_or(Node::Dir));
    let pool = tank("").dataset("ROOT/a", |d| d.tree = Tree::default()).dataset("nix", |d| {
        d.set("mountpoint", "legacy");
        d.tree = store;
    });
    let mut root = machine("zfs=tank ro taproot.also=tank/nix=/nix init=/nix/store/x/init", pool);
    // The simulated hand-over makes no directories.
    let tree = &mut root.pools[0].datasets.get_mut("ROOT/a").unwrap().tree;
    for dir in ["dev", "proc", "sys", "run"] {
        tree.put(dir, Node::Dir);
    }
    let booted = Booted::of(root);
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/nix tank/nix"]);
    assert_eq!(booted.record["init"], "/nix/store/x/init");
}

/// Where `/run` and `/dev` are links in the root, they are moved to where these lead there.
#[test]
fn links_in_the_root_do_not_fail_the_hand_over() {
    let pool = tank("").dataset("ROOT/a", |d| {
        for (dir, target) in [("run", "/var/run"), ("dev", "system/dev")] {
            d.tree.take(dir);
            d.tree.put(dir, Node::Link(target.into()));
            d.tree.put(target.trim_start_matches('/'), Node::Dir);
        }
    });
    Booted::of(machine("zfs=tank", pool)).handed_over();
}

#[test]
fn overlay_off_covers_no_files() {
    let pool = tank("")
        .dataset("ROOT/a", |d| d.tree.text("srv/file", "x"))
        .dataset("srv", |d| {
            d.set("mountpoint", "/srv");
            d.set("overlay", 0);
        })
        .dataset("opt", |d| {
            d.set("mountpoint", "/opt");
            d.set("overlay", 0);
        });
    let booted = Booted::of(machine("zfs=tank", pool));
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/opt tank/opt"]);
    let problems = booted.problems();
    assert!(
        problems.contains("tank/srv not mounted on /srv: the directory is not empty, and the dataset has overlay=off")
    );
}

/// A link that comes with another dataset leads to where something is mounted already.
#[test]
fn two_claims_through_a_link_that_comes_later() {
    let pool = tank("")
        .dataset("var", |d| {
            d.set("mountpoint", "/var");
            d.tree.put("srv", Node::Link("/srv".into()));
        })
        .dataset("srv", at("/srv"))
        .dataset("vsrv", at("/var/srv"));
    let booted = Booted::of(machine("zfs=tank", pool));
    booted.handed_over();
    assert_eq!(booted.mounts(), ["/srv tank/srv", "/var tank/var"]);
    let problems = booted.problems();
    assert!(problems.contains("tank/vsrv not mounted on /var/srv: tank/srv is mounted there, on /srv"), "{problems}");
}

/// A passphrase for what the boot needs, and for nothing else.
#[test]
fn people_are_asked_for_what_the_boot_needs() {
    let locked = |name: &'static str, path: &'static str, location: &'static str| {
        move |d: &mut Dataset| {
            d.set("mountpoint", path);
            d.encryption_root = Some(name.into());
            let location = location.to_owned();
            d.key = Some(Key { format: 3, location, salt: 1, iterations: 2, bytes: vec![0; 32], loaded: false });
        }
    };
    let pool = |location| {
        tank("")
            .dataset("home", locked("home", "/home", "prompt"))
            .dataset("ROOT/a/srv", locked("ROOT/a/srv", "/srv", "prompt"))
            .dataset("ROOT/a/usr", locked("ROOT/a/usr", "/usr", location))
    };
    let boot = |line: &str, location| {
        let mut machine = machine(line, pool(location));
        machine.person.push(Typed::line("assphrase for tank/ROOT/a/usr", ""));
        let booted = Booted::of(machine);
        booted.handed_over();
        let questions = booted.world.events().iter().filter(|event| event.text.starts_with("ask ")).count();
        (questions, booted.problems())
    };
    let (questions, problems) = boot("zfs=tank", "prompt");
    assert_eq!(questions, 1);
    assert!(problems.contains("tank/ROOT/a/usr") && !problems.contains("tank/home"), "{problems}");
    let (questions, problems) = boot("zfs=tank", "file:///etc/none");
    assert_eq!(questions, 0);
    assert!(problems.contains("nobody is asked, because its keylocation is no prompt"), "{problems}");
    assert_eq!(boot("zfs=tank taproot.rescue=reboot", "prompt").0, 0);
    assert_eq!(boot("zfs=tank panic=5", "prompt").0, 1, "a passphrase is no failure");
}
