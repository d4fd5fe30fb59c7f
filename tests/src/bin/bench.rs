//! `make bench`: how long a boot takes up to the hand-over, phase by phase, and what the image costs; with ratios to the floor.
//!
//! The floor is what nobody can avoid: the kernel up to `/init` of an image that holds nothing, the module initialisation of
//! OpenZFS, the kernel's part of the import, and mount(2). The minimal boot (`tests/src/minimal.rs`) is as near to it as a boot
//! can come. `BENCH_RUNS` (default 3) rounds, in each one boot of every kind; of each figure the smallest of all rounds is
//! shown, because on a shared machine only interference makes one larger. Ends with 1 when a limit is missed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Bus, Report, Running, Scratch, Vm, accel};
use taproot_tests::{checkout, image, kit, minimal, silent};

/// Hand-over at most this much later than the floor.
const LIMIT_BOOT: f64 = 1.05;
/// Megabytes of the generic image with the small rescue set.
const LIMIT_SIZE: f64 = 13.5;
/// Hand-over with 10 000 more datasets and their snapshots in the pool, in hand-overs of the same pool without them; both
/// without IMPORT, in which the kernel opens every dataset whoever asks for it.
const LIMIT_LARGE: f64 = 2.0;
/// Our way from the first label to the imported pool, in runs of the stock `zpool import -N` of the same pool.
const LIMIT_IMPORT: f64 = 1.05;
/// Seconds that the hand-over from a pool of 60 disks may come later than from one of two, each counted from when the kernel has
/// its disks and zfs, TRYIMPORT and IMPORT left out: the kernel finds and opens disk after disk, whoever asks it to.
const LIMIT_MANY: f64 = 0.3;
/// Seconds that a disk that hardly answers, and that nobody needs, may put off the hand-over.
const LIMIT_SILENT: f64 = 2.0;
/// Seconds between the line that tells of the hand-over and the real init's first instruction.
const LIMIT_EXEC: f64 = 0.2;
/// What the kernel prints when it starts the `/init` of an initramfs.
const RUN_INIT: &str = "Run /init as init process";
/// Seconds to pack it.
const LIMIT_PACK: f64 = 1.0;

/// What was measured against a limit.
#[derive(Debug, Default)]
struct Limits {
    missed: RefCell<Vec<String>>,
}

impl Limits {
    /// The note on one figure; a limit that is missed is remembered.
    fn verdict(&self, what: &str, good: bool, limit: &str) -> String {
        if !good {
            self.missed.borrow_mut().push(format!("{what} ({limit})"));
        }
        format!("({limit}: {})", if good { "kept" } else { "MISSED" })
    }
}

fn main() -> Result<ExitCode> {
    let limits = Limits::default();
    let runs: usize = std::env::var("BENCH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(3).max(1);
    let names = std::env::var("TAPROOT_SYSTEM").map_or_else(|_| SYSTEMS.map(str::to_owned).to_vec(), |name| vec![name]);
    println!("QEMU with {}; fastest of {runs} runs each", accel()?.argument());
    for name in names {
        let system = System::open(&name)?;
        let scratch = Scratch::new()?;
        println!("\n== {name}: kernel {}, OpenZFS {}", system.kernel, system.zfs);
        // With the word "large" or "many" only that comparison of pools, with "silent" that of disks, with "boot" image and boot.
        match std::env::args().nth(1).as_deref() {
            Some("large") => large_table(&system, &image::standard(&system)?, runs, &limits)?,
            Some("many") => many_table(&system, &image::standard(&system)?, runs, &limits)?,
            Some("silent") => silent_table(&system, &image::standard(&system)?, runs, &limits)?,
            Some("boot") => {
                let packed = pack_table(&system, &scratch, runs, &limits)?;
                boot_table(&system, &scratch, &packed, runs, &limits)?;
            }
            _ => all_tables(&system, &scratch, runs, &limits)?,
        }
    }
    let missed = limits.missed.into_inner();
    for what in &missed {
        println!("limit missed: {what}");
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all_tables(system: &System, scratch: &Scratch, runs: usize, limits: &Limits) -> Result<()> {
    let packed = pack_table(system, scratch, runs, limits)?;
    boot_table(system, scratch, &packed, runs, limits)?;
    silent_table(system, &packed, runs, limits)?;
    many_table(system, &packed, runs, limits)?;
    large_table(system, &packed, runs, limits)
}

/// Packs with several settings and shows time and size; returns the image for the boots.
fn pack_table(system: &System, scratch: &Scratch, runs: usize, limits: &Limits) -> Result<PathBuf> {
    let mut rows = vec![["image", "time [s]", "size [MB]", "limits", "identical"].map(str::to_owned).to_vec()];
    let standard = scratch.path().join("small.img");
    for rescue in ["small", "none", "full"] {
        let options = ["--modules", "generic", "--rescue", rescue];
        let file = scratch.path().join(format!("{rescue}.img"));
        let again = scratch.path().join("again.img");
        let mut best = f64::INFINITY;
        for _ in 0..runs {
            let start = Instant::now();
            kit::run(&mut image::pack_command(system, &options, &file))?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        kit::run(&mut image::pack_command(system, &options, &again))?;
        let bytes = std::fs::read(&file).context("the packed image")?;
        let same = bytes == std::fs::read(&again).context("the second image")?;
        let size = megabytes(bytes.len());
        let verdict = if rescue == "small" {
            let good = best <= LIMIT_PACK && size <= LIMIT_SIZE;
            limits.verdict("packing time and size of the generic image", good, "1 s, 13.5 MB")
        } else {
            String::new()
        };
        if !same {
            limits.missed.borrow_mut().push(format!("the same image twice (--rescue {rescue})"));
        }
        rows.push(vec![
            options.join(" "),
            format!("{best:.2}"),
            format!("{size:.2}"),
            verdict,
            if same { "yes".to_owned() } else { "NO".to_owned() },
        ]);
    }
    println!("\n{}", show::table(&rows));
    Ok(standard)
}

/// One measured boot; times in milliseconds since the kernel started.
#[derive(Debug)]
struct Boot {
    /// The kernel starts our `/init`.
    init: f64,
    /// The kernel has found the last disk, and zfs has started.
    ready: f64,
    /// We are done and start the real init.
    hand_over: f64,
    /// The real init's own stamp.
    real_init: f64,
    json: Value,
}

impl Boot {
    fn of(vm: &Running, report: Report) -> Result<Self> {
        Ok(Self {
            init: run_init(vm)?,
            ready: ready(vm),
            hand_over: hand_over(vm)?,
            real_init: real_init(&report)?,
            json: report.json.context("the booted system has no boot.json")?,
        })
    }
}

/// The rounds of one comparison, as the smallest of each figure in them.
#[derive(Debug)]
struct Smallest {
    /// The floor's parts, of the round in which their sum was the smallest.
    floor: Vec<(&'static str, f64)>,
    /// Hand-over and start of the real init, of the minimal boot.
    minimal: (f64, f64),
    /// Ours that handed over first.
    boot: Boot,
}

fn boot_table(system: &System, scratch: &Scratch, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let (empty, dependencies) = (empty_image(scratch)?, dependencies(system)?);
    let mut rounds: Vec<(f64, Boot, (f64, f64))> = Vec::new();
    let mut minimal = None;
    for run in 0..runs {
        let bare = bare_boot(system, &empty)?;
        // A fresh overlay each time: every import finds the same pool.
        let overlays = Scratch::new()?;
        let vm = Vm::new(&format!("bench-{run}"), system, packed)
            .append("root=zfs:AUTO taproot-test.report")
            .disk(overlays.overlay(system, "tank0")?)
            .start()?;
        let boot = Boot::of(&vm, vm.report(120)?)?;
        drop(vm);
        if minimal.is_none() {
            minimal = Some(minimal::image(system, scratch, &boot.json)?);
        }
        let image = minimal.as_ref().context("no minimal image")?;
        rounds.push((bare, boot, minimal_boot(system, image)?));
    }
    let smallest = smallest(rounds, &dependencies)?;
    println!("{}", show::table(&rows(&smallest, limits)));
    let phases = show::phases(&smallest.boot.json);
    let mut table = vec![["phase of taproot-init", "start [s]", "took [s]"].map(str::to_owned).to_vec()];
    table.extend(phases.iter().map(|p| vec![p.name.clone(), seconds(p.start), seconds(p.took)]));
    println!("{}", show::table(&table));
    Ok(())
}

fn smallest(rounds: Vec<(f64, Boot, (f64, f64))>, dependencies: &Dependencies) -> Result<Smallest> {
    let sum = |parts: &[(&str, f64)]| parts.iter().map(|(_, ms)| ms).sum::<f64>();
    let floors = rounds.iter().map(|(bare, boot, _)| floor(boot, *bare, dependencies));
    let floor = floors.min_by(|a, b| sum(a).total_cmp(&sum(b))).context("no run")?;
    let least = |f: fn(&(f64, f64)) -> f64| rounds.iter().map(|(_, _, m)| f(m)).fold(f64::INFINITY, f64::min);
    let minimal = (least(|m| m.0), least(|m| m.1));
    let boots = rounds.into_iter().map(|(_, boot, _)| boot);
    let boot = boots.min_by(|a, b| a.hand_over.total_cmp(&b.hand_over)).context("no run")?;
    Ok(Smallest { floor, minimal, boot })
}

/// When the smallest image that does the same hands over, and when the real init has started.
fn minimal_boot(system: &System, image: &Path) -> Result<(f64, f64)> {
    let overlays = Scratch::new()?;
    let vm = Vm::new("bench-minimal", system, image)
        .append("taproot-test.report")
        .disk(overlays.overlay(system, "tank0")?)
        .start()?;
    let real_init = real_init(&vm.report(120)?)?;
    Ok((hand_over(&vm)?, real_init))
}

/// A mirror whose disks answer, without and with one more disk that hardly does.
fn silent_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let heading = ["", "hand-over [s]", "from its line to the real init [s]", ""];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let mut hand_overs = Vec::new();
    for count in [0, 1] {
        let (mut hand_over, mut exec) = (f64::INFINITY, f64::INFINITY);
        for run in 0..runs {
            let scratch = Scratch::new()?;
            let vm = Vm::new(&format!("bench-silent{count}-{run}"), system, packed).append("root=zfs:AUTO");
            let vm = silent::disks(vm.disks(scratch.overlays(system, &["mirror0", "mirror1"])?), &scratch, count)?
                .start()?;
            let boot = Boot::of(&vm, vm.report(120)?)?;
            hand_over = hand_over.min(boot.hand_over);
            exec = exec.min(boot.real_init - boot.hand_over);
        }
        let name = if count == 0 { "all disks answer" } else { "one more that does not" };
        let verdict = limits.verdict(&format!("execve, {name}"), exec <= LIMIT_EXEC * 1000.0, "limit 0.2 s");
        table.push(vec![name.to_owned(), seconds(hand_over), seconds(exec), verdict]);
        hand_overs.push(hand_over);
    }
    println!("{}", show::table(&table));
    let [without, with] = hand_overs[..] else { anyhow::bail!("two machines expected") };
    let more = (with - without) / 1000.0;
    let verdict = limits.verdict("a disk that does not answer", more <= LIMIT_SILENT, "limit 2 s");
    println!("  what such a disk costs: {more:.2} s {verdict}\n");
    Ok(())
}

/// The same small root on a mirror of two disks and in a pool of 60 (`tests/kit/pools/many.sh`).
fn many_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    if !system.pool_disk("many0").exists() {
        println!("no pool of many disks for {} (tests/kit/pools.sh {} many)", system.name, system.name);
        return Ok(());
    }
    let heading = ["", "disks and zfs are there [s]", "hand-over [s]", "of it TRYIMPORT and IMPORT [s]"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let kernels = |boot: &Boot| took(boot, "tryimport") + took(boot, "import");
    let own = |boot: &Boot| boot.hand_over - kernels(boot) - boot.ready;
    let mut rest = Vec::new();
    for pool in ["few", "many"] {
        let mut best: Option<Boot> = None;
        for run in 0..runs {
            let scratch = Scratch::new()?;
            let disks = scratch.parts(system, &format!("{pool}0"))?.into_iter().map(|disk| disk.on(Bus::Scsi));
            let words = format!("root=ZFS={pool}/ROOT/default");
            let vm = Vm::new(&format!("bench-{pool}-{run}"), system, packed).append(&words).disks(disks).start()?;
            let boot = Boot::of(&vm, vm.report(300)?)?;
            if best.as_ref().is_none_or(|b| own(&boot) < own(b)) {
                best = Some(boot);
            }
        }
        let boot = best.context("no run")?;
        let cells = [pool, &seconds(boot.ready), &seconds(boot.hand_over), &seconds(kernels(&boot))];
        table.push(cells.map(str::to_owned).to_vec());
        rest.push(own(&boot) / 1000.0);
    }
    println!("{}", show::table(&table));
    let [few, many] = rest[..] else { anyhow::bail!("two pools expected") };
    let verdict = limits.verdict("60 disks more than 2", many - few <= LIMIT_MANY, "limit 0.3 s");
    println!("  what is left of it: {:.2} s more with 60 disks than with 2 {verdict}", many - few);
    Ok(())
}

/// The same small root in a pool of its own and among 10 000 datasets with a snapshot each (`tests/kit/pools/large.sh`).
fn large_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    if !system.pool_disk("large0").exists() {
        println!("no large pool for {} (tests/kit/pools.sh {} large)", system.name, system.name);
        return Ok(());
    }
    let mut best: [Option<Boot>; 2] = [None, None];
    for (pool, best) in ["empty", "large"].into_iter().zip(&mut best) {
        // The large pool's import takes minutes without KVM; what is compared is far apart.
        for run in 0..if pool == "large" { 1 } else { runs } {
            let overlays = Scratch::new()?;
            let vm = Vm::new(&format!("bench-{pool}-{run}"), system, packed)
                .append(&format!("root=ZFS={pool}/ROOT/default"))
                .disk(overlays.overlay(system, &format!("{pool}0"))?)
                .start()?;
            let report = vm.report(900)?;
            let boot = Boot::of(&vm, report)?;
            if best.as_ref().is_none_or(|b| boot.hand_over < b.hand_over) {
                *best = Some(boot);
            }
        }
    }
    let [Some(empty), Some(large)] = best else { anyhow::bail!("no run") };
    let mut table = vec![["", "empty pool [s]", "large pool [s]"].map(str::to_owned).to_vec()];
    for phase in show::phases(&large.json) {
        table.push(vec![phase.name.clone(), seconds(took(&empty, &phase.name)), seconds(phase.took)]);
    }
    table.push(vec!["hand-over".to_owned(), seconds(empty.hand_over), seconds(large.hand_over)]);
    println!("{}", show::table(&table));
    let rest = |boot: &Boot| boot.hand_over - took(boot, "import");
    let ratio = rest(&large) / rest(&empty);
    let verdict = limits.verdict("all but IMPORT, of the empty pool's", ratio <= LIMIT_LARGE, "limit 2");
    println!("  all but IMPORT: {ratio:.2} of the empty pool's {verdict}");
    let stock = stock_import(system)?;
    let ratio = (took(&large, "tryimport") + took(&large, "import")) / stock;
    println!(
        "  TRYIMPORT and IMPORT: {ratio:.2} of the {} s that the stock zpool import -N takes {}",
        seconds(stock),
        limits.verdict("TRYIMPORT and IMPORT, of the stock tool's", ratio <= LIMIT_IMPORT, "limit 1.05")
    );
    println!("  hand-over, the kernel's IMPORT included: {:.2} of the empty pool's", large.hand_over / empty.hand_over);
    Ok(())
}

/// Milliseconds that the stock `zpool import -N` of the large pool takes in a VM of the same size, nothing mounted.
fn stock_import(system: &System) -> Result<f64> {
    let script = "set -e; now() { cut -d' ' -f1 /proc/uptime; }; before=$(now)\n\
        zpool import -N -f -o cachefile=none -d /dev/disk/by-id/virtio-large0-part1 large\n\
        echo \"@@TOOK $before $(now)\"\n";
    let overlays = Scratch::new()?;
    let vm = Vm::helper("bench-stock", system, script).disk(overlays.overlay(system, "large0")?).start()?;
    let said = vm.script(1200)?;
    let line = said.lines().find_map(|l| l.strip_prefix("@@TOOK ")).with_context(|| format!("no time in {said:?}"))?;
    let times: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [before, after] = times[..] else { anyhow::bail!("two times expected, found {line:?}") };
    Ok((after - before) * 1000.0)
}

/// Milliseconds of one phase of a boot, all its runs together.
fn took(boot: &Boot, phase: &str) -> f64 {
    show::phases(&boot.json).iter().filter(|p| p.name == phase).map(|p| p.took).sum()
}

/// What nobody can avoid, in milliseconds.
fn floor(boot: &Boot, bare: f64, dependencies: &Dependencies) -> Vec<(&'static str, f64)> {
    vec![
        ("kernel up to /init of an empty image", bare),
        ("initialisation of zfs and what it needs", chain(&boot.json, dependencies, "zfs")),
        ("TRYIMPORT", took(boot, "tryimport")),
        ("IMPORT", took(boot, "import")),
        ("mount(2) of everything", show::entries(&boot.json, "mounts").filter_map(|m| m.get("ms")?.as_f64()).sum()),
    ]
}

/// The floor's parts, the minimal boot, then ours.
fn rows(smallest: &Smallest, limits: &Limits) -> Vec<Vec<String>> {
    let Smallest { floor: parts, minimal, boot } = smallest;
    let floor: f64 = parts.iter().map(|(_, ms)| ms).sum();
    let mut rows = vec![["from kernel start to the real init", "time [s]", "of the floor"].map(str::to_owned).to_vec()];
    let mut add = |name: &str, ms: f64, note: &str| {
        rows.push(vec![name.to_owned(), seconds(ms), format!("{:.2} {note}", ms / floor).trim_end().to_owned()]);
    };
    for (name, ms) in parts {
        add(name, *ms, "");
    }
    add("floor", floor, "");
    add("minimal boot: hand-over", minimal.0, "");
    add("minimal boot: the real init has started", minimal.1, "");
    add("our /init starts", boot.init, "");
    let verdict = limits.verdict("hand-over, of the floor", boot.hand_over / floor <= LIMIT_BOOT, "limit 1.05");
    let note = format!("{verdict}, {:.2} of the minimal boot's", boot.hand_over / minimal.0);
    add("hand-over", boot.hand_over, &note);
    add("the real init has started", boot.real_init, "");
    rows
}

/// Names of the modules that each module of a kernel needs, directly or not.
type Dependencies = HashMap<String, Vec<String>>;

/// What `modules.dep` of the system says.
fn dependencies(system: &System) -> Result<Dependencies> {
    let path = system.tree().join("lib/modules").join(&system.kernel).join("modules.dep");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let name = |file: &str| {
        let base = file.rsplit('/').next().unwrap_or(file);
        base.split(".ko").next().unwrap_or(base).replace('-', "_")
    };
    let line = |line: &str| {
        line.split_once(':').map(|(file, needs)| (name(file), needs.split_whitespace().map(name).collect()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Milliseconds of the slowest chain of modules that ends in `module`: what no order and no parallel loading can beat.
fn chain(json: &Value, dependencies: &Dependencies, module: &str) -> f64 {
    let own =
        show::entries(json, "modules").find(|m| show::text(m, "/name") == module).and_then(|m| m.get("ms")?.as_f64());
    let needs = dependencies.get(module).map(Vec::as_slice).unwrap_or_default();
    own.unwrap_or(0.0) + needs.iter().map(|need| chain(json, dependencies, need)).fold(0.0, f64::max)
}

/// The real init's own stamp, in milliseconds since the kernel started.
fn real_init(report: &Report) -> Result<f64> {
    Ok(report.one("USERSPACE").parse::<f64>().context("the real init's start time")? / 1000.0)
}

/// The moment of the hand-over as the boot logs it, in milliseconds.
fn hand_over(vm: &Running) -> Result<f64> {
    let text = vm.console.text();
    let line = text.lines().find(|l| l.contains("taproot: handing over to ")).context("no line about the hand-over")?;
    let time = line.split_whitespace().rev().nth(5).and_then(|word| word.parse::<f64>().ok());
    time.map(|s| s * 1000.0)
        .with_context(|| format!("expected \"... SECONDS s after the kernel started\", found {line:?}"))
}

/// An initramfs with the static test init as its `/init`, and nothing else.
fn empty_image(scratch: &Scratch) -> Result<PathBuf> {
    let dir = scratch.path().join("empty");
    std::fs::create_dir_all(&dir).context("the empty image")?;
    let init = checkout().join("out/guest-init");
    std::fs::copy(&init, dir.join("init")).with_context(|| format!("copying {}", init.display()))?;
    let image = scratch.path().join("empty.cpio");
    minimal::cpio(&dir, &image)?;
    Ok(image)
}

/// When the kernel reaches `/init` of the empty image.
fn bare_boot(system: &System, empty: &Path) -> Result<f64> {
    let vm = Vm::new("bench-bare", system, empty).start()?;
    // What that init does without a console is of no interest.
    vm.expect(RUN_INIT, 60)?;
    run_init(&vm)
}

/// The kernel's stamp on a line, in milliseconds.
fn stamp(line: &str) -> Option<f64> {
    let stamp = line.trim_start_matches('[').split(']').next()?;
    stamp.trim().parse::<f64>().ok().map(|seconds| seconds * 1000.0)
}

/// When the kernel had found the last of the disks, and zfs had started.
fn ready(vm: &Running) -> f64 {
    let text = vm.console.text();
    let said = ["Attached SCSI disk", "-byte logical blocks", "ZFS: Loaded module"];
    let lines = text.lines().filter(|line| said.iter().any(|what| line.contains(what)));
    lines.filter_map(stamp).fold(0.0, f64::max)
}

/// The kernel's stamp on "Run /init", in milliseconds.
fn run_init(vm: &Running) -> Result<f64> {
    let text = vm.console.text();
    let line = text.lines().find(|l| l.contains(RUN_INIT)).context("the kernel ran no /init")?;
    let time = stamp(line).with_context(|| format!("the time stamp in {line:?}"))?;
    ensure!(time > 0.0, "the time stamp in {line:?}");
    Ok(time)
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
