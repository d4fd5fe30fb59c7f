//! Mounts in rounds: what holds `/etc` first, keys last, and what hides the program to start.

use super::{boot, pool, tank};
use crate::cmdline::parse;
use crate::plan::facts::CanMount;
use crate::plan::failure::Code;
use crate::plan::fstab;
use crate::plan::mounts::{Made, Origin};
use crate::plan::next::facts::{Cover, Search};
use crate::plan::next::{Next, Step, next};
use crate::plan::rehearsal::{Known, KnownRoot, Line, Play, Rehearsal};
use crate::plan::sample::dataset;

/// A pool with the root tank/r, these datasets with `canmount=on`, and this fstab.
fn known(datasets: &[(&str, &str)], fstab: &str) -> Known {
    let mut known = tank();
    known.datasets.retain(|d| d.name != "tank/r/var");
    known.datasets.extend(datasets.iter().map(|(name, mountpoint)| dataset(name, CanMount::On, mountpoint)));
    let root = KnownRoot { fstab: Some(fstab::parse(fstab.as_bytes())), ..KnownRoot::default() };
    known.roots.insert("tank/r".to_owned(), root);
    known
}

/// The same, with datasets that have a key of their own, at a place.
fn locked(datasets: &[(&str, &str)], fstab: &str, keys: &[(&str, &str)]) -> Known {
    let mut known = known(datasets, fstab);
    for (name, location) in keys {
        let dataset = known.datasets.iter_mut().find(|d| d.name == *name).unwrap();
        (dataset.key_available, dataset.encryption_root) = (Some(true), Some((*name).to_owned()));
        dataset.key_location = Some((*location).to_owned());
    }
    known
}

fn targets(told: &Rehearsal) -> Vec<&str> {
    told.mounts.iter().map(|step| step.target.as_str()).collect()
}

/// What is done with keys, in order.
fn keys(told: &Rehearsal) -> Vec<&str> {
    let of = |line: &&Line| line.name.starts_with("load-key");
    told.steps.iter().filter(of).map(|line| line.text.as_str()).collect()
}

#[test]
fn what_holds_etc_is_mounted_before_anything_in_it_is_read() {
    let datasets = [("tank/r/bin", "/bin"), ("tank/r/etc", "/etc"), ("tank/srv", "legacy"), ("tank/home", "/home")];
    let told = boot("zfs=tank", &known(&datasets, "tank/srv /srv zfs\n"));
    assert_eq!(targets(&told), ["/", "/etc", "/bin", "/home", "/srv"]);
    assert!(told.place("mount") < told.place("read-fstab"), "{:?}", told.names());
    assert_eq!(told.names().iter().filter(|name| **name == "read-fstab").count(), 1);
    // Nothing but what lies below the root, or is named, can hold it; for the rest the list in /etc may be needed.
    let asked: Vec<&str> = told.steps.iter().filter(|l| l.name == "ask-datasets").map(|l| l.text.as_str()).collect();
    assert_eq!(asked, ["ask for the datasets that can hold /etc", "ask for the datasets that could be mounted"]);
    let told = boot("zfs=tank taproot.also=tank/srv=/etc", &known(&datasets[2..], "tank/home /h zfs\n"));
    assert_eq!(targets(&told), ["/", "/etc", "/home"]);
}

/// The root's own fstab names what holds the real one.
#[test]
fn fstab_is_read_again_below_what_fstab_mounts_on_etc() {
    let datasets = [("tank/etc", "legacy"), ("tank/home", "/home")];
    let told = boot("zfs=tank", &known(&datasets, "tank/etc /etc zfs\n"));
    assert_eq!(targets(&told), ["/", "/etc", "/home"]);
    assert_eq!(told.names().iter().filter(|name| **name == "read-fstab").count(), 2);
    let on_a_device = Known {
        roots: [("/dev/vda1".to_owned(), known(&[], "LABEL=etc /etc ext4 x-initrd.mount\n").roots["tank/r"].clone())]
            .into(),
        ..tank()
    };
    let told = boot("root=/dev/vda1 rootfstype=ext4", &on_a_device);
    assert_eq!(targets(&told), ["/", "/etc"]);
    assert_eq!(told.names().iter().filter(|name| **name == "read-fstab").count(), 2);
}

#[test]
fn a_link_decides_what_holds_etc() {
    let mut known = known(&[("tank/r/usr", "/usr"), ("tank/r/bin", "/bin")], "");
    known.roots.get_mut("tank/r").unwrap().places = [("/etc".to_owned(), "/usr/etc".to_owned())].into();
    assert_eq!(targets(&boot("zfs=tank", &known)), ["/", "/usr", "/bin"]);
}

/// A key file is looked for when what holds it is mounted, whatever the order of the paths is.
#[test]
fn keys_come_last_and_in_the_order_of_what_holds_their_files() {
    let datasets = [("tank/a", "/a"), ("tank/home", "/home"), ("tank/root", "/root"), ("tank/srv", "/srv")];
    let files = [("tank/a", "file:///home/keys/a"), ("tank/home", "file:///root/home.key")];
    let told = boot("zfs=tank", &locked(&datasets, "", &files));
    assert_eq!(targets(&told), ["/", "/root", "/srv", "/home", "/a"]);
    let nobody = "as far as they can be had; nobody is asked";
    let expected = ["tank/home", "tank/a"].map(|key| format!("load the keys of {key}, {nobody}"));
    assert_eq!(keys(&told), expected);

    // One needs the other: both are tried, and the boot goes on.
    let circle = [("tank/a", "file:///home/a"), ("tank/home", "file:///a/home")];
    let told = boot("zfs=tank", &locked(&datasets, "", &circle));
    assert!(told.booted() && keys(&told).len() == 1, "{:?}", keys(&told));

    // Its own key lies below it: that of the root, or nowhere.
    let told = boot("zfs=tank", &locked(&datasets, "", &[("tank/home", "file:///home/k")]));
    assert_eq!(targets(&told), ["/", "/a", "/root", "/srv", "/home"]);

    // What holds /etc is locked, and its key lies on yet another dataset.
    let datasets = [("tank/r/etc", "/etc"), ("tank/r/root", "/root"), ("tank/r/bin", "/bin")];
    let told = boot("zfs=tank", &locked(&datasets, "", &[("tank/r/etc", "file:///root/etc.key")]));
    assert_eq!(targets(&told), ["/", "/root", "/etc", "/bin"]);
}

#[test]
fn what_lies_below_a_locked_one_waits_for_it() {
    let datasets = [("tank/home", "/home"), ("tank/home/jo", "/home/jo"), ("tank/srv", "/srv")];
    let mut known = locked(&datasets, "", &[("tank/home", "prompt")]);
    assert_eq!(targets(&boot("zfs=tank", &known)), ["/", "/srv", "/home", "/home/jo"]);
    // Its key cannot be had: the booted system mounts it, and would cover what lies below.
    let home = known.datasets.iter_mut().find(|d| d.name == "tank/home").unwrap();
    home.key_available = Some(false);
    let told = boot("zfs=tank", &known);
    assert_eq!(targets(&told), ["/", "/srv"]);
    assert!(told.booted() && told.remarks.is_empty(), "nobody needs to be told: {:?}", told.remarks);
}

/// People are asked for what the boot needs, and for nothing that a file is said to have.
#[test]
fn who_is_asked() {
    let datasets = [("tank/r/usr", "/usr"), ("tank/r/opt", "/opt"), ("tank/srv", "legacy"), ("tank/home", "/home")];
    let prompt = ["tank/r/usr", "tank/r/opt", "tank/srv", "tank/home"].map(|name| (name, "prompt"));
    let asked = |line: &str, fstab: &str, keys: &[(&str, &str)]| -> String {
        let told = boot(line, &locked(&datasets, fstab, keys));
        assert!(told.booted(), "{line}: {:?}", told.failure);
        self::keys(&told).join("; ").split("; ").filter(|part| part.contains("asked")).collect::<Vec<_>>().join(" + ")
    };
    assert_eq!(asked("zfs=tank", "", &prompt), "people are asked for tank/r/usr");
    let fstab = "tank/srv /srv zfs\n";
    assert_eq!(asked("zfs=tank", fstab, &prompt), "people are asked for tank/srv, tank/r/usr");
    let nofail = "tank/srv /srv zfs nofail\n";
    assert_eq!(asked("zfs=tank", nofail, &prompt), "people are asked for tank/r/usr");
    assert_eq!(asked("zfs=tank taproot.also=tank/home", "", &prompt), "people are asked for tank/home, tank/r/usr");
    assert_eq!(asked("zfs=tank taproot.mounts=tank/r/opt", "", &prompt), "people are asked for tank/r/opt");
    let elsewhere = [("tank/r/usr", "file:///etc/k"), ("tank/srv", "https://host/k")];
    assert_eq!(asked("zfs=tank", fstab, &elsewhere), "nobody is asked");
    // The root is no exception.
    let root = |location| [("tank/r", location)];
    assert_eq!(asked("zfs=tank", "", &root("prompt")), "");
    assert!(asked("zfs=tank", "", &root("file:///etc/zfs/tank.key")).contains("nobody is asked"));
    // One key for two: it is needed if one of them is.
    let mut both = locked(&datasets, "", &prompt[..1]);
    let home = both.datasets.iter_mut().find(|d| d.name == "tank/home").unwrap();
    home.key_available = Some(true);
    (home.encryption_root, home.key_location) = (Some("tank/r/usr".to_owned()), Some("prompt".to_owned()));
    assert_eq!(keys(&boot("zfs=tank", &both)).len(), 1);
}

/// A device with a key file is waited for where the boot needs what it opens, and only there.
#[test]
fn nothing_is_waited_for_that_the_booted_system_can_open() {
    let datasets = [("tank/home", "/home"), ("tank/r/usr", "/usr")];
    for (name, waits) in [("tank/home", false), ("tank/r/usr", true)] {
        let mut known = locked(&datasets, "", &[(name, "file:///k")]);
        known.hardware = super::machine().hardware;
        known.pools = vec![pool("tank", 7)];
        let labels = |play: &mut Play<'_>| super::seen(play, super::labels("tank", 7, 1, 0));
        let told = super::run("zfs=tank taproot.key=LABEL=none:/k taproot.key_wait=50", &known, &[(0, &labels)]);
        assert!(told.booted(), "{:?}", told.failure);
        assert_eq!(told.names().contains(&"wait"), waits, "{name}: {:?}", told.names());
    }
}

/// What `next` says when the program to start was looked for in vain.
fn after(search: Search) -> Next {
    let (request, known) = (parse(b"zfs=tank"), tank());
    let mut play = Play::new(&request, &known);
    while !matches!(next(play.moment()), Next::Do(Step::FindInit { .. })) {
        assert!(play.turn());
    }
    play.facts.attempt.search = Some(search);
    next(play.moment())
}

fn cover(dataset: &str, origin: Origin, empty: bool, hides: bool) -> Cover {
    let (target, at) = ("/usr".to_owned(), "/usr".to_owned());
    let made = Made { dataset: dataset.to_owned(), target, at, origin, mounted: true };
    Cover { place: "/usr".to_owned(), made, empty, hides }
}

#[test]
fn empty_mounts_that_hide_the_init_are_taken_away() {
    let property = Origin::Property;
    let away =
        |covers: Vec<Cover>, without_empty: bool| match after(Search { covers, without_empty, ..Search::default() }) {
            Next::Do(Step::Uncover { covers }) => Ok(covers.into_iter().map(|c| c.made.dataset).collect::<Vec<_>>()),
            Next::Fail(failure) => Err(failure),
            other => panic!("{other:?}"),
        };
    // One is enough.
    let covers =
        vec![cover("a", property, true, false), cover("b", property, true, true), cover("c", property, true, true)];
    assert_eq!(away(covers, true).unwrap(), ["b"]);
    // All are needed.
    let covers =
        vec![cover("a", property, true, false), cover("b", property, false, false), cover("c", property, true, false)];
    assert_eq!(away(covers.clone(), true).unwrap(), ["a", "c"]);
    let failure = away(covers, false).unwrap_err();
    assert_eq!(failure.code, Code::NoInit);
    assert!(!failure.to_string().contains("hides"), "{failure}");
    // What is not empty stays, and is named with the way out.
    for (origin, word) in [(property, "taproot.mounts=none"), (Origin::Fstab, "taproot.fstab=no")] {
        let failure = away(vec![cover("tank/x", origin, false, true)], false).unwrap_err();
        assert!(failure.to_string().contains("tank/x, which is mounted on /usr, hides"), "{failure}");
        assert!(failure.refusal.advice.iter().any(|line| line.contains(word)), "{:?}", failure.refusal.advice);
    }
}
