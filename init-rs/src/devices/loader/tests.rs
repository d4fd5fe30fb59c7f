use super::*;
use nix::errno::Errno;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

fn module(name: &str, when: When, deps: &[&str], soft: &[&str]) -> Module {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Module {
        name: name.into(),
        path: format!("/lib/modules/{name}.ko"),
        when,
        deps: owned(deps),
        soft: owned(soft),
        params: String::new(),
    }
}

fn table(modules: Vec<Module>) -> ModuleTable {
    ModuleTable { modules, ..ModuleTable::default() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A loader that notes the order of insertions; modules in `failing` give that errno.
fn noting(table: ModuleTable, failing: &'static [(&'static str, Errno)]) -> (Loader, Arc<Mutex<Vec<String>>>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&order);
    let insert = move |m: &Module, params: &str| {
        note.lock().unwrap().push(if params.is_empty() { m.name.clone() } else { format!("{} {params}", m.name) });
        match failing.iter().find(|(name, _)| *name == m.name) {
            Some((_, errno)) => Err(io::Error::from(*errno)),
            None => Ok(()),
        }
    };
    (Loader::with_loaded(table, &[], &[], &[], insert, |_, _| ()), order)
}

#[test]
fn loads_what_it_needs_first_and_each_once() {
    let (loader, order) = noting(
        table(vec![
            module("spl", When::Device, &[], &[]),
            module("zlib", When::Device, &[], &[]),
            module("zfs", When::Boot, &["spl"], &["zlib", "not_packed"]),
            module("unwanted", When::Device, &[], &[]),
        ]),
        &[],
    );
    loader.start_boot();
    loader.start_boot();
    loader.wait("zfs", soon()).unwrap();
    assert!(loader.wait_settled(soon()) && loader.settled());
    let order = order.lock().unwrap().clone();
    assert_eq!(order.len(), 3);
    assert_eq!(order[2], "zfs");
    assert_eq!(loader.report().len(), 3);
    assert_eq!(loader.requests(), 1);
    assert!(loader.shutdown(Duration::from_secs(5)).is_empty());
}

#[test]
fn slow_module_does_not_hold_up_others() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let insert = move |m: &Module, _: &str| {
        if m.name == "zfs" {
            let _ = held.lock().unwrap().recv();
        }
        Ok(())
    };
    let modules = vec![
        module("zfs", When::Boot, &[], &[]),
        module("virtio_blk", When::Device, &[], &[]),
        module("after_zfs", When::Boot, &["zfs"], &[]),
    ];
    let mut table = table(modules);
    table.aliases.push(("virtio:d2*".into(), "virtio_blk".into()));
    let loader = Loader::with_loaded(table, &[], &[], &[], insert, |_, _| ());
    loader.start_boot();
    loader.request_modalias("virtio:d2v1\n");
    loader.wait("virtio_blk", soon()).unwrap();
    assert!(!loader.settled());
    assert!(!loader.wait_settled(Instant::now() + Duration::from_millis(20)));

    let late = loader.wait("after_zfs", Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(late.to_string().contains("waits for zfs"), "{late}");
    let late = loader.wait("zfs", Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(late.to_string().contains("initialisation"), "{late}");
    assert_eq!(loader.pending().len(), 2);

    release.send(()).unwrap();
    loader.wait("after_zfs", soon()).unwrap();
    let zfs = loader.report().into_iter().find(|l| l.name == "zfs").unwrap();
    assert!(zfs.took >= Duration::from_millis(40));
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn stuck_module_does_not_hold_up_shutdown() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let insert = move |_: &Module, _: &str| {
        let _ = held.lock().unwrap().recv();
        Ok(())
    };
    let modules = vec![module("stuck", When::Boot, &[], &[]), module("next", When::Boot, &["stuck"], &[])];
    let loader = Loader::with_loaded(table(modules), &[], &[], &[], insert, |_, _| ());
    loader.start_boot();
    while !loader.pending().iter().any(|(_, state)| state.contains("initialisation")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let begun = Instant::now();
    assert_eq!(loader.shutdown(Duration::from_millis(50)), ["stuck"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(loader.wait("next", soon()), Err(LoadError::Stopped { .. })));
    loader.request_name("next");
    drop(release);
}

/// The kernel ends an insertion only when everything that probes in the background is through; what needs the module need
/// not wait for that.
#[test]
fn live_is_loaded_and_stuck_drivers_leave_threads_for_others() {
    let sys = tempfile::tempdir().unwrap();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let stuck: Vec<String> = (0..20).map(|n| format!("driver{n}")).collect();
    let mut modules: Vec<Module> = stuck.iter().map(|name| module(name, When::Boot, &[], &[])).collect();
    modules.push(module("libahci", When::Device, &[], &[]));
    modules.push(module("ahci", When::Device, &["libahci"], &[]));
    let insert = move |m: &Module, _: &str| {
        if m.name != "ahci" {
            let _ = held.lock().unwrap().recv();
        }
        Ok(())
    };
    let loader = Loader::with_loaded(table(modules), &[], &[], &[], insert, |_, _| ());
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    loader.tell(move |name, state, took| notes.lock().unwrap().push((name.to_owned(), state.clone(), took.is_some())));
    loader.start_boot();
    loader.request_name("ahci");
    assert!(!loader.look_for_live(sys.path()));
    std::fs::create_dir_all(sys.path().join("module/libahci")).unwrap();
    std::fs::write(sys.path().join("module/libahci/initstate"), "live\n").unwrap();
    let begun = Instant::now();
    while loader.wait("ahci", Instant::now() + Duration::from_millis(10)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", loader.pending());
        loader.look_for_live(sys.path());
    }
    assert!(loader.inserting() && !loader.settled());
    let of = |name: &str| told.lock().unwrap().iter().filter(|t| t.0 == name).cloned().collect::<Vec<_>>();
    let name = || "libahci".to_owned();
    assert_eq!(of("libahci"), [(name(), known::Module::Starting, false), (name(), known::Module::Ready, true)]);
    drop(release);
    assert!(loader.wait_settled(soon()));
    assert_eq!(of("libahci").len(), 2, "its late return is nothing new");
    assert_eq!(loader.report().iter().filter(|m| m.name == "libahci").count(), 1);
}

#[test]
fn failing_dependency_fails_and_failing_softdep_does_not() {
    let (loader, order) = noting(
        table(vec![
            module("bad", When::Device, &[], &[]),
            module("needs", When::Device, &["bad"], &[]),
            module("needs_needs", When::Device, &["needs"], &[]),
            module("likes", When::Device, &[], &["bad", "needs"]),
        ]),
        &[("bad", Errno::ENOEXEC)],
    );
    let err = loader.wait("needs_needs", soon()).unwrap_err();
    let text = err.to_string();
    assert!(text.contains("needs_needs") && text.contains("bad") && text.contains("another kernel"), "{text}");
    loader.wait("likes", soon()).unwrap();
    // Asked again, after the end: the same answer, and no second try.
    assert_eq!(loader.wait("needs_needs", soon()).unwrap_err(), err);
    assert_eq!(*order.lock().unwrap(), ["bad", "likes"]);
    let bad = loader.wait("bad", soon()).unwrap_err();
    assert_eq!(bad.errno(), Some(Errno::ENOEXEC));
    assert!(bad.to_string().contains("ENOEXEC"), "{bad}");
    assert_eq!(loader.report().len(), 4);
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn errors_say_what_to_do() {
    for (errno, word) in [
        (Errno::ENOKEY, "Secure Boot"),
        (Errno::EKEYREJECTED, "Secure Boot"),
        (Errno::EPERM, "module_blacklist"),
        (Errno::ENOENT, "symbol"),
        (Errno::EINVAL, "parameter"),
        (Errno::EOPNOTSUPP, "uncompressed"),
    ] {
        let err = LoadError::insert("x", &errno.into(), &[]);
        assert!(err.to_string().contains(word), "{err}");
    }
    let err = LoadError::insert("x", &Errno::ENOENT.into(), &["libx".to_owned()]);
    assert!(err.to_string().contains("libx, which this image does not have"), "{err}");
    let none = LoadError::insert("x", &io::Error::other("odd"), &[]);
    assert_eq!(none.errno(), None);
}

#[test]
fn unknown_modules() {
    let (loader, order) = noting(table(vec![module("a", When::Device, &["nowhere"], &[])]), &[]);
    assert_eq!(loader.request_name("nowhere"), None);
    let err = loader.wait("not-anywhere-at-all", soon()).unwrap_err();
    assert!(matches!(err, LoadError::NotPacked { .. }), "{err}");
    // It may be built in: only the kernel knows, so it is tried.
    loader.wait("a", soon()).unwrap();
    assert_eq!(*order.lock().unwrap(), ["a"]);
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn loaded_already() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let insert = move |_: &Module, _: &str| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let modules = vec![module("spl", When::Boot, &[], &[]), module("z_fs", When::Boot, &["spl"], &[])];
    let loader = Loader::with_loaded(table(modules), &[], &[], &["spl".into(), "other".into()], insert, |_, _| ());
    loader.start_boot();
    loader.wait("z-fs", soon()).unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 1);
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn proc_modules() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "zfs 5 1 - Live 0x0 (POE)\nspl 5 1 zfs, Live 0x0\nslow 5 1 - Loading 0x0\n";
    std::fs::write(file.path(), text).unwrap();
    assert_eq!(loaded_modules(file.path()), ["spl", "zfs"]);
    assert!(loaded_modules(Path::new("/nonexistent")).is_empty());
    std::fs::write(file.path(), "short\n").unwrap();
    assert!(loaded_modules(file.path()).is_empty());
}

#[test]
fn parameters_in_order_and_blacklist() {
    let mut zfs = module("zfs", When::Boot, &[], &[]);
    zfs.params = "zfs_arc_max=1".into();
    let mut table = table(vec![zfs, module("snd_hda", When::Device, &[], &[])]);
    table.aliases.push(("pci:*".into(), "snd_hda".into()));
    let option = |m: &str, p: &str, v: Option<&str>| (m.to_owned(), p.to_owned(), v.map(str::to_owned));
    let options = [
        option("zfs", "zfs_arc_max", Some("2")),
        option("snd-hda", "enable", None),
        option("zfs", "name", Some("a b")),
        option("other", "x", Some("1")),
    ];
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&order);
    let insert = move |m: &Module, params: &str| {
        note.lock().unwrap().push(format!("{}: {params}", m.name));
        Ok(())
    };
    let loader = Loader::with_loaded(table, &options, &["snd-hda".into()], &[], insert, |_, _| ());
    loader.start_boot();
    loader.request_modalias("pci:v1");
    loader.request_modalias("pci:v1");
    assert!(loader.wait_settled(soon()));
    assert_eq!(*order.lock().unwrap(), ["zfs: zfs_arc_max=1 zfs_arc_max=2 name=\"a b\""]);
    assert_eq!(loader.unmatched(), ["pci:v1"]);
    // By name it loads all the same.
    loader.wait("snd_hda", soon()).unwrap();
    assert_eq!(order.lock().unwrap()[1], "snd_hda: enable");
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn parameters_that_are_refused_do_not_keep_a_module_away() {
    let mut spl = module("spl", When::Boot, &[], &[]);
    spl.params = "spl_hostid=0x11 spl_panic_halt=often".into();
    let options = [("spl".to_owned(), "spl_kmem_cache_reclaim".to_owned(), Some("4G".to_owned()))];
    let (tried, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (note, log) = (Arc::clone(&tried), Arc::clone(&told));
    let insert = move |_: &Module, params: &str| {
        note.lock().unwrap().push(params.to_owned());
        if params == "spl_hostid=0x11" { Ok(()) } else { Err(io::Error::from(Errno::EINVAL)) }
    };
    let log = move |level: Level, text: String| {
        if level == Level::Warning {
            log.lock().unwrap().push(text);
        }
    };
    let loader = Loader::with_loaded(table(vec![spl]), &options, &[], &[], insert, log);
    loader.start_boot();
    loader.wait("spl", soon()).unwrap();
    let tried = tried.lock().unwrap().clone();
    assert_eq!(tried, ["spl_hostid=0x11 spl_panic_halt=often spl_kmem_cache_reclaim=4G", "spl_hostid=0x11"]);
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in [
        "module spl",
        "spl_panic_halt=often (from modprobe.d",
        "spl_kmem_cache_reclaim=4G (from the kernel command line)",
    ] {
        assert!(told[0].contains(part), "{part} is not in {}", told[0]);
    }
}

/// A load that another process began and did not end well makes the kernel say EBUSY to the next one, once; a module that
/// is busy for good is given up.
#[test]
fn busy_is_tried_again_for_a_while() {
    let tries = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&tries);
    let insert = move |m: &Module, params: &str| {
        let mut tries = note.lock().unwrap();
        tries.push(format!("{} {params}", m.name));
        let before = tries.iter().filter(|t| t.starts_with(&m.name)).count();
        match (m.name.as_str(), before) {
            ("xfs", 1) => Err(io::Error::from(Errno::EINTR)),
            ("xfs", 2) | ("held", _) => Err(io::Error::from(Errno::EBUSY)),
            _ => Ok(()),
        }
    };
    let mut xfs = module("xfs", When::Boot, &[], &[]);
    xfs.params = "a=1".into();
    let modules = vec![xfs, module("held", When::Device, &[], &[]), module("user", When::Device, &["xfs"], &[])];
    let loader = Loader::with_loaded(table(modules), &[], &[], &[], insert, |_, _| ());
    loader.wait("user", soon()).unwrap();
    let of = |name: &str| tries.lock().unwrap().iter().filter(|t| t.starts_with(name)).cloned().collect::<Vec<_>>();
    assert_eq!(of("xfs"), ["xfs a=1"; 3], "with its parameters, and no more often than needed");
    let held = loader.wait("held", soon()).unwrap_err();
    assert_eq!(held.errno(), Some(Errno::EBUSY));
    assert!((2..20).contains(&of("held").len()), "{:?}", of("held"));
    loader.shutdown(Duration::from_secs(5));
}

#[test]
fn circles_end() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&warnings);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&order);
    let insert = move |m: &Module, _: &str| {
        note.lock().unwrap().push(m.name.clone());
        Ok(())
    };
    let modules = vec![
        module("self", When::Boot, &["self"], &["self"]),
        module("a", When::Boot, &["b"], &[]),
        module("b", When::Boot, &["c"], &[]),
        module("c", When::Boot, &["a"], &[]),
        module("x", When::Boot, &["y"], &[]),
        module("y", When::Boot, &[], &["x"]),
    ];
    let log = move |level, _| {
        if level == Level::Warning {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    };
    let loader = Loader::with_loaded(table(modules), &[], &[], &[], insert, log);
    loader.start_boot();
    assert!(loader.wait_settled(soon()));
    assert_eq!(loader.report().len(), 6);
    assert_eq!(warnings.load(Ordering::SeqCst), 2);
    let order = order.lock().unwrap();
    let at = |name: &str| order.iter().position(|n| n == name).unwrap();
    // The soft edge gives way, not the hard one.
    assert!(at("y") < at("x"), "{order:?}");
    loader.shutdown(Duration::from_secs(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any graph, with circles, repeats, unknown names and failures: everything ends, each at most once, and nothing
    /// is inserted before what it waits for.
    #[test]
    fn any_table_settles(
        edges in proptest::collection::vec((0_usize..12, 0_usize..14, any::<bool>()), 0..40),
        failing in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let mut modules: Vec<Module> = (0..12).map(|i| module(&format!("m{i}"), When::Boot, &[], &[])).collect();
        for (from, to, hard) in &edges {
            let list = if *hard { &mut modules[*from].deps } else { &mut modules[*from].soft };
            list.push(format!("m{to}"));
        }
        let table = table(modules);
        let graph = Graph::new(&table);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&order);
        let insert = move |m: &Module, _: &str| {
            let index: usize = m.name[1..].parse().unwrap();
            note.lock().unwrap().push(index);
            if failing[index] { Err(io::Error::from(Errno::EINVAL)) } else { Ok(()) }
        };
        let loader = Loader::with_loaded(table, &[], &[], &[], insert, |_, _| ());
        loader.start_boot();
        prop_assert!(loader.wait_settled(soon()));
        let report = loader.report();
        prop_assert_eq!(report.len(), 12);
        let ended = |i: usize| report.iter().position(|l| l.name == format!("m{i}")).unwrap();
        for (i, edges) in graph.before.iter().enumerate() {
            let inserted = !matches!(report[ended(i)].result, Err(LoadError::Dependency { .. }));
            for edge in edges {
                if inserted {
                    prop_assert!(ended(edge.to) < ended(i));
                    prop_assert!(!edge.hard || report[ended(edge.to)].result.is_ok());
                }
            }
            prop_assert_eq!(order.lock().unwrap().iter().filter(|&&o| o == i).count(), usize::from(inserted));
        }
        prop_assert!(loader.shutdown(Duration::from_secs(5)).is_empty());
    }
}

/// Printed, not asserted: `cargo test -p taproot-init --release devices::loader -- --nocapture figures`.
#[test]
fn figures() {
    let mut modules: Vec<Module> = (0..200).map(|i| module(&format!("m{i}"), When::Device, &[], &[])).collect();
    for (i, module) in modules.iter_mut().enumerate().skip(1) {
        module.deps.push(format!("m{}", i / 2));
    }
    let mut table = table(modules);
    table.aliases =
        (0..5000).map(|i| (format!("pci:v{:08X}d{i:08X}sv*sd*bc*sc*i*", i % 9), format!("m{}", i / 25))).collect();
    let text = table.render();
    let begun = Instant::now();
    let table = ModuleTable::parse(&text).unwrap();
    let parsed = begun.elapsed();
    let loader = Loader::with_loaded(table, &[], &[], &[], |_, _| Ok(()), |_, _| ());
    let made = begun.elapsed();
    for i in 0..400 {
        loader.request_modalias(&format!("pci:v{:08X}d{:08X}sv1sd1bc01sc06i01", i * 12 % 9, i * 12));
    }
    let asked = begun.elapsed();
    assert!(loader.wait_settled(soon()));
    println!(
        "table of {} KB parsed in {parsed:?}; loader made by {made:?}, 400 devices asked by {asked:?}, {} modules by {:?}",
        text.len() / 1024,
        loader.report().len(),
        begun.elapsed()
    );
    loader.shutdown(Duration::from_secs(5));
}
