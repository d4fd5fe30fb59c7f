//! What `taproot image` costs: against the tools that fill a file system from a directory, and against the way of paczfs, which makes
//! the pool by the kernel and copies into it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taproot_tests::image;
use taproot_tests::kit::{self, System};
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Scratch, Vm};

use crate::Limits;

/// Seconds for a gigabyte of the archive in a pool, not compressed.
const LIMIT_RATE: f64 = 1.5;
/// A pool with zstd:3, in runs of mksquashfs with zstd:3. Both spend most of their time in the same compressor, which both run on all
/// processors: what is left to win is the rest.
const LIMIT_SQUASHFS: f64 = 1.0;
/// The same in runs of `mkfs.ext4 -d`, which compresses nothing.
const LIMIT_EXT4: f64 = 1.0;
/// In runs of what paczfs does.
const LIMIT_PACZFS: f64 = 0.2;
/// Seconds from an archive to a qcow2 that boots.
const LIMIT_BOOTABLE: f64 = 8.0;
/// Megabytes of memory at most.
const LIMIT_MEMORY: f64 = 64.0;
/// Bytes of a disk that has room for the kit's tree, however it is compressed.
const SIZE: &str = "4G";

/// Seconds after which paczfs' way is broken off: longer than any limit needs, and an emulated machine takes a quarter of an hour.
const PATIENCE: u32 = 240;

/// What paczfs does, in a machine with ZFS: makes the pool and its datasets, copies the system into them, exports the
/// pool. Copied is what the machine runs from. What takes longer than `PATIENCE` is cut off there.
const PACZFS: &str = r"
set -e
disk=/dev/disk/by-id/virtio-target
now() { cut -d' ' -f1 /proc/uptime; }
echo BEGUN $(now)
zpool create -R /run/target -O canmount=off -O mountpoint=/ -O compression=zstd-3 -O xattr=sa -O acltype=posix target $disk
zfs create -o canmount=off -o mountpoint=none target/ROOT
zfs create -o mountpoint=/ target/ROOT/default
mountpoint -q /run/target || zfs mount target/ROOT/default
timeout -s KILL $PATIENCE cp -a --one-file-system /. /run/target || { [ $? = 137 ]; echo CUT $(now); exit 0; }
zfs snapshot target/ROOT/default@installed
zpool export target
echo ENDED $(now)
systemctl --no-block poweroff
";

pub(crate) fn table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let scratch = Scratch::new()?;
    let archive = scratch.path().join("tree.tar");
    pack(&system.tree(), &archive)?;
    let bytes = fs::metadata(&archive).context("the archive")?.len();
    let gigabytes = crate::megabytes(usize::try_from(bytes)?) / 1e3;
    let output = scratch.path().join("disk.img");
    let (mut plain, mut zstd, mut bootable) = (Cost::WORST, Cost::WORST, Cost::WORST);
    let (mut squashfs, mut ext4) = (Cost::WORST, Cost::WORST);
    // In turns, so that what else the machine does falls on all.
    for _ in 0..runs {
        plain = plain.least(image(&archive, &output, &["--raw", "disk.img", "--compression", "off"])?);
        zstd = zstd.least(image(&archive, &output, &["--raw", "disk.img", "--compression", "zstd-3"])?);
        bootable = bootable.least(image(&archive, &output, &["--qcow2", "disk.img"])?);
        let mut command = Command::new("mksquashfs");
        command.arg(system.tree()).arg(&output).args(["-noappend", "-no-progress", "-quiet", "-comp", "zstd"]);
        squashfs = squashfs.least(cost(command.args(["-Xcompression-level", "3"]), &output)?);
        File::create(&output).and_then(|file| file.set_len(4 << 30)).context("the disk of ext4")?;
        let mut command = Command::new("mkfs.ext4");
        ext4 = ext4.least(cost(command.args(["-q", "-F", "-d"]).arg(system.tree()).arg(&output), &output)?);
    }
    let rate = plain.pool / gigabytes;
    let heading = [&format!("{gigabytes:.2} GB of files"), "time [s]", "the pool's", "memory [MB]", "written [MB]", ""];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    let mut row = |name: &str, cost: &Cost, note: String| {
        let memory = if cost.memory > 0.0 { format!("{:.0}", cost.memory) } else { String::new() };
        let size = if cost.size > 0.0 { format!("{:.0}", cost.size) } else { String::new() };
        let pool = if cost.pool > 0.0 { seconds(cost.pool * 1000.0) } else { String::new() };
        table.push(vec![name.to_owned(), seconds(cost.seconds * 1000.0), pool, memory, size, note]);
    };
    let verdict = limits.verdict("a pool, a gigabyte", rate <= LIMIT_RATE, &format!("limit {LIMIT_RATE}"));
    row("taproot image, not compressed", &plain, format!("the pool: {rate:.2} s/GB {verdict}"));
    row("taproot image, zstd:3", &zstd, String::new());
    let of = |what: &str, other: &Cost, limit: f64| {
        let ratio = zstd.pool / other.seconds;
        let verdict = limits.verdict(&format!("a pool, of {what}"), ratio <= limit, &format!("limit {limit}"));
        format!("a pool with zstd:3 is {ratio:.2} of it {verdict}")
    };
    row("mksquashfs, zstd:3", &squashfs, of("mksquashfs", &squashfs, LIMIT_SQUASHFS));
    row("mkfs.ext4 -d", &ext4, of("mkfs.ext4", &ext4, LIMIT_EXT4));
    let good = bootable.seconds <= LIMIT_BOOTABLE;
    let verdict = limits.verdict("from tar to a bootable qcow2", good, &format!("limit {LIMIT_BOOTABLE} s"));
    row("taproot image, a bootable qcow2", &bootable, verdict);
    println!("{}", show::table(&table));
    let memory = [&plain, &zstd, &bootable].map(|cost| cost.memory).into_iter().fold(0.0, f64::max);
    let verdict = limits.verdict("memory of an image", memory <= LIMIT_MEMORY, &format!("limit {LIMIT_MEMORY} MB"));
    println!("memory of taproot image at most: {memory:.0} MB {verdict}");
    // Last, as it takes minutes.
    let (paczfs, whole) = paczfs(system, packed, &scratch)?;
    let note = of("paczfs' way", &paczfs, LIMIT_PACZFS);
    let end = if whole { "" } else { ", and was broken off" };
    println!("paczfs' way, in a machine, took {:.0} s{end}: {note}", paczfs.seconds);
    Ok(())
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    seconds: f64,
    /// Of these, what filled the pool: what others do that make a file system, and nothing that boots it; 0: there is none.
    pool: f64,
    /// Megabytes resident at most; 0: not known.
    memory: f64,
    /// Megabytes of disk that the result takes; 0: not known.
    size: f64,
}

impl Cost {
    const WORST: Self = Self { seconds: f64::INFINITY, pool: f64::INFINITY, memory: 0.0, size: 0.0 };

    /// The faster run; of memory what any run took.
    fn least(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.min(other.seconds),
            pool: self.pool.min(other.pool),
            memory: self.memory.max(other.memory),
            size: other.size,
        }
    }
}

/// The tree as one archive.
fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args([
        "--one-file-system",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--sort=name",
        "--format=posix",
    ]);
    kit::run(command.arg("-C").arg(tree).arg("-cf").arg(archive).arg("."))?;
    Ok(())
}

/// One image of the archive, in the directory of the output.
fn image(archive: &Path, output: &Path, words: &[&str]) -> Result<Cost> {
    let mut command = Command::new(image::builder());
    command
        .args(["image", "--quiet", "--json", "--size", SIZE, "--set", "system.allow-empty-root=true", "--tar"])
        .arg(archive)
        .args(words);
    let (cost, said) = run(command.current_dir(output.parent().context("no directory")?), output)?;
    let said: serde_json::Value = serde_json::from_str(&said).context("what taproot image said")?;
    let pool = said.pointer("/seconds/pool").and_then(serde_json::Value::as_f64).context("the pool's seconds")?;
    Ok(Cost { pool, ..cost })
}

fn cost(command: &mut Command, output: &Path) -> Result<Cost> {
    Ok(run(command, output)?.0)
}

/// Runs a command which makes `output`, that is taken away again; what it took, and what it printed.
fn run(command: &mut Command, output: &Path) -> Result<(Cost, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let (errors, said) = (output.with_extension("errors"), output.with_extension("said"));
    command.stdin(Stdio::null());
    command.stdout(File::create(&said).with_context(|| format!("{}", said.display()))?);
    command.stderr(File::create(&errors).with_context(|| format!("{}", errors.display()))?);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let mut memory = 0.0;
    let status = loop {
        memory = f64::max(memory, resident(child.id()));
        if let Some(status) = child.try_wait().context("waiting")? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{command:?}: {status}\n{}", fs::read_to_string(&errors).unwrap_or_default());
    let blocks = fs::metadata(output).with_context(|| format!("{}", output.display()))?.blocks();
    fs::remove_file(output).with_context(|| format!("removing {}", output.display()))?;
    let cost = Cost { seconds, pool: 0.0, memory, size: crate::megabytes(usize::try_from(blocks * 512)?) };
    Ok((cost, fs::read_to_string(&said).with_context(|| format!("{}", said.display()))?))
}

/// The most memory that a process had so far, in megabytes (`VmHWM`, `proc_pid_status(5)`); 0 when it is gone.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0 / 1e6
}

/// The way of paczfs, in a machine of the kit, by the machine's own clock, and whether it came to its end. Without KVM each of its
/// instructions is emulated.
fn paczfs(system: &System, packed: &Path, scratch: &Scratch) -> Result<(Cost, bool)> {
    let target = scratch.blank("target", 4 << 30)?;
    let vm = Vm::new("bench-paczfs", system, packed).cpus(2).append("root=ZFS=tank/ROOT/be1 taproot-test.report");
    let vm = vm
        .disk(scratch.overlay(system, "tank0")?)
        .disk(target)
        .memory(2048)
        .file("opt/taproot/script", format!("PATIENCE={PATIENCE}\n{PACZFS}").as_bytes());
    let mut vm = vm.start()?;
    vm.report(180)?;
    let said = vm.script(u64::from(PATIENCE) + 180)?;
    let at = |word: &str| -> Result<f64> {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(word));
        line.and_then(|line| line.trim().parse().ok())
            .with_context(|| format!("no {word} in what was printed:\n{said}"))
    };
    let whole = !said.lines().any(|line| line.trim().starts_with("CUT"));
    if whole {
        vm.wait_exit(120)?;
    }
    let seconds = at(if whole { "ENDED" } else { "CUT" })? - at("BEGUN")?;
    Ok((Cost { seconds, pool: 0.0, memory: 0.0, size: 0.0 }, whole))
}
