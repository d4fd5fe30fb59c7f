//! The `taproot` command: packs images for taproot-init.

use clap::Parser;
use std::process::ExitCode;
use taproot::cli::{Cli, Command};
use taproot::commands::{completions, explain, initramfs, inspect, man};

fn main() -> ExitCode {
    // Devices are read by a process of their own, which is this program anew; without the socket that it was given it ends.
    if let [_, word, args @ ..] = std::env::args().collect::<Vec<_>>().as_slice()
        && word == "scout"
    {
        return ExitCode::from(u8::try_from(taproot_init::scout::run::run(args)).unwrap_or(1));
    }
    let result = match Cli::parse().command {
        Command::Initramfs(args) => initramfs::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(&directory),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taproot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
