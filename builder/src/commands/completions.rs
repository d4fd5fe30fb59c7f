//! `taproot completions`.

use crate::cli::Cli;
use clap::CommandFactory;

/// Prints the script.
pub fn run(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "taproot", &mut std::io::stdout());
}
