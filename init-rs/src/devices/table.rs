//! The module table: everything `modules.dep`, `modules.softdep`, `modules.alias` and modprobe.d say about the packed
//! modules, resolved when the image is packed, so that nothing of it is parsed or searched at boot.
//!
//! The file is `/etc/taproot/modules` in the image: UTF-8 lines, fields separated by one tab.
//!
//! ```text
//! taproot-modules 1
//! module  NAME  PATH  WHEN  DEPS  SOFT  PARAMS
//! alias   PATTERN  NAME
//! blacklist  NAME
//! ```
//!
//! `WHEN` is `boot` (load at once) or `device` (load when a device asks for it). `DEPS` and `SOFT` are comma-separated
//! module names or `-`: the module is loaded after all of them; a failing `DEPS` entry fails it, a failing `SOFT` entry
//! does not. `PARAMS` is what modprobe.d's `options` lines say, `-` for nothing. Modules stand in load order (a module
//! after everything it depends on); names use `_`, never `-`.

use std::fmt::Write as _;

/// Where the table lies in an image.
pub const TABLE_PATH: &str = "/etc/taproot/modules";
const HEADER: &str = "taproot-modules 1";

/// When a packed module is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As soon as the system is up, without waiting for a device.
    Boot,
    /// When a device with a matching alias appears.
    Device,
}

/// One packed module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Canonical name, `_` for `-`.
    pub name: String,
    /// Absolute path in the image.
    pub path: String,
    /// When it is loaded.
    pub when: When,
    /// Names that must be loaded before; failure is fatal for this module.
    pub deps: Vec<String>,
    /// Names to be loaded before if they can be (softdep pre).
    pub soft: Vec<String>,
    /// Parameters from modprobe.d, as `finit_module(2)` takes them.
    pub params: String,
}

/// The packed table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleTable {
    /// In load order.
    pub modules: Vec<Module>,
    /// Device alias pattern (fnmatch with `*`, `?`, `[...]`) and module name, in the order of `modules.alias`.
    pub aliases: Vec<(String, String)>,
    /// Names whose *aliases* are ignored (modprobe.d `blacklist`); they still load as dependencies.
    pub blacklist: Vec<String>,
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// Not a table, or one of another version.
    #[error("module table: expected the first line \"{HEADER}\", found {0:?}; pack the image again with this version")]
    Header(String),
    /// A line that does not fit.
    #[error("module table, line {line}: expected {expected}, found {found:?}; pack the image again")]
    Line {
        /// 1-based.
        line: usize,
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

/// The kernel's spelling of a module name: `_` for `-`.
pub fn canonical_name(name: &str) -> String {
    name.replace('-', "_")
}

fn list_field(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

fn parse_list(field: &str) -> Vec<String> {
    if field == "-" { Vec::new() } else { field.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect() }
}

impl ModuleTable {
    /// The text of the table, as it is packed.
    pub fn render(&self) -> String {
        let mut out = format!("{HEADER}\n");
        for m in &self.modules {
            let when = match m.when {
                When::Boot => "boot",
                When::Device => "device",
            };
            let params = if m.params.is_empty() { "-" } else { &m.params };
            let _ = writeln!(
                out,
                "module\t{}\t{}\t{when}\t{}\t{}\t{params}",
                m.name,
                m.path,
                list_field(&m.deps),
                list_field(&m.soft)
            );
        }
        for (pattern, name) in &self.aliases {
            let _ = writeln!(out, "alias\t{pattern}\t{name}");
        }
        for name in &self.blacklist {
            let _ = writeln!(out, "blacklist\t{name}");
        }
        out
    }

    /// Reads a table; total over any text.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let mut lines = text.lines().enumerate();
        let head = lines.next().map_or("", |(_, l)| l);
        if head != HEADER {
            return Err(TableError::Header(head.chars().take(80).collect()));
        }
        let mut table = Self::default();
        for (i, line) in lines {
            if line.is_empty() {
                continue;
            }
            let bad = |expected| TableError::Line {
                line: i + 1,
                expected,
                found: line.chars().take(120).collect::<String>(),
            };
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.as_slice() {
                ["module", name, path, when, deps, soft, params] => table.modules.push(Module {
                    name: (*name).to_owned(),
                    path: (*path).to_owned(),
                    when: match *when {
                        "boot" => When::Boot,
                        "device" => When::Device,
                        _ => return Err(bad("\"boot\" or \"device\" in the fourth field")),
                    },
                    deps: parse_list(deps),
                    soft: parse_list(soft),
                    params: if *params == "-" { String::new() } else { (*params).to_owned() },
                }),
                ["alias", pattern, name] => table.aliases.push(((*pattern).to_owned(), (*name).to_owned())),
                ["blacklist", name] => table.blacklist.push((*name).to_owned()),
                _ => return Err(bad("a module, alias or blacklist line")),
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> ModuleTable {
        ModuleTable {
            modules: vec![
                Module {
                    name: "spl".into(),
                    path: "/lib/modules/spl.ko".into(),
                    when: When::Boot,
                    deps: vec![],
                    soft: vec![],
                    params: "spl_hostid=1".into(),
                },
                Module {
                    name: "zfs".into(),
                    path: "/lib/modules/zfs.ko".into(),
                    when: When::Device,
                    deps: vec!["spl".into()],
                    soft: vec!["a".into(), "b".into()],
                    params: String::new(),
                },
            ],
            aliases: vec![("pci:v*d*".into(), "zfs".into())],
            blacklist: vec!["pcspkr".into()],
        }
    }

    #[test]
    fn round_trip() {
        let table = sample();
        assert_eq!(ModuleTable::parse(&table.render()), Ok(table));
    }

    #[test]
    fn bad_lines_name_the_line() {
        let err = ModuleTable::parse("taproot-modules 1\nmodule\tx\n").unwrap_err();
        assert!(err.to_string().contains("line 2"), "{err}");
        assert!(ModuleTable::parse("").is_err());
    }

    proptest! {
        #[test]
        fn parse_is_total(text in ".{0,200}") {
            let _ = ModuleTable::parse(&text);
            let _ = ModuleTable::parse(&format!("taproot-modules 1\n{text}"));
        }
    }
}
