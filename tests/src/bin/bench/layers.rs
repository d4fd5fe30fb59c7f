//! What roots made of layers cost: mounting them, making one, and the boot of a live system, each against what does the same elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use taproot_tests::kit::{self, System};
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Scratch, Vm};
use taproot_tests::words::{EXPLANATION, PROMPT, SHELL_PROMPT};
use taproot_tests::{image, layers};

use crate::Limits;
use crate::boot::{real_init, stamp};

/// Mounting layers, in runs of a shell script that does the same.
const LIMIT_STACK: f64 = 1.0;
/// Making a layer, in runs of mksquashfs with the same compression, which neither reads again nor compares what it wrote.
const LIMIT_IMAGE: f64 = 1.3;
/// Boot of a live system up to the real init, in boots by the faster of the others.
const LIMIT_LIVE: f64 = 0.6;

/// Mounts a disk with layers, these under an upper in memory, and takes all that away again. Arguments: the disk, and layers from the
/// top down. Modules are loaded and directories of layers named before the time begins.
const STACK: &str = r#"set -e
disk=$1; shift
at=/run/stack
mkdir -p $at/disk $at/upper $at/root $at/layers
echo "<1>stack: begins" >/dev/kmsg
mount -t ext4 -o ro $disk $at/disk
cd $at/layers
lowers=
for name; do
    mkdir $name
    mount -t squashfs -o loop,ro $at/disk/$name.sqsh $name
    lowers=$lowers:$name
done
mount -t tmpfs tmpfs $at/upper
mkdir $at/upper/upper $at/upper/work
mount -t overlay -o lowerdir=${lowers#:},upperdir=$at/upper/upper,workdir=$at/upper/work overlay $at/root
echo "<1>stack: is mounted" >/dev/kmsg
cd /
umount $at/root $at/upper
for name; do umount $at/layers/$name; done
umount $at/disk
rm -r $at
"#;

/// From the device to the mounted overlay, ours and by a script of the packed busybox, in the same machine: before the hand-over the
/// script does it, then the boot is begun again. So modules and the disk's blocks are in memory for both.
pub(crate) fn stack_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let heading = ["layers mounted", "script [s]", "ours [s]", "of the script's"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for count in [1, 10, 100] {
        let (mut script, mut ours) = (f64::INFINITY, f64::INFINITY);
        for run in 0..runs {
            let one = stacked(&format!("bench-stack{count}-{run}"), system, packed, count)?;
            (script, ours) = (script.min(one.0), ours.min(one.1));
        }
        let what = format!("mounting {count} layers, of a script's");
        let verdict = limits.verdict(&what, ours / script <= LIMIT_STACK, &format!("limit {LIMIT_STACK:.1}"));
        table.push(vec![count.to_string(), seconds(script), seconds(ours), format!("{:.2} {verdict}", ours / script)]);
    }
    println!("{}", show::table(&table));
    Ok(())
}

/// Milliseconds of the script, and ours.
fn stacked(name: &str, system: &System, packed: &Path, count: usize) -> Result<(f64, f64)> {
    let scratch = Scratch::new()?;
    let script = scratch.path().join("stack.sh");
    std::fs::write(&script, STACK).context("the script")?;
    let (disk, names) = layers::many(&scratch, count, &[(script, "stack.sh")])?;
    let words = format!(
        "quiet root=LABEL={} taproot.layers={} taproot.upper=ram taproot.break=handover",
        layers::LABEL,
        names.join(":")
    );
    let vm = Vm::new(name, system, packed).cpus(2).append(&words).disk(disk).start()?;
    ensure!(vm.expect_any(&[EXPLANATION, PROMPT], 120)? == 1, "{name}: a boot that stops before the hand-over failed");
    vm.type_line("shell")?;
    vm.expect(SHELL_PROMPT, 20)?;
    // The lists are long for a line that is typed.
    vm.type_line("list=$(sed 's/.*taproot.layers=//; s/ .*//; s/:/ /g' /proc/cmdline)")?;
    vm.expect(SHELL_PROMPT, 20)?;
    vm.type_line("sh /run/taproot/base/stack.sh /dev/vda $list && exit")?;
    vm.expect(PROMPT, 120)?;
    let text = vm.console.text();
    let at = |what: &str| {
        let line = text.lines().find(|line| line.contains(what));
        line.and_then(stamp).with_context(|| format!("{what:?} is not on the console:\n{}", vm.console.tail(20)))
    };
    let script = at("stack: is mounted")? - at("stack: begins")?;
    vm.type_line("retry")?;
    let json = vm.report(120)?.json.context("the booted system has no boot.json")?;
    let phases = show::phases(&json);
    let mount = phases.iter().rfind(|phase| phase.name == "mount").context("no phase mount")?;
    Ok((script, mount.took))
}

/// A layer of a tree - what a commit does with a sealed upper: written, synced, read again, compared entry by entry - against the
/// image that mksquashfs makes of it.
pub(crate) fn image_table(system: &System, runs: usize, limits: &Limits) -> Result<()> {
    let tree = system.tree().join("usr/share");
    let heading = ["image of /usr/share", "mksquashfs [s]", "taproot [s]", "of mksquashfs'", "size [MB]"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    // What mksquashfs does when it is told nothing, and what taproot does.
    for (name, plain, words) in [
        ("gzip, mksquashfs' default", &[][..], &["--compress", "gzip"][..]),
        ("zstd:9, taproot's default", &["-comp", "zstd", "-Xcompression-level", "9"], &[]),
    ] {
        let (mut theirs, mut ours, mut size) = (f64::INFINITY, f64::INFINITY, 0);
        for _ in 0..runs {
            let scratch = Scratch::new()?;
            let [plain_image, layer] = ["plain.sqsh", "layer.sqsh"].map(|name| scratch.path().join(name));
            let mut command = Command::new("mksquashfs");
            command.arg(&tree).arg(&plain_image).args(["-noappend", "-no-progress", "-quiet"]).args(plain);
            theirs = theirs.min(timed(&mut command)?);
            let mut command = Command::new(image::builder());
            command.args(["layer", "merge", "--offline", "--quiet"]).args(words).arg(&layer).arg(&tree);
            ours = ours.min(timed(&mut command)?);
            size = std::fs::metadata(&layer).context("the layer")?.len();
        }
        let ratio = ours / theirs;
        let verdict = if plain.is_empty() {
            limits.verdict("making a layer, of mksquashfs'", ratio <= LIMIT_IMAGE, &format!("limit {LIMIT_IMAGE}"))
        } else {
            String::new()
        };
        let size = format!("{:.2}", crate::megabytes(usize::try_from(size)?));
        table.push(vec![name.to_owned(), seconds(theirs), seconds(ours), format!("{ratio:.2} {verdict}"), size]);
    }
    println!("{}", show::table(&table));
    Ok(())
}

/// Milliseconds of a command.
fn timed(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    kit::run(command)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// A live medium, its system under an upper in memory, by our image and by those of live-boot and dracut.
pub(crate) fn live_table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    const LABEL: &str = "LIVE";
    let others = ["live-boot", "dracut"].map(|tool| system.live_initrd(tool));
    if !others.iter().all(|image| image.exists()) {
        println!("no images of live systems for {} (tests/kit/live.sh {})", system.name, system.name);
        return Ok(());
    }
    let [live_boot, dracut] = others;
    let kinds: [(&str, PathBuf, String); 3] = [
        (
            "taproot",
            packed.to_owned(),
            format!("root=LABEL={LABEL} taproot.layerdir=live taproot.layers=filesystem taproot.upper=ram"),
        ),
        ("live-boot", live_boot, "boot=live".to_owned()),
        (
            "dracut",
            dracut,
            format!(
                "root=live:LABEL={LABEL} rd.live.image rd.live.dir=live rd.live.squashimg=filesystem.squashfs rd.live.overlay.overlayfs=1"
            ),
        ),
    ];
    let mut best = [f64::INFINITY; 3];
    for run in 0..runs {
        for ((name, initrd, words), best) in kinds.iter().zip(&mut best) {
            let vm = Vm::new(&format!("bench-live-{name}-{run}"), system, initrd)
                .cpus(2)
                .append("quiet taproot-test.report");
            let vm = vm.append(words).disk(layers::medium(system, LABEL)?).start()?;
            let report = vm.report(300)?;
            let root = report.mounts().into_iter().rev().find(|mount| mount.point == "/").context("no root")?;
            ensure!(root.kind == "overlay", "{name}: the root is no overlay: {root:?}");
            *best = best.min(real_init(&report)?);
        }
    }
    let [ours, live_boot, dracut] = best;
    let faster = live_boot.min(dracut);
    let heading = ["first boot of a live system", "image [MB]", "the real init starts [s]", "of the faster other"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for ((name, initrd, _), ms) in kinds.iter().zip(best) {
        let verdict = if name == &"taproot" {
            limits.verdict("boot of a live system", ours / faster <= LIMIT_LIVE, &format!("limit {LIMIT_LIVE}"))
        } else {
            String::new()
        };
        let bytes = std::fs::metadata(initrd).with_context(|| format!("{}", initrd.display()))?.len();
        let size = format!("{:.2}", crate::megabytes(usize::try_from(bytes)?));
        table.push(vec![(*name).to_owned(), size, seconds(ms), format!("{:.2} {verdict}", ms / faster)]);
    }
    println!("{}", show::table(&table));
    Ok(())
}
