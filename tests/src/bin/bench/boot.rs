//! From the kernel's start to the real init: ours, the smallest boot, and the floor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use taproot_tests::kit::System;
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Report, Running, Scratch, Vm};
use taproot_tests::{checkout, installed, minimal};

use crate::Limits;

/// Hand-over by an image for this machine, at most this many times the floor.
const LIMIT_HOST: f64 = 1.05;
/// The same by an image for every machine: the kernel unpacks more, and there is more to choose from.
const LIMIT_GENERIC: f64 = 1.2;
/// What is packed in the booted system, as its administrator would.
const PACK: &str = "taproot initramfs --quiet --output /run/images/host.img";
/// What the kernel prints when it starts the `/init` of an initramfs.
const RUN_INIT: &str = "Run /init as init process";
/// What we say last.
pub(crate) const HAND_OVER: &str = "taproot: handing over to ";

/// One measured boot; times in milliseconds since the kernel started.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The kernel starts our `/init`.
    pub(crate) init: f64,
    /// The kernel has found the last disk, and zfs has started.
    pub(crate) ready: f64,
    /// We are done and start the real init.
    pub(crate) hand_over: f64,
    /// The real init's own stamp.
    pub(crate) real_init: f64,
    pub(crate) json: Value,
}

impl Boot {
    pub(crate) fn of(vm: &Running, report: Report) -> Result<Self> {
        Ok(Self {
            init: run_init(vm)?,
            ready: ready(vm),
            hand_over: hand_over(vm)?,
            real_init: real_init(&report)?,
            json: report.json.context("the booted system has no boot.json")?,
        })
    }
}

/// One boot of every kind.
#[derive(Debug)]
struct Round {
    /// When the kernel starts the `/init` of an image with nothing in it.
    bare: f64,
    /// Hand-over and start of the real init, of the minimal boot.
    minimal: (f64, f64),
    /// By an image that was packed on this machine for this machine.
    host: Boot,
    /// By an image for every machine.
    generic: Boot,
}

/// The rounds as the smallest of each figure in them.
#[derive(Debug)]
struct Smallest {
    /// The floor's parts, of the round in which their sum was the smallest.
    floor: Vec<(&'static str, f64)>,
    minimal: (f64, f64),
    /// Those that handed over first.
    host: Boot,
    generic: Boot,
}

/// Boots by the image `generic` and one that is packed in the booted system.
pub(crate) fn boot_table(
    system: &System,
    scratch: &Scratch,
    generic: &Path,
    runs: usize,
    limits: &Limits,
) -> Result<()> {
    let (empty, dependencies) = (empty_image(scratch)?, dependencies(system)?);
    let overlays = Scratch::new()?;
    let installed = machine("packs", system, generic).disk(overlays.overlay(system, "tank0")?);
    let host = installed::pack(installed, scratch, PACK)?.join("host.img");
    let bytes = std::fs::metadata(&host).context("the image that was packed in the booted system")?.len();
    println!("  {PACK}: {:.2} MB", crate::megabytes(usize::try_from(bytes)?));
    let mut rounds = Vec::new();
    let mut minimal = None;
    for run in 0..runs {
        let bare = bare_boot(system, &empty)?;
        let host = boot(&format!("host-{run}"), system, &host)?;
        let generic = boot(&format!("generic-{run}"), system, generic)?;
        if minimal.is_none() {
            minimal = Some(minimal::image(system, scratch, &generic.json)?);
        }
        let image = minimal.as_ref().context("no minimal image")?;
        rounds.push(Round { bare, minimal: minimal_boot(system, image)?, host, generic });
    }
    let smallest = smallest(rounds, &dependencies)?;
    println!("{}", show::table(&rows(&smallest, limits)));
    for (name, boot) in [("host", &smallest.host), ("generic", &smallest.generic)] {
        let mut table = vec![vec![format!("phase, {name} image"), "start [s]".to_owned(), "took [s]".to_owned()]];
        let phases = show::phases(&boot.json);
        table.extend(phases.iter().map(|p| vec![p.name.clone(), seconds(p.start), seconds(p.took)]));
        println!("{}", show::table(&table));
    }
    Ok(())
}

fn machine(name: &str, system: &System, image: &Path) -> Vm {
    Vm::new(&format!("bench-{name}"), system, image).cpus(2).append("root=zfs:AUTO taproot-test.report")
}

/// One boot to the test's init.
fn boot(name: &str, system: &System, image: &Path) -> Result<Boot> {
    // A fresh overlay each time: every import finds the same pool.
    let overlays = Scratch::new()?;
    let vm = machine(name, system, image).disk(overlays.overlay(system, "tank0")?).start()?;
    Boot::of(&vm, vm.report(120)?)
}

fn smallest(rounds: Vec<Round>, dependencies: &Dependencies) -> Result<Smallest> {
    let sum = |parts: &[(&str, f64)]| parts.iter().map(|(_, ms)| ms).sum::<f64>();
    let floors = rounds.iter().map(|round| floor(&round.host, round.bare, dependencies));
    let floor = floors.min_by(|a, b| sum(a).total_cmp(&sum(b))).context("no run")?;
    let least = |f: fn(&Round) -> f64| rounds.iter().map(f).fold(f64::INFINITY, f64::min);
    let minimal = (least(|round| round.minimal.0), least(|round| round.minimal.1));
    let (hosts, generics): (Vec<Boot>, Vec<Boot>) = rounds.into_iter().map(|r| (r.host, r.generic)).unzip();
    let first =
        |boots: Vec<Boot>| boots.into_iter().min_by(|a, b| a.hand_over.total_cmp(&b.hand_over)).context("no run");
    Ok(Smallest { floor, minimal, host: first(hosts)?, generic: first(generics)? })
}

/// When the smallest image that does the same hands over, and when the real init has started.
fn minimal_boot(system: &System, image: &Path) -> Result<(f64, f64)> {
    let overlays = Scratch::new()?;
    let vm = Vm::new("bench-minimal", system, image)
        .cpus(2)
        .append("taproot-test.report")
        .disk(overlays.overlay(system, "tank0")?)
        .start()?;
    let real_init = real_init(&vm.report(120)?)?;
    Ok((hand_over(&vm)?, real_init))
}

/// Milliseconds of one phase of a boot, all its runs together.
pub(crate) fn took(boot: &Boot, phase: &str) -> f64 {
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
    let Smallest { floor: parts, minimal, host, generic } = smallest;
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
    for (name, boot, limit) in [("host image", host, LIMIT_HOST), ("generic image", generic, LIMIT_GENERIC)] {
        add(&format!("{name}: our /init starts"), boot.init, "");
        let what = format!("hand-over by the {name}, of the floor");
        let verdict = limits.verdict(&what, boot.hand_over / floor <= limit, &format!("limit {limit:.2}"));
        let note = format!("{verdict}, {:.2} of the minimal boot's", boot.hand_over / minimal.0);
        add(&format!("{name}: hand-over"), boot.hand_over, &note);
        add(&format!("{name}: the real init has started"), boot.real_init, "");
    }
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
pub(crate) fn real_init(report: &Report) -> Result<f64> {
    Ok(report.one("USERSPACE").parse::<f64>().context("the real init's start time")? / 1000.0)
}

/// The moment of the hand-over as the boot logs it, in milliseconds.
fn hand_over(vm: &Running) -> Result<f64> {
    let text = vm.console.text();
    let line = text.lines().find(|l| l.contains(HAND_OVER)).context("no line about the hand-over")?;
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
    let vm = Vm::new("bench-bare", system, empty).cpus(2).start()?;
    // What that init does without a console is of no interest.
    vm.expect(RUN_INIT, 60)?;
    run_init(&vm)
}

/// The kernel's stamp on a line, in milliseconds.
pub(crate) fn stamp(line: &str) -> Option<f64> {
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
