use super::*;
use taproot_init::report::boot::BootReport;

/// What the boot writes is what is read here.
#[test]
fn round_trip() {
    let mut odd = Dataset::with_defaults("tank/ROOT/a");
    odd.kind = Kind::Volume;
    odd.canmount = CanMount::NoAuto;
    odd.mountpoint = Mountpoint::Path("/".into());
    odd.zol_mountpoint = Some("/x".into());
    (odd.readonly, odd.atime, odd.relatime, odd.devices) = (true, false, false, false);
    (odd.exec, odd.setuid, odd.nbmand, odd.zoned) = (false, false, true, true);
    odd.key_available = Some(false);
    odd.encryption_root = Some("tank/ROOT".into());
    odd.key_location = Some("file:///k".into());
    odd.mountpoint_of = Some("tank/ROOT".into());
    (odd.received, odd.overlay) = (true, false);
    odd.contexts = vec![("context".into(), "u:r,\"".into())];
    let mut legacy = Dataset::with_defaults("tank/b");
    (legacy.mountpoint, legacy.canmount) = (Mountpoint::Legacy, CanMount::Off);
    let mut none = Dataset::with_defaults("tank/c");
    none.mountpoint = Mountpoint::None;
    let pools = vec![
        PoolFact {
            bootfs: Some("tank/ROOT/a".into()),
            health: Health::Degraded,
            problem: Some("p".into()),
            exported: true,
            hostid: u32::MAX,
            hostname: Some("h".into()),
            destroyed: true,
            foreign: Some("f".into()),
            missing_log: Some("l".into()),
            unwritable: Some("u".into()),
            started: true,
            ..PoolFact::named("tank", u64::MAX)
        },
        PoolFact { health: Health::Unavailable, bootfs_unknown: true, ..PoolFact::named("b", 1) },
    ];
    let report = BootReport {
        version: "1".into(),
        zfs: Some("2.3".into()),
        request: Some(taproot_init::cmdline::parse(b"root=\"ZFS=tank/a b\" ro -- single")),
        pools: pools.clone(),
        root: Some("tank/ROOT/a".into()),
        init: Some("/sbin/init".into()),
        expected: vec![ExpectedPool { name: "tank".into(), guid: 9, vdevs: vec!["/dev/a b".into()] }],
        expected_root: Some(ExpectedRoot { source: "UUID=1-2".into(), fstype: "ext4".into() }),
        datasets: vec![odd, legacy, none, Dataset::with_defaults("tank/d")],
        fstab: fstab::parse(b"# c\ntank/b /b\\040c zfs noauto,nofail 0 0\n"),
        places: [("/lib".to_owned(), "/usr/lib".to_owned())].into(),
        ..BootReport::default()
    };
    let facts = Facts::from_json(&report.to_json(), "boot.json").unwrap();
    assert_eq!(facts.source, "boot.json (taproot-init 1, OpenZFS 2.3)");
    assert_eq!(facts.words.as_deref(), Some("root=\"ZFS=tank/a b\" ro"));
    assert_eq!(facts.known.pools, pools);
    assert_eq!((facts.known.expected, facts.packed), (report.expected, report.expected_root));
    assert_eq!(facts.known.datasets, report.datasets);
    let root = facts.known.roots.get("tank/ROOT/a").unwrap();
    assert_eq!(root.places, report.places);
    assert_eq!((root.fstab.as_ref(), root.init.as_deref()), (Some(&report.fstab), Some("/sbin/init")));
    assert_eq!(facts.root, report.root);
    assert!(facts.remarks.is_empty());
}

#[test]
fn a_pool_that_was_not_opened_is_taken_for_good() {
    let problem = Some(NOT_OPENED.to_owned());
    let pools = vec![PoolFact { health: Health::Unavailable, problem, ..PoolFact::named("other", 5) }];
    let facts = Facts::from_json(&BootReport { pools, ..BootReport::default() }.to_json(), "f").unwrap();
    assert_eq!(facts.known.pools, [PoolFact { bootfs_unknown: true, ..PoolFact::named("other", 5) }]);
    assert!(facts.remarks[0].contains("did not open pool other"));
}

#[test]
fn what_is_no_record_is_refused() {
    for (text, part) in [
        ("", "expected the boot.json"),
        ("[]", "expected the boot.json"),
        ("{\"format\": 2}", "format 2 is not known"),
        ("{\"format\": 1, \"pools\": [{\"name\": \"a\", \"guid\": \"x\", \"health\": \"online\"}]}", "not a guid"),
        ("{\"format\": 1, \"pools\": [{\"name\": \"a\", \"guid\": \"1\", \"health\": \"fine\"}]}", "no state"),
    ] {
        let error = format!("{:#}", Facts::from_json(text, "f").unwrap_err());
        assert!(error.contains(part) && error.starts_with('f'), "{text}: {error}");
    }
    assert!(Facts::from_json("{\"format\": 1, \"future\": 1}", "f").unwrap().words.is_none());
}
