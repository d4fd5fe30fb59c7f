//! The words of the rescue prompt and of the packed shell, in one table.

use std::fmt::Write as _;

/// Where a word can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At the prompt, and as a program in the packed shell.
    Both,
    /// At the prompt, and in the packed shell as `/init WORD`: the shell has a word of its own of that name.
    Named,
    /// At the prompt; in the shell busybox has it.
    Prompt,
}

/// One word.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) args: &'static str,
    pub(super) help: &'static str,
    pub(super) place: Place,
    /// Whether it can be used while the prompt is locked.
    pub(super) open: bool,
}

const fn word(name: &'static str, args: &'static str, help: &'static str) -> Word {
    Word { name, args, help, place: Place::Both, open: false }
}

const fn open(name: &'static str, args: &'static str, help: &'static str) -> Word {
    Word { open: true, ..word(name, args, help) }
}

const fn prompt(name: &'static str, args: &'static str, help: &'static str) -> Word {
    Word { place: Place::Prompt, ..word(name, args, help) }
}

/// All of them, in the order in which `help` shows them.
pub(super) static WORDS: [Word; 30] = [
    open("why", "", "what went wrong"),
    open("status", "", "what was asked, found, chosen and mounted"),
    word("log", "", "the log of this boot"),
    word("kernel-log", "", "the kernel's log"),
    word("report", "", "the machine-readable record (boot.json)"),
    word("devices", "", "block devices and what is on them"),
    word("pools", "", "pools on the disks, and imported ones"),
    word("datasets", "[POOL]", "datasets of the imported pools"),
    word("import", "POOL|GUID [ro] [missing-log] [checkpoint|rewind]", "import a pool, mount nothing"),
    Word { place: Place::Named, ..word("export", "POOL", "unmount and export a pool (shell: /init export)") },
    word("clear", "POOL", "go on with a pool whose disks are back"),
    word("key", "[DATASET [[DEVICE:]/PATH]]", "type a key, or read it from a file"),
    word("mount", "DATASET[@SNAPSHOT]|IMAGE [DIR] [ro]", "mount it, on /mnt if no directory is given"),
    prompt("umount", "DIR|DATASET", "unmount what is mounted there"),
    word("boot", "[DATASET[@SNAPSHOT] [WORDS...]]", "boot this root instead"),
    word("cmdline", "[WORDS...]", "try again with these words, not the kernel's"),
    open("retry", "[WORDS...]", "try again; WORDS change those of the command line"),
    word("fresh-upper", "", "try again with a fresh upper; the old one is kept"),
    open("wait", "SECONDS", "try again and wait longer for the disks"),
    open("continue", "", "go on from a stop (break=)"),
    word("save-log", "[DEVICE]", "write log and record to a disk, e.g. a USB stick"),
    Word { place: Place::Prompt, ..open("unlock", "", "enter the rescue password") },
    prompt("shell", "", "the packed shell"),
    prompt("ls", "[DIR]", "names in a directory"),
    prompt("cat", "FILE", "contents of a file, e.g. cat /proc/mounts"),
    open("reboot", "", "restart the machine"),
    open("poweroff", "", "switch it off"),
    open("help", "", "this list"),
    Word { place: Place::Prompt, ..open("menu", "", "the numbered choices again") },
    Word { place: Place::Prompt, ..open("exit", "", "like continue after a stop, else like retry") },
];

/// The word of this name.
pub(super) fn find(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|w| w.name == name)
}

/// The list that `help` shows.
pub(super) fn help(mut fits: impl FnMut(&Word) -> bool) -> String {
    let mut out = String::new();
    for word in WORDS.iter().filter(|w| fits(w)) {
        let form = format!("{} {}", word.name, word.args);
        if form.len() > 30 {
            let _ = writeln!(out, "{form}\n{:<31}{}", "", word.help);
        } else {
            let _ = writeln!(out, "{form:<30} {}", word.help);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_every_word() {
        let doc = include_str!("../../../docs/rescue.md");
        let table = doc.split("| word | what it does |").nth(1).unwrap().split("\n\n").next().unwrap();
        for word in &WORDS {
            let there = ["`", " "].iter().any(|end| table.contains(&format!("`{}{end}", word.name)));
            assert!(there, "docs/rescue.md lacks `{}`", word.name);
        }
    }

    #[test]
    fn what_people_are_told_to_type_are_words() {
        let doc = include_str!("../../../docs/rescue.md");
        let table = doc.split("## What you see, what to type").nth(1).unwrap().split("\n## ").next().unwrap();
        let typed = table.lines().filter_map(|row| row.strip_prefix("| `")?.split(" | ").nth(1));
        let spans: Vec<&str> = typed.flat_map(|column| column.split('`').skip(1).step_by(2)).collect();
        assert!(spans.len() > 30, "{spans:?}");
        for span in spans {
            let first = span.split(' ').next().unwrap();
            assert!(first == "yes" || find(first).is_some(), "docs/rescue.md tells to type `{span}`");
        }
    }

    #[test]
    fn help_fits_eighty_columns() {
        let text = help(|_| true);
        assert!(text.lines().all(|l| l.len() <= 80), "{text}");
        assert!(text.contains("what went wrong"));
        assert!(WORDS.iter().all(|w| find(w.name).is_some_and(|found| std::ptr::eq(found, w))), "a word stands twice");
    }
}
