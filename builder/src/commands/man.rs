//! `taproot man`.

use crate::cli::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::fs;
use std::path::Path;

/// Writes a page for the program and one for each subcommand.
pub fn run(directory: &Path) -> Result<()> {
    let failed = || format!("{}: writing man pages", directory.display());
    let program = Cli::command();
    clap_mangen::generate_to(program.clone(), directory).with_context(failed)?;
    let mut pages = vec!["taproot".to_owned()];
    for command in program.get_subcommands() {
        let name = format!("taproot-{}", command.get_name());
        pages.extend(command.get_subcommands().map(|action| format!("{name}-{}", action.get_name())));
        pages.push(name);
    }
    for page in pages.iter().map(|name| format!("{name}.1")) {
        let path = directory.join(page);
        let text = fs::read_to_string(&path).with_context(failed)?;
        fs::write(&path, with_whole_examples(&text)).with_context(failed)?;
    }
    Ok(())
}

/// Keeps the lines of examples as they are: broken and hyphenated they could not be copied. The next heading ends that.
fn with_whole_examples(page: &str) -> String {
    page.replace("\nExamples:\n", "\n.nf\nExamples:\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_not_filled() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path()).unwrap();
        let pages = [
            ("taproot.1", "taproot initramfs "),
            ("taproot-explain.1", "taproot explain "),
            ("taproot-hooks-enable.1", "taproot hooks enable"),
        ];
        for (page, example) in pages {
            let text = fs::read_to_string(dir.path().join(page)).unwrap();
            let examples = text.split("\n.nf\nExamples:\n").nth(1).unwrap();
            assert!(examples.trim_start().starts_with(example), "{text}");
        }
    }
}
