//! `make demo`: an installed Debian on ZFS boots through the packed image, changes its boot environment, and boots again; a tree becomes
//! a disk image, which boots.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use taproot_tests::kit::{SYSTEMS, System};
use taproot_tests::nobody::{self, Room};
use taproot_tests::show;
use taproot_tests::vm::{Disk, Report, Running, Scratch, Vm, accel};
use taproot_tests::{image, kit, words};

fn main() -> Result<()> {
    let system = System::open(&std::env::var("TAPROOT_SYSTEM").unwrap_or_else(|_| SYSTEMS[0].to_owned()))?;
    let accel = accel()?;
    heading("What is booted");
    println!(
        "  {}: {} with kernel {} and OpenZFS {}, installed on the pool tank:",
        system.name,
        system.debian()?,
        system.kernel,
        system.zfs
    );
    println!("  two boot environments (tank/ROOT/be1, be2), /home with canmount=on, a legacy /srv in fstab.");
    println!("  QEMU with {}; the pool's image stays as it is (copy-on-write).", accel.argument());

    heading("Packing the image");
    let scratch = Scratch::new()?;
    let packed = scratch.path().join("initramfs.img");
    let mut pack = image::pack_command(&system, &["--modules", "generic", "--rescue", "small"], &packed);
    println!("  $ {}", shown(&pack));
    let start = Instant::now();
    kit::run(&mut pack)?;
    let size = std::fs::metadata(&packed).context("the packed image")?.len();
    println!("  {:.1} MB in {:.1} s", megabytes(size), start.elapsed().as_secs_f64());

    let mut screen = Screen::default();
    let mut vm = Vm::new("demo", &system, &packed)
        .cpus(2)
        .append("root=zfs:AUTO taproot-test.report")
        .disk(scratch.overlay(&system, "tank0")?)
        .reboots()
        .start()?;

    heading("First boot: root=zfs:AUTO");
    let first = boot(&mut screen, &vm)?;

    heading("Changing the boot environment, typed on the console");
    vm.type_line("root")?;
    screen.until(&vm, ":~#", 30)?;
    vm.type_line("zpool set bootfs=tank/ROOT/be2 tank && zpool get -H bootfs tank")?;
    screen.all = true;
    screen.until(&vm, ":~#", 30)?;
    screen.all = false;
    vm.type_line("systemctl reboot")?;

    heading("Second boot: the same command line");
    let second = boot(&mut screen, &vm)?;
    vm.type_line("root")?;
    screen.until(&vm, ":~#", 30)?;
    vm.type_line("systemctl poweroff")?;
    vm.wait_exit(60)?;

    let (before, after) = (root(&first.1), root(&second.1));
    if before == after {
        bail!("the root did not change: {before} both times");
    }
    heading("Result");
    println!("  bootfs was changed, and the root with it: {before} -> {after}\n");
    println!("{}", phases(&first, &second));
    println!("  (start: since the kernel started. The zfs module starts while the disks are looked for.)");
    disk_image(&system)
}

/// The kit's tree becomes a disk that boots from ZFS: made by nobody, without root, loop devices or ZFS.
fn disk_image(system: &System) -> Result<()> {
    heading("A disk image, made by a user who may nothing");
    let room = Room::new()?;
    let mut make = room.taproot();
    make.args(["image", "--tar", "-", "--qcow2", "box.qcow2", "--set", "system.allow-empty-root=true", "--cmdline"]);
    make.arg("zfs=zroot console=ttyS0 no_timer_check taproot-test.report").stdout(Stdio::inherit());
    println!("  $ tar -C {} -c . | {}", system.tree().display(), shown(&make));
    let start = Instant::now();
    let output = nobody::feed(&system.tree(), make.stderr(Stdio::inherit()))?;
    ensure!(output.status.success(), "taproot image: {}", output.status);
    println!("  {:.1} s", start.elapsed().as_secs_f64());
    let disk = Disk::writable(&room.path("box.qcow2"), "qcow2", "box");
    heading("It boots by UEFI");
    let mut vm = Vm::from_disk("demo-image", system, disk).cpus(2).uefi().memory(1536).start()?;
    let mut screen = Screen::default();
    boot(&mut screen, &vm)?;
    vm.type_line("root")?;
    screen.until(&vm, ":~#", 30)?;
    vm.type_line("systemctl poweroff")?;
    vm.wait_exit(60)
}

/// Follows one boot to the login prompt and tells what it chose.
fn boot(screen: &mut Screen, vm: &Running) -> Result<(Report, Value)> {
    // The report and the login prompt come on two lines, in either order.
    screen.until(vm, "login:", 120)?;
    let report = vm.report(60)?;
    let json = report.json.clone().context("the booted system has no /run/taproot/boot.json")?;
    println!();
    println!("  host name   {}", report.hostname());
    println!("  root        {}", show::text(&json, "/root"));
    println!("  because     {}", show::text(&json, "/choice/why"));
    println!("  systemd     multi-user.target is {}", report.one("STATE").replace(" failed=", ", failed units: "));
    let (table, absent) = mounts(&json, &report);
    println!("\n{table}");
    ensure!(
        absent.is_empty(),
        "mounted by the early boot, as it says, but not there for systemd: {}",
        absent.join(", ")
    );
    for skipped in show::entries(&json, "skipped") {
        println!("  left out    {}: {}", show::text(skipped, "/dataset"), show::text(skipped, "/why"));
    }
    Ok((report, json))
}

/// A table of what the early boot mounted, with whether systemd found it there; and what it did not find.
fn mounts(json: &Value, report: &Report) -> (String, Vec<String>) {
    let early = report.early_mounts();
    let mut absent = Vec::new();
    let mut rows = vec![["mounted", "dataset", "because", "before systemd"].map(str::to_owned).to_vec()];
    for mount in show::entries(json, "mounts") {
        let (target, dataset) = (show::text(mount, "/target"), show::text(mount, "/dataset"));
        let there = Report::dataset_at(&early, target).as_deref() == Some(dataset);
        let seen = if there { "yes" } else { "NO" };
        if !there {
            absent.push(format!("{dataset} on {target}"));
        }
        rows.push([target, dataset, show::text(mount, "/why"), seen].map(str::to_owned).to_vec());
    }
    (show::table(&rows), absent)
}

fn phases(first: &(Report, Value), second: &(Report, Value)) -> String {
    let (first, second) = (timeline(first), timeline(second));
    let mut rows =
        vec![["phase", "1st start [s]", "took [s]", "2nd start [s]", "took [s]"].map(str::to_owned).to_vec()];
    for (name, start, took) in first {
        let mut row = vec![name.clone(), start, took];
        if let Some((_, start, took)) = second.iter().find(|(n, ..)| *n == name) {
            row.extend([start.clone(), took.clone()]);
        }
        rows.push(row);
    }
    show::table(&rows)
}

/// Name, begin and duration of everything from the kernel's start to the real init's.
fn timeline((report, json): &(Report, Value)) -> Vec<(String, String, String)> {
    let phases = show::phases(json);
    let mut lines = Vec::new();
    if let Some(first) = phases.first() {
        lines.push(("kernel".to_owned(), show::seconds(0.0), show::seconds(first.start)));
    }
    let zfs = show::entries(json, "modules").find(|m| show::text(m, "/name") == "zfs");
    if let Some(ms) = zfs.and_then(|m| m.get("ms")).and_then(Value::as_f64) {
        lines.push(("zfs module".to_owned(), "-".to_owned(), show::seconds(ms)));
    }
    lines.extend(phases.iter().map(|p| (p.name.clone(), show::seconds(p.start), show::seconds(p.took))));
    if let Ok(start) = report.one("USERSPACE").parse::<f64>() {
        lines.push(("systemd".to_owned(), show::seconds(start / 1000.0), String::new()));
    }
    lines
}

fn root(json: &Value) -> &str {
    show::text(json, "/root")
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// The command as one would type it.
fn shown(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Shows what the console says while it is waited on: our own lines and the milestones, or everything.
#[derive(Debug, Default)]
struct Screen {
    /// Bytes of the console already looked at.
    seen: usize,
    all: bool,
}

impl Screen {
    /// Waits for `pattern`, showing lines on the way; `seconds` are those of KVM.
    fn until(&mut self, vm: &Running, pattern: &str, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + vm.accel.limit(seconds);
        loop {
            let turn = Instant::now() + Duration::from_millis(300);
            let outcome = vm.console.expect_any(&[pattern, words::PROMPT], turn.min(deadline));
            self.show(&vm.console.text());
            match outcome {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    bail!("the boot ended in the rescue prompt; the console's log is {}", vm.console.log.display())
                }
                Err(error) if Instant::now() > deadline || vm.console.dead().is_some() => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn show(&mut self, text: &str) {
        let fresh = text.get(self.seen..).unwrap_or_default();
        let whole = fresh.rfind('\n').map_or(0, |at| at + 1);
        self.seen += whole;
        for line in fresh.get(..whole).unwrap_or_default().lines() {
            let milestone = ["taproot: ", "Run /init", "Welcome to", "Reached target multi-user", " login: "];
            if !line.trim().is_empty() && (self.all || milestone.iter().any(|m| line.contains(m))) {
                println!("  | {line}");
            }
        }
    }
}
