//! `/init` of the smallest image that boots a kit system (`tests/src/minimal.rs` packs it): `make bench` compares with it.
//!
//! It is told everything, decides nothing and says nothing: modules, the pool's only disk, TRYIMPORT, IMPORT, mounts,
//! hand-over. What its kernel does at the same time as something else, it does at the same time too.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use taproot_init::devices::loader::{self, Insertion, Loader};
use taproot_init::devices::table::{Module, ModuleTable, TABLE_PATH};
use taproot_init::sys::device::BlockFile;
use taproot_init::sys::linux::Linux;
use taproot_init::sys::{System, kmod};
use taproot_init::zfs::assemble::{Seen, assemble};
use taproot_init::zfs::ioctl::{ImportFlags, Zfs};
use taproot_init::zfs::label::{Label, read_labels};
use taproot_init::zfs::nvlist::{NvList, Value};

/// What it is told: `PLAN_PATH` in `tests/src/minimal.rs`, which is not linked in.
const PLAN_PATH: &str = "/plan";
/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/newroot";
/// For everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for the disk.
const TICK: Duration = Duration::from_millis(1);

fn main() {
    if let Err(why) = boot() {
        let _ = fs::write("/dev/kmsg", format!("<3>minimal-init: {why}\n"));
    }
    // The kernel does without no init; whoever waits for the hand-over sees the line.
    loop {
        std::thread::park();
    }
}

fn boot() -> Result<(), Box<dyn Error>> {
    let system = Linux::new();
    for (fstype, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        system.mount(fstype, Path::new(at), fstype, 0, "")?;
    }
    let deadline = Instant::now() + PATIENCE;
    let table = ModuleTable::parse(&fs::read_to_string(TABLE_PATH)?)?;
    let loader = Loader::new(table, &[], &[], prepare, |_, _| ());
    loader.start_boot();

    let plan = fs::read_to_string(PLAN_PATH)?;
    let mut lines = plan.lines();
    let node = lines.next().ok_or("no disk in the plan")?;
    let label = label_of(Path::new(node), deadline)?;
    let paths: BTreeMap<u64, String> = label.guid().map(|guid| (guid, node.to_owned())).into_iter().collect();
    let mut pool = assemble(&[Seen::sound(node.to_owned(), label)]).pop().ok_or("no pool on the disk")?;
    pool.set_paths(&paths);
    loader.wait("zfs", deadline)?;

    let zfs = Zfs::new(&system);
    let config = zfs.try_import(&pool.name, &pool.config)?;
    let properties: NvList = [("cachefile", Value::text("none"))].into_iter().collect();
    zfs.import(&pool.name, pool.guid, &config, &properties, ImportFlags::default()).map_err(|e| e.error)?;
    for line in lines {
        let mut words = line.split('\t');
        let mut word = || words.next().ok_or_else(|| format!("{PLAN_PATH}: {line:?}"));
        let (dataset, target, options) = (word()?, word()?, word()?);
        let target = Path::new(NEW_ROOT).join(target.trim_start_matches('/'));
        system.make_dirs(&target)?;
        system.mount(dataset, &target, "zfs", 0, options)?;
    }
    let init = Path::new("/sbin/init");
    let now = system.now().as_secs_f64();
    system.kmsg(&format!("<6>taproot: handing over to {} {now:.3} s after the kernel started\n", init.display()))?;
    system.hand_over(Path::new(NEW_ROOT), init, &[])?;
    Ok(())
}

fn prepare(module: &Module) -> io::Result<Insertion> {
    let (prepared, module) = (kmod::prepare(Path::new(&module.path))?, module.clone());
    Ok(Box::new(move |params| prepared.insert(&loader::insertion(&module, params))))
}

/// The labels of a disk, as soon as it is there.
fn label_of(node: &Path, deadline: Instant) -> Result<Label, Box<dyn Error>> {
    let disk = loop {
        match BlockFile::open(node) {
            Ok(disk) => break disk,
            Err(_) if Instant::now() < deadline => std::thread::sleep(TICK),
            Err(e) => return Err(e.into()),
        }
    };
    let name = node.file_name().unwrap_or_default();
    let sectors: u64 = fs::read_to_string(Path::new("/sys/class/block").join(name).join("size"))?.trim().parse()?;
    Ok(read_labels(&mut |offset, buf| disk.read_at(offset, buf), sectors * 512)?)
}
