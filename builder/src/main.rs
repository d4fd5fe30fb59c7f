//! The `taproot` command: packs images for taproot-init.

use clap::Parser;
use std::process::ExitCode;
use taproot::cli::{Cli, Command};
use taproot::commands::{completions, explain, initramfs, inspect, man};

fn main() -> ExitCode {
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
