use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use std::sync::Arc;

fn list<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
    pairs.into_iter().collect()
}

fn disk(id: u64, guid: u64) -> NvList {
    list([
        ("type", Value::text("disk")),
        ("id", Value::U64(id)),
        ("guid", Value::U64(guid)),
        ("path", Value::text(format!("/dev/disk/by-id/d{guid}-part1"))),
        ("devid", Value::text("x")),
        ("phys_path", Value::text("y")),
        ("vdev_enc_sysfs_path", Value::text("z")),
    ])
}

/// A mirror in slot `id` whose guid is 100 times (id + 1) and whose disks follow it.
fn mirror(id: u64, disks: u64) -> NvList {
    let guid = (id + 1) * 100;
    let children = (1..=disks).map(|n| disk(n - 1, guid + n)).collect();
    list([
        ("type", Value::text("mirror")),
        ("id", Value::U64(id)),
        ("guid", Value::U64(guid)),
        ("metaslab_shift", Value::U64(30)),
        ("children", Value::ListArray(children)),
    ])
}

fn config(guid: u64, txg: u64, slots: u64, top: NvList) -> NvList {
    list([
        ("version", Value::U64(5000)),
        ("name", Value::text("rpool")),
        ("state", Value::U64(0)),
        ("txg", Value::U64(txg)),
        ("pool_guid", Value::U64(7)),
        ("hostid", Value::U64(txg)),
        ("hostname", Value::text("host")),
        ("top_guid", Value::U64(top.u64("guid").unwrap())),
        ("guid", Value::U64(guid)),
        ("vdev_children", Value::U64(slots)),
        ("vdev_tree", Value::List(top)),
    ])
}

fn seen(device: &str, config: NvList) -> Seen {
    Seen::sound(device.to_owned(), Label::new(config, 0))
}

fn with(mut seen: Seen, name: &str, value: Value) -> Seen {
    Arc::make_mut(&mut seen.label.config).set(name, value);
    seen
}

/// Two mirrors of two disks.
fn two_mirrors() -> Vec<Seen> {
    vec![
        seen("/dev/sda1", config(101, 4, 2, mirror(0, 2))),
        seen("/dev/sdb1", config(102, 4, 2, mirror(0, 2))),
        seen("/dev/sdc1", config(201, 5, 2, mirror(1, 2))),
        seen("/dev/sdd1", config(202, 5, 2, mirror(1, 2))),
    ]
}

fn one(seen: &[Seen]) -> Candidate {
    let mut pools = assemble(seen);
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

fn devices(pool: &Candidate) -> Vec<(u64, Option<&str>)> {
    pool.leaves.iter().map(|l| (l.guid, l.device.as_deref())).collect()
}

fn slots(pool: &Candidate) -> &[NvList] {
    pool.config.list("vdev_tree").unwrap().lists("children").unwrap()
}

#[test]
fn a_whole_pool() {
    let pool = one(&two_mirrors());
    assert_eq!((pool.guid, pool.name.as_str(), pool.state), (7, "rpool", PoolState::Active));
    assert_eq!((pool.txg, pool.hostid, pool.hostname.as_deref()), (5, Some(5), Some("host")));
    assert_eq!(
        devices(&pool),
        [(101, Some("/dev/sda1")), (102, Some("/dev/sdb1")), (201, Some("/dev/sdc1")), (202, Some("/dev/sdd1"))]
    );
    assert_eq!((pool.missing().count(), pool.missing_tops()), (0, 0));
    assert_eq!(pool.problems, []);
    assert_eq!(pool.leaves[2].top_id, 1);
    assert_eq!(pool.leaves[2].kind, "disk");
    assert_eq!(slots(&pool), [mirror(0, 2), mirror(1, 2)]);
    let root = pool.config.list("vdev_tree").unwrap();
    assert_eq!((root.string("type"), root.u64("id"), root.u64("guid")), (Some(&b"root"[..]), Some(0), Some(7)));
    assert_eq!(pool.config.u64("pool_guid"), Some(7));
    assert_eq!(pool.config.u64("vdev_children"), Some(2));
    assert_eq!(pool.config.get("top_guid"), None);
    assert_eq!(NvList::decode(&pool.config.encode_native()).as_ref(), Ok(&pool.config));
}

#[test]
fn missing_members_and_slots() {
    let all = two_mirrors();
    let pool = one(&all[1..2]);
    assert_eq!(devices(&pool), [(101, None), (102, Some("/dev/sdb1"))]);
    assert_eq!(pool.missing_tops(), 1);
    assert_eq!(
        slots(&pool)[1],
        list([("type", Value::text("missing")), ("id", Value::U64(1)), ("guid", Value::U64(0))])
    );
}

#[test]
fn a_stale_member_does_not_override() {
    // sdb1 was away while a third disk joined the mirror and the pool was renamed.
    let mut all = two_mirrors();
    all[0] = seen("/dev/sda1", config(101, 90, 2, mirror(0, 3)));
    all[1] = with(all[1].clone(), "name", Value::text("old"));
    let pool = one(&all);
    assert_eq!((pool.name.as_str(), pool.txg), ("rpool", 90));
    assert_eq!(slots(&pool)[0], mirror(0, 3));
    // Its device is used all the same: the kernel brings it up to date.
    assert_eq!(devices(&pool)[..3], [(101, Some("/dev/sda1")), (102, Some("/dev/sdb1")), (103, None)]);
    assert_eq!(pool.problems, []);
}

#[test]
fn a_detached_half_drops_out() {
    let mut all = two_mirrors();
    let mut single = disk(0, 101);
    single.set("id", Value::U64(0));
    all[0] = seen("/dev/sda1", config(101, 90, 2, single.clone()));
    let pool = one(&all);
    assert_eq!(slots(&pool)[0], single);
    assert_eq!(devices(&pool)[0], (101, Some("/dev/sda1")));
    assert_eq!(pool.problems, [Problem::Outdated { device: "/dev/sdb1".into() }]);
    assert!(!pool.is_ambiguous());
}

#[test]
fn holes_and_slots_beyond_the_end() {
    let mut all = two_mirrors();
    all.push(seen("/dev/sde1", config(401, 3, 4, mirror(3, 1))));
    for member in &mut all[2..4] {
        Arc::make_mut(&mut member.label.config).set("hole_array", Value::U64Array(vec![0]));
    }
    let pool = one(&all);
    assert_eq!(pool.config.u64s("hole_array"), Some(&[0][..]));
    assert_eq!(slots(&pool).len(), 2);
    assert_eq!(slots(&pool)[0].string("type"), Some(&b"hole"[..]));
    assert_eq!(pool.missing_tops(), 0);
    assert_eq!(devices(&pool), [(201, Some("/dev/sdc1")), (202, Some("/dev/sdd1"))]);
}

#[test]
fn without_a_slot_count_the_highest_id_decides() {
    let mut member = seen("/dev/sda1", config(301, 4, 0, mirror(2, 1)));
    assert_eq!(slots(&one(&[member.clone()])).len(), 3);
    Arc::make_mut(&mut member.label.config).remove("vdev_children");
    assert_eq!(slots(&one(&[member.clone()])).len(), 3);
    let claimed = u64::MAX;
    let pool = one(&[with(member, "vdev_children", Value::U64(claimed))]);
    assert_eq!(slots(&pool).len(), 3);
    assert_eq!(pool.problems, [Problem::TooManyTops { claimed }]);
}

#[test]
fn copies_of_a_disk_are_reported() {
    let mut all = two_mirrors();
    all.push(Seen { device: "/dev/sdx1".into(), ..all[0].clone() });
    let pool = one(&all);
    assert!(pool.is_ambiguous());
    let devices = vec!["/dev/sda1".to_owned(), "/dev/sdx1".to_owned()];
    assert_eq!(pool.problems, [Problem::Duplicate { guid: 101, devices, taken: None }]);
    assert!(pool.problems[0].to_string().ends_with("detach all but one"));

    // The recorded path decides.
    let recorded = "/dev/disk/by-id/d101-part1";
    all[4].device = recorded.to_owned();
    let pool = one(&all);
    assert!(!pool.is_ambiguous());
    assert_eq!(pool.leaves[0].device.as_deref(), Some(recorded));
    assert!(matches!(pool.problems[..], [Problem::Duplicate { taken: Some(Taken::Recorded), .. }]));

    // What the machine was started from decides before that.
    all[0].started = true;
    let pool = one(&all);
    assert!(pool.started && !pool.is_ambiguous());
    assert_eq!(pool.leaves[0].device.as_deref(), Some("/dev/sda1"));
    assert!(matches!(pool.problems[..], [Problem::Duplicate { taken: Some(Taken::Started), .. }]));
    all[0].started = false;

    // An older copy is no rival.
    all[4] = with(Seen { device: "/dev/sdx1".into(), ..all[0].clone() }, "txg", Value::U64(2));
    let pool = one(&all);
    assert_eq!(pool.leaves[0].device.as_deref(), Some("/dev/sda1"));
    assert_eq!(pool.problems, [Problem::Outdated { device: "/dev/sdx1".into() }]);
}

#[test]
fn the_same_device_seen_twice_is_one() {
    let mut all = two_mirrors();
    all.extend(two_mirrors());
    assert_eq!(one(&all), one(&two_mirrors()));
}

#[test]
fn pools_are_sorted_and_destroyed_ones_flagged() {
    let other = |guid: u64, name: &str, state: u64| {
        let s = seen("/dev/sdz1", config(101, 4, 1, mirror(0, 1)));
        let s = with(s, "pool_guid", Value::U64(guid));
        with(with(s, "name", Value::text(name)), "state", Value::U64(state))
    };
    let pools = assemble(&[other(9, "tank", 2), other(8, "tank", 1), other(10, "apool", 0)]);
    let summary: Vec<_> = pools.iter().map(|p| (p.name.as_str(), p.guid, p.state)).collect();
    assert_eq!(
        summary,
        [("apool", 10, PoolState::Active), ("tank", 8, PoolState::Exported), ("tank", 9, PoolState::Destroyed)]
    );
}

#[test]
fn spares_and_caches_stand_apart() {
    let aux = |device: &str, guid: u64, state: u64| {
        seen(device, list([("version", Value::U64(5000)), ("state", Value::U64(state)), ("guid", Value::U64(guid))]))
    };
    let all = [aux("/dev/sdq1", 5, 4), aux("/dev/sdp1", 3, 3), aux("/dev/sdp1", 3, 3)];
    assert_eq!(assemble(&all), []);
    let found = |guid, device: &str, path: Option<&str>| Aux {
        guid,
        device: device.to_owned(),
        recorded_path: path.map(str::to_owned),
    };
    assert_eq!(aux_devices(&all), [found(3, "/dev/sdp1", None), found(5, "/dev/sdq1", None)]);
    let recorded = with(all[0].clone(), "path", Value::text("/dev/disk/by-id/cache-part1"));
    assert_eq!(aux_devices(&[recorded]), [found(5, "/dev/sdq1", Some("/dev/disk/by-id/cache-part1"))]);
    let hostile = with(all[0].clone(), "path", Value::text("/dev/\x1b[2J"));
    assert_eq!(aux_devices(&[hostile]), [found(5, "/dev/sdq1", None)]);
}

#[test]
fn a_changed_path_drops_what_described_the_old_one() {
    let mut pool = one(&two_mirrors());
    pool.set_paths(&[(102, "/dev/disk/by-id/d102-part1".to_owned())].into());
    assert_eq!(slots(&pool)[0], mirror(0, 2));
    pool.set_paths(&[(102, "/dev/sdb1".to_owned())].into());
    let changed = &slots(&pool)[0].lists("children").unwrap()[1];
    assert_eq!(changed.string("path"), Some(&b"/dev/sdb1"[..]));
    for gone in ["devid", "phys_path", "vdev_enc_sysfs_path"] {
        assert_eq!(changed.get(gone), None);
    }
    assert_eq!(slots(&pool)[0].lists("children").unwrap()[0], disk(0, 101));

    let mut reply =
        list([("spares", Value::ListArray(vec![disk(0, 5)])), ("l2cache", Value::ListArray(vec![disk(0, 6)]))]);
    assert!(set_leaf_path(&mut reply, 6, "/dev/sdq1"));
    assert!(!set_leaf_path(&mut reply, 7, "/dev/sdq1"));
    assert_eq!(reply.lists("l2cache").unwrap()[0].string("path"), Some(&b"/dev/sdq1"[..]));
}

#[test]
fn slots_without_devices_await_none() {
    let kinds = ["hole", "missing", "indirect", "dspare"];
    let children =
        kinds.map(|kind| list([("type", Value::text(kind)), ("guid", Value::U64(1)), ("id", Value::U64(0))]));
    let mut top = mirror(0, 0);
    top.set("children", Value::ListArray(children.to_vec()));
    assert_eq!(one(&[seen("/dev/sda1", config(101, 4, 1, top))]).leaves, []);
}

#[test]
fn malformed_members_are_named_and_left_out() {
    let mut all = two_mirrors();
    Arc::make_mut(&mut all[0].label.config).remove("vdev_tree");
    let deep = (0..18)
        .fold(disk(0, 102), |inner, _| list([("id", Value::U64(0)), ("children", Value::ListArray(vec![inner]))]));
    Arc::make_mut(&mut all[1].label.config).set("vdev_tree", Value::List(deep));
    Arc::make_mut(&mut all[2].label.config).list_mut("vdev_tree").unwrap().set("id", Value::U64(u64::MAX));
    let pool = one(&all);
    let malformed = |device: &str, what| Problem::Malformed { device: device.into(), what };
    // Newest first, then by device.
    assert_eq!(
        pool.problems,
        [
            malformed("/dev/sdc1", "impossible top-level id"),
            malformed("/dev/sda1", "no vdev tree"),
            malformed("/dev/sdb1", "vdev tree nested too deep"),
        ]
    );
    assert_eq!(devices(&pool), [(201, None), (202, Some("/dev/sdd1"))]);
    assert_eq!(assemble(&all[..1]), []);
}

#[test]
fn nothing_that_steers_a_terminal_is_shown() {
    let all: Vec<Seen> = two_mirrors().into_iter().map(|s| with(s, "hostname", Value::text("a\x1b[2Jb\n"))).collect();
    assert_eq!(one(&all).hostname.as_deref(), Some("a?[2Jb?"));
    assert!(
        assemble(&all.into_iter().map(|s| with(s, "name", Value::text("r\x1bpool"))).collect::<Vec<_>>()).is_empty()
    );
    let mut top = disk(0, 101);
    top.set("path", Value::text("/dev/disk/by-id/\x1b]0;x"));
    assert_eq!(one(&[seen("/dev/sda1", config(101, 5, 1, top))]).leaves[0].recorded_path, None);
}

/// Labels that contradict each other in every way the key space allows.
fn hostile_label() -> impl Strategy<Value = Seen> {
    let numbers = (0_u64..4, 0_u64..3, 0_u64..6, 0_u64..5, prop_oneof![0_u64..6, Just(u64::MAX), Just(MAX_TOPS)]);
    (numbers, 0_u8..6, vec(0_u64..6, 0..3), any::<bool>()).prop_map(
        |((txg, pool, guid, id, slots), device, holes, single)| {
            let id = if id == 4 { slots } else { id };
            let top = if single || id > 9 { disk(id, guid) } else { mirror(id, guid) };
            let mut config = config(guid + 100, txg, slots, top);
            config.set("pool_guid", Value::U64(pool));
            config.set("hole_array", Value::U64Array(holes));
            seen(&format!("/dev/sd{device}"), config)
        },
    )
}

#[test]
fn several_paths_to_one_disk_are_one_disk() {
    let at = |device: &str, place: Option<&str>| Seen {
        place: place.map(str::to_owned),
        ..seen(device, config(101, 4, 1, mirror(0, 1)))
    };
    let pool = one(&[at("/dev/sdb1", Some("w")), at("/dev/sda1", Some("w"))]);
    let (devices, taken) = (vec!["/dev/sda1".to_owned(), "/dev/sdb1".to_owned()], "/dev/sda1".to_owned());
    assert_eq!(pool.problems, [Problem::Paths { guid: 101, devices, taken }]);
    assert!(!pool.is_ambiguous() && pool.leaves[0].device.as_deref() == Some("/dev/sda1"));
    // The path that the pool records is kept.
    let recorded = "/dev/disk/by-id/d101-part1";
    let pool = one(&[at("/dev/sda1", Some("w")), at(recorded, Some("w"))]);
    assert_eq!(pool.leaves[0].device.as_deref(), Some(recorded));
    for other in [Some("v"), None] {
        assert!(one(&[at("/dev/sda1", Some("w")), at("/dev/sdb1", other)]).is_ambiguous(), "{other:?}");
    }
    assert!(one(&[at("/dev/sda1", None), at("/dev/sdb1", None)]).is_ambiguous());
}

#[test]
fn what_is_left_over_is_no_member_and_a_doubt_where_it_is_missed() {
    let left = |device: &str, guid| Seen {
        standing: Standing::Leftover("x".to_owned()),
        ..seen(device, config(guid, 4, 1, mirror(0, 2)))
    };
    let half = seen("/dev/sda1", config(101, 4, 1, mirror(0, 2)));
    assert!(assemble(&[left("/dev/sdb", 102)]).is_empty());
    let pool = one(&[left("/dev/sdb", 102), half.clone(), left("/dev/sdb", 102)]);
    assert_eq!(devices(&pool), [(101, Some("/dev/sda1")), (102, None)]);
    let text = "/dev/sdb was a disk of it and is something else now".to_owned();
    assert_eq!(pool.doubts, [Doubt { text, grave: true }]);
    // Of the disk that is there, there may be an old label as well.
    assert_eq!(one(&[left("/dev/sdb", 101), half.clone()]).doubts, []);
    let doubt = Doubt { text: "y".to_owned(), grave: false };
    let doubtful = Seen { standing: Standing::Doubtful(doubt.clone()), ..half };
    assert_eq!(one(&[doubtful]).doubts, [doubt]);
}

proptest! {
    #[test]
    fn only_the_set_of_labels_matters(
        (labels, shuffled) in vec(hostile_label(), 0..12).prop_flat_map(|l| (Just(l.clone()), Just(l).prop_shuffle())),
        again in any::<prop::sample::Index>(),
    ) {
        let pools = assemble(&labels);
        prop_assert_eq!(&assemble(&shuffled), &pools);
        let mut repeated = labels.clone();
        if let Some(more) = (!labels.is_empty()).then(|| labels[again.index(labels.len())].clone()) {
            repeated.push(more);
        }
        prop_assert_eq!(&assemble(&repeated), &pools);
        for pool in &pools {
            let slots = slots(pool);
            prop_assert!(slots.len() as u64 <= MAX_TOPS);
            for (at, slot) in slots.iter().enumerate() {
                prop_assert_eq!(slot.u64("id"), Some(at as u64));
            }
            prop_assert_eq!(NvList::decode(&pool.config.encode_native()), Ok(pool.config.clone()));
        }
    }

    /// Leaving devices out never changes what is said of those that stay, beyond what only the absent ones knew.
    #[test]
    fn omitted_members_are_missing(keep in vec(any::<bool>(), 4)) {
        let some: Vec<Seen> = two_mirrors().into_iter().zip(&keep).filter(|(_, k)| **k).map(|(s, _)| s).collect();
        let pools = assemble(&some);
        prop_assert_eq!(pools.is_empty(), some.is_empty());
        for pool in pools {
            prop_assert_eq!(slots(&pool).len(), 2);
            let found = pool.leaves.iter().filter(|l| l.device.is_some()).count();
            prop_assert_eq!(found, some.len());
            let whole_mirrors_away = keep.chunks(2).filter(|k| !k.contains(&true)).count() as u64;
            prop_assert_eq!(pool.missing_tops(), whole_mirrors_away);
        }
    }
}
