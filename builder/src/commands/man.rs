//! `taproot man`.

use crate::cli::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::path::Path;

/// Writes a page for the program and one for each subcommand.
pub fn run(directory: &Path) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("{}: writing man pages", directory.display()))
}
