//! `taproot layer commit`, `merge N NAME`, `rollback` and their kin: what is asked of the running system's stack.

use super::{json, make};
use crate::cli::layer::{AskArgs, CommitArgs, MergeArgs, StackStatusArgs, WorkArgs};
use crate::layer::stack::ask::{Ask, How, Noted, ask};
use crate::layer::stack::report::{report, text};
use crate::layer::stack::running::Running;
use crate::layer::stack::work::{self, Options};
use crate::output::{Cleanup, print};
use crate::progress::{Progress, megabytes};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use taproot_init::sys::entry::give_way;

/// What carries out the steps.
const SERVICE: &str = "taproot-layer-work.service";

/// Asks for a commit.
pub(super) fn commit(args: &CommitArgs) -> Result<()> {
    let CommitArgs { name, with, format, force, ask } = args;
    requested(&Ask::Commit { name: name.clone(), with: *with, format: *format }, ask, *force)
}

/// Asks for a merge.
pub(super) fn merge(args: &MergeArgs) -> Result<()> {
    let (count, names) = (args.first.to_str().and_then(|count| count.parse().ok()), args.rest.as_slice());
    let (Some(count), [name]) = (count, names) else {
        bail!(
            "expected how many of the running system's layers and the name of the new one, as in `taproot layer merge 2 site`; found `{} \
             {}`. For layers that are named: --offline",
            args.first.display(),
            names.iter().map(|name| name.display().to_string()).collect::<Vec<_>>().join(" ")
        );
    };
    let seal = &args.seal;
    ensure!(
        seal.compress.is_none() && seal.jobs.is_none() && !seal.drop_acls && !seal.low_priority,
        "--compress, --jobs, --drop-acls and --low-priority are for `taproot layer work`, which builds the image (systemctl edit {SERVICE})"
    );
    let how = AskArgs { dry_run: seal.dry_run, reboot: args.reboot, json: seal.json, quiet: seal.quiet };
    let name = name.to_string_lossy().into_owned();
    requested(&Ask::Merge { count, name, format: args.format }, &how, seal.force)
}

/// Asks for what needs no look at files.
pub(super) fn simple(wanted: &Ask, args: &AskArgs) -> Result<()> {
    requested(wanted, args, false)
}

fn requested(wanted: &Ask, args: &AskArgs, force: bool) -> Result<()> {
    root()?;
    let progress = Progress::new(args.quiet || args.json);
    let running = Running::find()?;
    let noted = ask(&running, wanted, How { dry_run: args.dry_run, force }, &progress);
    progress.finish();
    let noted = noted?;
    if args.json {
        json(&noted)?;
    } else if !args.quiet {
        print(&said(wanted, &noted, &running))?;
    }
    if args.dry_run {
        return Ok(());
    }
    start_service();
    if args.reboot { restart() } else { Ok(()) }
}

fn root() -> Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    ensure!(is_root, "changing the root's layers takes root; run it with sudo");
    Ok(())
}

fn said(wanted: &Ask, noted: &Noted, running: &Running) -> String {
    let mut lines: Vec<String> = noted.notes.iter().map(|note| format!("note: {note}")).collect();
    if let (Some(image), Some(totals), Some(estimate)) = (&noted.image, &noted.totals, &noted.estimate) {
        lines.push(format!(
            "{}: {} entries, {}, {} whiteouts, {} opaque directories so far; about {} are needed",
            image.display(),
            totals.entries,
            megabytes(totals.bytes),
            totals.whiteouts,
            totals.opaque,
            megabytes(estimate.needed)
        ));
    }
    let next = match wanted {
        Ask::Commit { .. } if running.in_memory() => {
            "the upper in memory is copied now, while it is written; it is sealed with that"
        }
        Ask::Commit { .. } => "the next boot seals the upper",
        Ask::Merge { .. } => "the image is built now; the next boot takes it on trial",
        Ask::Rollback(_) => "the next boot takes it on trial",
        Ask::Withdraw(_) => "it is withdrawn",
        Ask::Retry(_) => "it is tried again",
        Ask::Forget(_) => "what only that stack has is removed",
    };
    lines.push(match noted.generation {
        Some(_) => format!("noted: {next} (taproot layer status)"),
        None => format!("would be noted: {next}"),
    });
    lines.join("\n") + "\n"
}

/// Without systemd, or without the unit, somebody has to call it.
fn start_service() {
    let mut command = Command::new("systemctl");
    command.args(["start", "--no-block", SERVICE]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !Path::new("/run/systemd/system").is_dir() || !command.status().is_ok_and(|status| status.success()) {
        eprintln!("note: {SERVICE} could not be started; `taproot layer work` does what it does");
    }
}

fn restart() -> Result<()> {
    let status = Command::new("systemctl").arg("reboot").status().context("starting systemctl reboot")?;
    ensure!(status.success(), "systemctl reboot failed; it is noted, restart the machine");
    Ok(())
}

/// Says how far everything is; whether nothing waits for a person.
pub(super) fn status(args: &StackStatusArgs) -> Result<bool> {
    root()?;
    let report = report(&Running::find()?, args.hidden)?;
    if args.json {
        json(&report)?;
    } else {
        print(&text(&report))?;
    }
    let stuck = report.operations.iter().any(|operation| operation.trouble.is_some() && !operation.lacks_room);
    Ok(!stuck && report.next.is_none_or(|next| next.lacking.is_empty()))
}

/// Carries out what was asked for.
pub(super) fn work(args: &WorkArgs) -> Result<()> {
    root()?;
    give_way();
    let cleanup = Cleanup::on_signals();
    if let Some(jobs) = args.jobs {
        // Only once, and a pool that is there already does as well.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(jobs.into()).build_global();
    }
    let progress = Progress::new(args.quiet);
    let options = Options {
        compression: args.compress.clone(),
        drop_acls: args.drop_acls,
        jobs: args.jobs.map(usize::from),
        epoch: make::epoch()?,
    };
    let running = Running::find()?;
    let done = work::go_on(&running, &options, &progress, &cleanup);
    progress.finish();
    done?;
    if args.quiet {
        return Ok(());
    }
    print(&format!("waits for {}\n", report(&running, false)?.waits_for))
}

/// Calls this boot good.
pub(super) fn confirm() -> Result<()> {
    root()?;
    let running = Running::find()?;
    if let Some(state) = work::confirm(&running)? {
        print(&format!("this boot is good: generation {}\n", state.generation))?;
        start_service();
    }
    Ok(())
}
