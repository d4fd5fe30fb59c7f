//! The keyboard's layout: compiled when packing, loaded before the first question on a screen, and said with each. A boot that asks
//! nothing does not pay for it, and the booted system loads its own.

use crate::report::log::Log;
use crate::sys::System;
use crate::sys::consoles::Consoles;
use crate::sys::keymap::{COMPOSE_MAX, Keymap};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Where the packed layout lies in an image. Without it the kernel's own stays, which is that of US keyboards.
pub const KEYMAP_PATH: &str = "/etc/taproot/keymap";
/// Which layout the keyboard has, once that is settled.
const ACTIVE: &str = "/run/taproot/keyboard";
/// Longest file that is read: every key with every modifier takes half of it.
const FILE_MAX: usize = 1 << 20;
/// Longest name, characters.
const NAME_MAX: usize = 60;
/// First line of the file.
const FORMAT: &str = "taproot-keymap 1";
/// The layout that the kernel has built in.
pub const KERNELS: &str = "us";

/// A keymap and how people call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// `de`, `de-latin1`, `us(dvorak)`.
    pub name: String,
    /// What its keys do.
    pub keymap: Keymap,
}

/// A file that is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Of another format.
    #[error("expected a file that begins with {FORMAT:?}")]
    Format,
    /// A line that says nothing.
    #[error("line {0}: expected name, complete, table or compose with what belongs to it")]
    Line(usize),
}

impl Layout {
    /// With a name that fits in a line on a screen.
    pub fn new(name: &str, keymap: Keymap) -> Self {
        Self { name: printable(name), keymap }
    }

    /// The text of the file: after its first line `name NAME`, `complete`, `table MODIFIERS KEY=ACTION...`, and
    /// `compose ACCENT LETTER RESULT`; actions and characters are hexadecimal.
    pub fn render(&self) -> String {
        let mut out = format!("{FORMAT}\nname {}\n", self.name);
        if self.keymap.complete {
            out.push_str("complete\n");
        }
        for (table, keys) in &self.keymap.tables {
            let _ = write!(out, "table {table}");
            for (key, action) in keys {
                let _ = write!(out, " {key}={action:x}");
            }
            out.push('\n');
        }
        for [accent, letter, result] in self.keymap.compose.iter().map(|chars| chars.map(u32::from)) {
            let _ = writeln!(out, "compose {accent:x} {letter:x} {result:x}");
        }
        out
    }

    /// Reads the file. Half a layout would be worse than none, so every line counts.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, first)| first != FORMAT) {
            return Err(LayoutError::Format);
        }
        let mut layout = Self::default();
        for (at, line) in lines {
            layout.line(line).ok_or(LayoutError::Line(at + 1))?;
        }
        if layout.name.is_empty() {
            return Err(LayoutError::Format);
        }
        Ok(layout)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "name" => self.name = printable(rest),
            "complete" if rest.is_empty() => self.keymap.complete = true,
            "table" => {
                let mut words = rest.split(' ');
                let table = words.next()?.parse().ok()?;
                let keys = words.map(|word| {
                    let (key, action) = word.split_once('=')?;
                    Some((key.parse().ok()?, u16::from_str_radix(action, 16).ok()?))
                });
                self.keymap.tables.insert(table, keys.collect::<Option<BTreeMap<u8, u16>>>()?);
            }
            "compose" => {
                let chars = rest.split(' ').map(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?));
                let chars = chars.take(4).collect::<Option<Vec<char>>>()?;
                self.keymap.compose.push(chars.try_into().ok()?);
                if self.keymap.compose.len() > COMPOSE_MAX {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect::<String>().trim().to_owned()
}

/// Says on the screens which layout the keyboard has; before the first time it gets the packed one. Called before a person types.
pub fn announce(system: &dyn System, log: &Log, consoles: &dyn Consoles) {
    // Inside another tool's initramfs the layout is that tool's, and a program of the shell has it from us.
    if system.is_init() && consoles.has_screen() {
        let name = active(system, log, consoles);
        consoles.print_on_screens(&format!("Keyboard layout: {name}\n"));
    }
}

/// The layout that the keyboard has, made so if need be.
fn active(system: &dyn System, log: &Log, consoles: &dyn Consoles) -> String {
    let settled = printable(&system.text(ACTIVE));
    if !settled.is_empty() {
        return settled;
    }
    let name = match packed(system) {
        None => KERNELS.to_owned(),
        Some(layout) => match layout.and_then(|layout| {
            consoles.load_keymap(&layout.keymap).map_err(|e| format!("{}: {e}", layout.name))?;
            Ok(layout.name)
        }) {
            Ok(name) => {
                log.info(format!("keyboard layout {name} is loaded"));
                name
            }
            Err(e) => {
                log.warn(format!(
                    "the packed keyboard layout could not be loaded, so keys lie as on a US keyboard: {e}"
                ));
                format!("{KERNELS} (the packed one could not be loaded)")
            }
        },
    };
    // Without it the next question does all this again.
    let _ = system.write(Path::new(ACTIVE), name.as_bytes());
    name
}

/// The layout in the image; `None` if it has none.
fn packed(system: &dyn System) -> Option<Result<Layout, String>> {
    let path = Path::new(KEYMAP_PATH);
    let bytes = match system.read(path, FILE_MAX) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        other => other,
    };
    let layout = bytes.map_err(|e| e.to_string()).and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        Layout::parse(&text).map_err(|e| e.to_string())
    });
    Some(layout.map_err(|e| format!("{KEYMAP_PATH}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::{Machine, Said, Tree};
    use std::sync::Arc;

    fn german() -> Layout {
        let plain = BTreeMap::from([(21, 0xb7a), (44, 0xb79), (12, 0xdf ^ 0xf000)]);
        let tables = BTreeMap::from([(0, plain), (1, BTreeMap::from([(21, 0xb5a)])), (12, BTreeMap::new())]);
        Layout::new("de", Keymap { tables, complete: true, compose: vec![['`', 'a', 'à']] })
    }

    #[test]
    fn what_is_written_is_read() {
        let text = german().render();
        assert_eq!(text.lines().nth(3), Some("table 0 12=f0df 21=b7a 44=b79"));
        assert_eq!(Layout::parse(&text), Ok(german()));
        assert_eq!(Layout::new("a\nb\u{1b}[31m\t", Keymap::default()).name, "ab[31m");
    }

    #[test]
    fn half_a_layout_is_none() {
        let line = |line: &str| Layout::parse(&format!("{FORMAT}\nname x\n{line}\n"));
        assert!(line("table 0 1=2").is_ok());
        for wrong in [
            "table",
            "table x",
            "table 256 1=2",
            "table 0 256=1",
            "table 0 1=10000",
            "table 0 1",
            "table 0 1=2 ",
            "",
            "compose 1 2",
            "compose 1 2 3 4",
            "compose d800 1 1",
            "complete x",
            "tables 1",
        ] {
            assert_eq!(line(wrong), Err(LayoutError::Line(3)), "{wrong:?}");
        }
        assert_eq!(line(&"compose 1 2 3\n".repeat(COMPOSE_MAX + 1)), Err(LayoutError::Line(3 + COMPOSE_MAX)));
        for wrong in ["", "taproot-keymap 2\nname x\n", FORMAT, "bkeymap"] {
            assert_eq!(Layout::parse(wrong), Err(LayoutError::Format), "{wrong:?}");
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers make it for this")]
    /// What is said before each of two questions, how often a keymap was loaded, and whether it is warned of.
    fn asked(tree: Tree, said: Said) -> (String, usize, bool) {
        let machine = Arc::new(Machine { said: said.clone(), ..Machine::new(tree.with("/run/taproot/why", "")) });
        let log = Log::new(Arc::<Machine>::clone(&machine));
        for _ in 0..2 {
            announce(&*machine, &log, &*machine.consoles(crate::sys::Terminals::All));
        }
        (said.text(), said.loaded().len(), log.text().contains("warn"))
    }

    #[test]
    fn the_packed_layout_is_loaded_once_and_said_each_time() {
        let tree = || Tree::new().with(KEYMAP_PATH, &german().render());
        let twice = |line: &str| format!("Keyboard layout: {line}\n").repeat(2);
        assert_eq!(asked(tree(), Said::on_screen()), (twice("de"), 1, false));
        assert_eq!(asked(Tree::new(), Said::on_screen()), (twice("us"), 0, false));
        // A serial line has the keyboard of whoever is at its other end.
        assert_eq!(asked(tree(), Said::default()), (String::new(), 0, false));
        let (said, loaded, warned) = asked(Tree::new().with(KEYMAP_PATH, "junk"), Said::on_screen());
        assert_eq!((said, loaded, warned), (twice("us (the packed one could not be loaded)"), 0, true));
        let (said, _, warned) = asked(tree(), Said::refusing_keymaps());
        assert_eq!((said, warned), (twice("us (the packed one could not be loaded)"), true));
    }

    #[test]
    fn inside_another_tools_initramfs_the_layout_is_not_ours() {
        let tree = Tree::new().with(KEYMAP_PATH, &german().render());
        let machine = Arc::new(Machine { said: Said::on_screen(), init: false, ..Machine::new(tree) });
        let log = Log::new(Arc::<Machine>::clone(&machine));
        announce(&*machine, &log, &*machine.consoles(crate::sys::Terminals::All));
        assert_eq!((machine.said.text().as_str(), machine.said.loaded().len()), ("", 0));
    }
}
