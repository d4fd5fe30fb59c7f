//! The `taproot` command: packs images for taproot-init.

use clap::Parser;
use std::process::ExitCode;
use taproot::cli::{Cli, Command};
use taproot::commands::{
    completions, disk, doctor, explain, hooks, image, initramfs, inspect, install, layer, live, machine, man,
    run as vm, status, takeover,
};
use taproot::output::printable;
use taproot::status::look;
use taproot_init::shutdown;
use taproot_init::sys::linux::Linux;

/// Exit code of a command that did its work and whose answer is no; 1: it failed, 2: it was not understood.
const NO: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if std::process::id() == 1 {
        // Called by systemd-shutdown, of which it is the next program.
        if let Some(end) = shutdown::called(&args) {
            let system: std::sync::Arc<dyn taproot_init::sys::System> = std::sync::Arc::new(Linux::new());
            shutdown::run(&system, end);
        }
        if args.first().is_some_and(|name| name == "/init") {
            taproot::takeover::in_memory();
        }
    }
    let result = match args.as_slice() {
        // Devices are read by a process of their own, which is this program anew; without the socket that it was given it ends.
        [_, word, args @ ..] if word == "scout" => {
            return ExitCode::from(u8::try_from(taproot_init::scout::run::run(args)).unwrap_or(1));
        }
        // So is what may never answer.
        [_, word, args @ ..] if word == look::WORD => look::look(args).map(|()| 0),
        _ => run(args.get(1).is_some_and(|word| word == "doctor")),
    };
    result.map_or_else(
        |error| {
            complain(&error);
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn complain(error: &anyhow::Error) {
    eprintln!("taproot: {}", printable(&format!("{error:#}")));
}

/// Does what the command line says; the exit code. `monitored`: it is a check, whose 1 and 2 mean something else than that it
/// failed or was not understood.
fn run(monitored: bool) -> anyhow::Result<u8> {
    let cli = match Cli::try_parse() {
        Err(error) if monitored && error.use_stderr() => {
            let _ = error.print();
            return Ok(doctor::UNKNOWN);
        }
        Err(error) => error.exit(),
        Ok(cli) => cli,
    };
    let done = |()| 0;
    // The answer is no, and was said.
    let answered = |yes: bool| if yes { 0 } else { NO };
    match cli.command {
        Command::Initramfs(args) => initramfs::run(&args).map(done),
        Command::Hooks { action } => hooks::run(&action).map(done),
        Command::Inspect(args) => inspect::run(&args).map(done),
        Command::Explain(args) => explain::run(&args).map(answered),
        Command::Status(args) => status::run(&args).map(answered),
        Command::Doctor(args) => doctor::run(&args).or_else(|error| {
            complain(&error);
            Ok(doctor::UNKNOWN)
        }),
        Command::Image(args) => image::run(&args).map(done),
        Command::Live(args) => live::run(&args).map(done),
        Command::Layer { action } => layer::run(&action).map(answered),
        Command::FirstBoot(args) => disk::first_boot(&args).map(done),
        Command::Grow(args) => disk::grow(&args).map(done),
        Command::Replace(args) => disk::replace(&args).map(done),
        Command::Install(args) => install::run(&args).map(done),
        Command::Machine { action } => machine::run(&action).map(done),
        Command::Run(args) => vm::run(&args).map(done),
        Command::Takeover(args) => takeover::run(&args).map(done),
        Command::Completions { shell } => completions::run(shell).map(done),
        Command::Man { directory } => man::run(&directory).map(done),
    }
}
