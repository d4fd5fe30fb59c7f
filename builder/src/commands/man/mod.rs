//! `taproot man`.

mod page;

use crate::cli::Cli;
use anyhow::{Context, Result};
use clap::CommandFactory;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A page made of documents: its name, section, one line about it, and the Markdown.
struct Page {
    name: &'static str,
    section: u8,
    about: &'static str,
    text: &'static [&'static str],
    see: &'static [&'static str],
}

/// What `docs/` has for those who boot with it, so that there is one text of each.
const PAGES: [Page; 11] = [
    Page {
        name: "taproot",
        section: 7,
        about: "words of the kernel command line that taproot-init understands",
        text: &[include_str!("../../../../docs/boot-parameters.md")],
        see: &["taproot-init(8)", "taproot-mounts(7)", "taproot-rescue(7)", "taproot-explain(1)"],
    },
    Page {
        name: "taproot-init",
        section: 8,
        about: "the init of an initramfs that finds, unlocks and mounts the root",
        text: &[include_str!("../../../../docs/taproot-init.md")],
        see: &["taproot(7)", "taproot-rescue(7)", "taproot-errors(7)", "taproot-initramfs(1)"],
    },
    Page {
        name: "taproot.toml",
        section: 5,
        about: "configuration of taproot initramfs",
        text: &[include_str!("../../../../docs/configuration.md")],
        see: &["taproot-initramfs(1)", "taproot(7)"],
    },
    Page {
        name: "taproot-rescue",
        section: 7,
        about: "the prompt of a boot that cannot go on, and headless machines",
        text: &[include_str!("../../../../docs/rescue.md")],
        see: &["taproot-init(8)", "taproot-errors(7)", "taproot(7)"],
    },
    Page {
        name: "taproot-errors",
        section: 7,
        about: "messages of taproot-init, their causes and what to do",
        text: &[include_str!("../../../../docs/errors.md")],
        see: &["taproot-rescue(7)", "taproot(7)"],
    },
    Page {
        name: "taproot-mounts",
        section: 7,
        about: "which datasets and file systems are mounted with the root",
        text: &[include_str!("../../../../docs/mounts.md")],
        see: &["taproot(7)", "taproot-init(8)"],
    },
    Page {
        name: "taproot-kernel-hooks",
        section: 7,
        about: "images that follow the installed kernels",
        text: &[include_str!("../../../../docs/kernel-hooks.md")],
        see: &["taproot-hooks(1)", "taproot.toml(5)", "taproot-findings(7)"],
    },
    Page {
        name: "taproot-first-boot",
        section: 7,
        about: "what a copy of an image does in its first boot, and how it grows with its disk",
        text: &[include_str!("../../../../docs/first-boot.md")],
        see: &["taproot-first-boot(1)", "taproot-grow(1)", "taproot-kernel-hooks(7)"],
    },
    Page {
        name: "taproot-findings",
        section: 7,
        about: "what taproot status and taproot doctor say",
        text: &[include_str!("../../../../docs/status.md")],
        see: &["taproot-status(1)", "taproot-doctor(1)", "taproot-kernel-hooks(7)"],
    },
    Page {
        name: "taproot-layer-tools",
        section: 7,
        about: "layers of a root: making, checking, merging and committing them",
        text: &[include_str!("../../../../docs/layer-tools.md")],
        see: &["taproot-layer(1)", "taproot-layer-init(1)", "taproot-layer-merge(1)", "taproot-layer-commit(1)"],
    },
    Page {
        name: "taproot-keys",
        section: 7,
        about: "keys of encrypted datasets at boot",
        text: &[include_str!("../../../../docs/keys.md")],
        see: &["taproot(7)", "taproot-rescue(7)"],
    },
];

/// What follows on the pages of the commands, which clap does not know.
const COMMANDS: &str = "\
## Exit status

- **0**: done; for `explain`: it would boot, as far as is known.
- **1**: it failed, or was refused.
- **2**: the command line was not understood.
- **3**: done, and the answer is no. `taproot doctor` has its own, below *EXIT CODES* of taproot-findings(7).

## Files

- **/etc/taproot/initramfs.toml**: what `taproot initramfs` does by default, taproot.toml(5).
- **/usr/lib/taproot/taproot-init**: the program that becomes `/init`.
- **/run/taproot/boot.json**, **/run/taproot/boot.log**: what the present boot found and did.

## Environment

- **SOURCE_DATE_EPOCH**: time of the files in an image, in seconds since 1970.
";

/// Writes a page for the program, one for each subcommand, and those of `docs/`.
pub fn run(directory: &Path) -> Result<()> {
    let failed = || format!("{}: writing man pages", directory.display());
    let program = Cli::command();
    clap_mangen::generate_to(program.clone(), directory).with_context(failed)?;
    let mut names = Vec::new();
    for command in program.get_subcommands() {
        let name = format!("taproot-{}", command.get_name());
        names.extend(command.get_subcommands().map(|action| format!("{name}-{}", action.get_name())));
        names.push(name);
    }
    for name in names.iter().map(String::as_str).chain(["taproot"]) {
        let path = directory.join(format!("{name}.1"));
        let mut text = with_whole_examples(&fs::read_to_string(&path).with_context(failed)?);
        text.push_str(&page::body(COMMANDS));
        let others = names.iter().map(String::as_str).chain(["taproot"]).filter(|other| *other != name);
        let others: Vec<String> = others.map(|other| format!("{other}(1)")).collect();
        text.push_str(&see_also(others.iter().map(String::as_str).chain([
            "taproot(7)",
            "taproot-init(8)",
            "taproot.toml(5)",
        ])));
        fs::write(&path, text).with_context(failed)?;
    }
    for page in &PAGES {
        fs::write(directory.join(format!("{}.{}", page.name, page.section)), page.roff()).with_context(failed)?;
    }
    Ok(())
}

impl Page {
    fn roff(&self) -> String {
        let mut text = page::head(self.name, self.section, self.about);
        for document in self.text {
            text.push_str(&page::body(document));
        }
        text.push_str(&see_also(self.see.iter().copied()));
        text
    }
}

fn see_also<'a>(pages: impl Iterator<Item = &'a str>) -> String {
    let list: Vec<&str> = pages.collect();
    let mut text = String::from(".SH \"SEE ALSO\"\n");
    let _ = writeln!(text, "{}", list.join(", "));
    text
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
            ("taproot-layer-diff.1", "taproot layer diff"),
        ];
        for (page, example) in pages {
            let text = fs::read_to_string(dir.path().join(page)).unwrap();
            let examples = text.split("\n.nf\nExamples:\n").nth(1).unwrap();
            assert!(examples.trim_start().starts_with(example), "{text}");
        }
    }

    #[test]
    fn every_page_has_the_usual_sections() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path()).unwrap();
        let files: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        for wanted in ["taproot.1", "taproot.7", "taproot-init.8", "taproot.toml.5", "taproot-initramfs.1"] {
            assert!(files.iter().any(|file| file == wanted), "{wanted}: {files:?}");
        }
        for file in &files {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            let mut sections = vec![".SH NAME", ".SH \"SEE ALSO\""];
            if file.ends_with(".1") || file.ends_with(".8") {
                sections.extend([".SH \"EXIT STATUS\"", ".SH FILES", ".SH ENVIRONMENT"]);
            }
            for section in sections {
                assert!(text.lines().any(|line| line == section), "{file}: no line {section}\n{text}");
            }
        }
    }

    #[test]
    fn pages_that_are_named_are_there() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path()).unwrap();
        for page in &PAGES {
            for other in page.see {
                let (name, section) = other.trim_end_matches(')').split_once('(').unwrap();
                assert!(dir.path().join(format!("{name}.{section}")).exists(), "{}: {other}", page.name);
            }
        }
    }
}
