use super::store::{Memory, Mounted, Store};
use super::*;
use crate::initramfs::archive::Archive;
use crate::made::stub;
use crate::output::Cleanup;
use anyhow::bail;
use entry::Os;

fn recipe(loaders: &str) -> Recipe {
    Recipe {
        loaders: loaders.parse().unwrap(),
        cmdline: "root=zfs:AUTO ro".into(),
        os: Os { id: "kit".into(), title: "Kit".into() },
        timeout: 3,
        stub: stub(0x1000, &[(".text", &[1; 700])]),
        keys: None,
    }
}

/// An image with this id.
fn image(id: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    let config = ImageConfig { id: id.to_owned(), ..ImageConfig::default() };
    archive.file("/etc/taproot/image.conf", config.render().into_bytes(), "test").unwrap();
    archive.into_cpio(0, Vec::new()).unwrap()
}

fn put(store: &mut dyn Store, recipe: &Recipe, release: &str, id: &str, running: Option<&str>) -> Result<bool> {
    let (kernel, image) = (stub(0x1000, &[(".text", release.as_bytes())]), image(id));
    install(store, recipe, Kernel { release, kernel: kernel.into(), image: image.into() }, running)
}

/// What each loader would boot, in order: release and id of the image. Everything that a menu names must be there.
fn menus(store: &dyn Store, recipe: &Recipe) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    if recipe.loaders.uki {
        let mut names: Vec<String> =
            store.list(UKIS).unwrap().into_iter().filter(|name| name.strip_suffix(".efi").is_some()).collect();
        names.sort_by(|a, b| version(b, a));
        let boots = |name: &String| {
            let bytes = store.read(&format!("{UKIS}/{name}")).unwrap().unwrap();
            assert_eq!(uki::text(&bytes, ".cmdline").as_deref(), Some("root=zfs:AUTO ro"));
            (uki::text(&bytes, ".uname").unwrap(), image_id(uki::section(&bytes, ".initrd").unwrap()))
        };
        all.push(names.iter().map(boots).collect());
    }
    let id = |directory: &str| {
        assert!(store.size(&format!("{directory}/linux")).is_some(), "{directory}");
        image_id(&store.read(&format!("{directory}/initrd")).unwrap().unwrap())
    };
    if recipe.loaders.bls {
        let mut entries = entries(store, recipe).unwrap();
        entries.sort_by(|a, b| version(&b.version(), &a.version()));
        all.push(entries.iter().map(|entry| (entry.release.clone(), id(&entry.directory))).collect());
    }
    if recipe.loaders.grub {
        let menu = store.read("grub/grub.cfg").unwrap().unwrap_or_default();
        let menu = String::from_utf8(menu).unwrap();
        let kernels = menu.lines().filter_map(|line| line.trim().strip_prefix("linux /")?.split_once("/linux "));
        let boots = |(directory, words): (&str, &str)| {
            assert_eq!(words, "root=zfs:AUTO ro");
            let name = directory.strip_prefix("taproot/").unwrap();
            (name.rsplit_once('.').unwrap().0.to_owned(), id(directory))
        };
        all.push(kernels.map(boots).collect());
    }
    all
}

fn expect(store: &dyn Store, recipe: &Recipe, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    for menu in menus(store, recipe) {
        assert_eq!(menu, expected, "{}", recipe.loaders);
    }
}

#[test]
fn a_new_kernel_boots_first_and_the_image_before_stays_until_it_is_not_needed() {
    for loaders in ["uki", "bls", "grub", "bls+grub", "uki+grub"] {
        let (recipe, mut store) = (recipe(loaders), Memory::default());
        assert!(put(&mut store, &recipe, "6.9.1", "a", None).unwrap());
        expect(&store, &recipe, &[("6.9.1", "a")]);
        let before = store.clone();
        assert!(!put(&mut store, &recipe, "6.9.1", "a", None).unwrap());
        assert_eq!(store, before, "the same changes nothing");
        assert!(put(&mut store, &recipe, "6.10.0", "b", Some("a")).unwrap());
        expect(&store, &recipe, &[("6.10.0", "b"), ("6.9.1", "a")]);
        // A newer image of a kernel that has not booted, which is all there is of it, and then of the one that runs.
        put(&mut store, &recipe, "6.10.0", "c", Some("a")).unwrap();
        expect(&store, &recipe, &[("6.10.0", "c"), ("6.10.0", "b"), ("6.9.1", "a")]);
        put(&mut store, &recipe, "6.10.0", "d", Some("c")).unwrap();
        expect(&store, &recipe, &[("6.10.0", "d"), ("6.10.0", "c"), ("6.9.1", "a")]);
        put(&mut store, &recipe, "6.9.1", "e", Some("d")).unwrap();
        expect(&store, &recipe, &[("6.10.0", "d"), ("6.9.1", "e"), ("6.9.1", "a")]);
        assert!(remove(&mut store, &recipe, "6.9.1").unwrap() && !remove(&mut store, &recipe, "6.9.1").unwrap());
        expect(&store, &recipe, &[("6.10.0", "d")]);
        let left = store.files.keys().filter(|path| path.contains("6.9")).count();
        assert_eq!(left, 0, "{:?}", store.files.keys());
    }
}

#[test]
fn what_an_earlier_loader_boots_stays_there_and_what_a_cut_left_does_not() {
    let mut store = Memory::default();
    for release in ["6.1", "6.2"] {
        put(&mut store, &recipe("bls"), release, "a", None).unwrap();
    }
    store.write("EFI/Linux/taproot-6.0.new", b"half").unwrap();
    put(&mut store, &recipe("uki"), "6.2", "a", None).unwrap();
    expect(&store, &recipe("bls"), &[("6.2", "a"), ("6.1", "a")]);
    expect(&store, &recipe("uki"), &[("6.2", "a")]);
    assert_eq!(store.size("EFI/Linux/taproot-6.0.new"), None);
}

#[test]
fn without_room_everything_stays() {
    for loaders in ["uki", "bls", "grub"] {
        let (recipe, mut store) = (recipe(loaders), Memory::default());
        put(&mut store, &recipe, "6.1", "a", None).unwrap();
        store.limit = Some(150_000);
        let before = store.clone();
        let error = put(&mut store, &recipe, "6.2", "b", None).unwrap_err().to_string();
        assert!(error.contains("NO ROOM FOR KERNEL 6.2") && error.contains("taproot hooks add 6.2"), "{error}");
        assert_eq!(store, before);
    }
}

/// Fails at its n-th change, as if the power had gone.
struct Cut {
    store: Memory,
    left: usize,
}

impl Cut {
    fn step(&mut self) -> Result<&mut Memory> {
        if self.left == 0 {
            bail!("the power is gone");
        }
        self.left -= 1;
        Ok(&mut self.store)
    }
}

impl Store for Cut {
    fn list(&self, dir: &str) -> Result<Vec<String>> {
        self.store.list(dir)
    }
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.store.read(path)
    }
    fn size(&self, path: &str) -> Option<u64> {
        self.store.size(path)
    }
    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.step()?.write(path, bytes)
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.step()?.rename(from, to)
    }
    fn remove(&mut self, path: &str) -> Result<()> {
        self.step()?.remove(path)
    }
    fn free(&self) -> Result<u64> {
        self.store.free()
    }
    fn shown(&self) -> String {
        self.store.shown()
    }
}

#[test]
fn every_power_cut_leaves_menus_that_boot_and_the_next_run_ends_the_same() {
    for loaders in ["uki", "bls", "grub", "uki+bls+grub"] {
        let recipe = recipe(loaders);
        let mut start = Memory::default();
        put(&mut start, &recipe, "6.1", "a", None).unwrap();
        put(&mut start, &recipe, "6.1", "b", None).unwrap();
        let mut whole = start.clone();
        put(&mut whole, &recipe, "6.1", "c", Some("b")).unwrap();
        let mut cuts = 0;
        for left in 0.. {
            let mut cut = Cut { store: start.clone(), left };
            let done = put(&mut cut, &recipe, "6.1", "c", Some("b")).is_ok();
            for menu in menus(&cut.store, &recipe) {
                let first = menu.first().map(|(_, id)| id.as_str());
                assert!(matches!(first, Some("b" | "c")), "{loaders}, {left}: {menu:?}");
            }
            put(&mut cut.store, &recipe, "6.1", "c", Some("b")).unwrap();
            expect(
                &cut.store,
                &recipe,
                &menus(&whole, &recipe)[0].iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(),
            );
            if done {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 3, "{cuts}");
    }
}

#[test]
fn another_command_line_reaches_everything() {
    let (mut recipe, mut store) = (recipe("uki+bls+grub"), Memory::default());
    for id in ["a", "b"] {
        put(&mut store, &recipe, "6.1", id, None).unwrap();
    }
    recipe.cmdline = "root=zfs:AUTO resume=UUID=1".into();
    refresh(&mut store, &recipe).unwrap();
    for (path, bytes) in &store.files {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let named = path.contains("taproot-") || path.ends_with("grub.cfg");
        assert_eq!(named, text.contains("resume=UUID=1"), "{path}");
        assert!(!text.contains("AUTO ro"), "{path}");
    }
}

#[test]
fn a_mounted_one_is_the_same_as_one_in_memory() {
    let (recipe, dir) = (recipe("uki+bls+grub"), tempfile::tempdir().unwrap());
    let (mut memory, mut mounted) = (Memory::default(), Mounted::new(dir.path(), &Cleanup::default()));
    std::fs::create_dir_all(dir.path().join("loader")).unwrap();
    std::fs::write(dir.path().join("loader/loader.conf"), "timeout 9\n").unwrap();
    for store in [&mut memory as &mut dyn Store, &mut mounted] {
        for (release, id, running) in [("6.1", "a", None), ("6.2", "b", Some("a")), ("6.1", "c", Some("a"))] {
            put(store, &recipe, release, id, running).unwrap();
        }
        remove(store, &recipe, "6.2").unwrap();
    }
    for (path, bytes) in &memory.files {
        let found = std::fs::read(dir.path().join(path)).unwrap();
        if path == LOADER_CONF {
            assert_eq!(found, b"timeout 9\n", "the owner's");
        } else {
            assert!(found == *bytes, "{path}");
        }
    }
    let find = std::process::Command::new("find").arg(dir.path()).args(["-type", "f"]).output().unwrap();
    assert_eq!(String::from_utf8(find.stdout).unwrap().lines().count(), memory.files.len());
}
