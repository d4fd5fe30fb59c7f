//! `taproot completions`.

use crate::cli::Cli;
use crate::output::print;
use anyhow::Result;
use clap::CommandFactory;

/// Prints the script.
pub fn run(shell: clap_complete::Shell) -> Result<()> {
    // Not to standard output itself: a reader that has seen enough would make it panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "taproot", &mut script);
    print(&String::from_utf8_lossy(&script))
}
