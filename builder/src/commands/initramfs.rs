//! `taproot initramfs`.

use crate::cli::InitramfsArgs;
use crate::initramfs::{Summary, build};
use crate::output::{Cleanup, Target, print};
use crate::progress::{Progress, megabytes};
use crate::settings::Settings;
use anyhow::{Result, ensure};

/// Builds the image and says what was built.
pub fn run(args: &InitramfsArgs) -> Result<()> {
    // Before any other thread is there.
    let cleanup = Cleanup::on_signals();
    let settings = Settings::new(args)?;
    ensure!(
        settings.target != Target::Standard || !args.json,
        "--output - and --json both want standard output; choose one"
    );
    let progress = Progress::new(args.quiet || args.json);
    let result = build(&settings, &progress, &cleanup, |_| Ok(()));
    progress.finish();
    let summary = result?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&summary)?));
    }
    if args.quiet { Ok(()) } else { report(&summary, &settings.target) }
}

fn report(summary: &Summary, target: &Target) -> Result<()> {
    for line in &summary.ignored_modprobe_lines {
        eprintln!("note: modprobe.d: {line:?} has no effect in the image: nothing is executed to load a module");
    }
    if !summary.absent_firmware.is_empty() {
        eprintln!(
            "note: firmware not in the tree, packed drivers may ask for it: {}",
            summary.absent_firmware.join(", ")
        );
    }
    let seconds: f64 = summary.seconds.values().sum();
    let line = format!(
        "{}: {} ({} unpacked), {} modules of kernel {}, OpenZFS {}, {seconds:.2} s\n",
        summary.output.display(),
        megabytes(summary.bytes),
        megabytes(summary.uncompressed_bytes),
        summary.modules,
        summary.kernel,
        summary.zfs.as_deref().unwrap_or("built in"),
    );
    if *target == Target::Standard {
        eprint!("{line}");
        return Ok(());
    }
    print(&line)
}
