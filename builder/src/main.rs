//! The `taproot` command: packs images for taproot-init.

use clap::Parser;
use std::process::ExitCode;
use taproot::cli::{Cli, Command};
use taproot::commands::{completions, explain, hooks, initramfs, inspect, man};

/// Exit code of a command that did its work and whose answer is no; 1: it failed, 2: it was not understood.
const NO: u8 = 3;

fn main() -> ExitCode {
    // Devices are read by a process of their own, which is this program anew; without the socket that it was given it ends.
    if let [_, word, args @ ..] = std::env::args().collect::<Vec<_>>().as_slice()
        && word == "scout"
    {
        return ExitCode::from(u8::try_from(taproot_init::scout::run::run(args)).unwrap_or(1));
    }
    let result = match Cli::parse().command {
        Command::Initramfs(args) => initramfs::run(&args).map(|()| true),
        Command::Hooks { action } => hooks::run(&action).map(|()| true),
        Command::Inspect(args) => inspect::run(&args).map(|()| true),
        Command::Explain(args) => explain::run(&args),
        Command::Completions { shell } => completions::run(shell).map(|()| true),
        Command::Man { directory } => man::run(&directory).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // The answer is no, and was said.
        Ok(false) => ExitCode::from(NO),
        Err(error) => {
            eprintln!("taproot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
