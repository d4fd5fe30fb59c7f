//! modprobe.d: `options`, `blacklist` and `softdep` lines. `install` and `remove` name commands to run; nothing is run at
//! boot, so they are reported and ignored, but for commands that do nothing: those keep a module out. `alias` lines are honoured.

use super::index::{Soft, parse_softdep};
use super::sources::{Kind, Source};
use super::tree::{self, Tree, TreeError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use taproot_init::devices::table::canonical_name;

/// The configuration of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModprobeConfig {
    /// Parameters by canonical module name, in file order.
    pub options: BTreeMap<String, String>,
    /// Canonical names.
    pub blacklist: Vec<String>,
    /// Canonical names of what is never to be loaded: `install NAME /bin/false`.
    pub blocked: BTreeSet<String>,
    /// Pattern and canonical name.
    pub aliases: Vec<(String, String)>,
    /// By canonical name.
    pub soft: BTreeMap<String, Soft>,
    /// Lines that are not honoured, for the user to know.
    pub ignored: Vec<String>,
    /// The files that were read.
    pub sources: Vec<Source>,
}

impl ModprobeConfig {
    /// Reads a tree's files as modprobe does: a name in an earlier directory hides the same name in a later one.
    pub fn read(tree: &Tree) -> Result<Self, TreeError> {
        let mut files = BTreeMap::new();
        for dir in ["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"].map(|dir| Path::new(dir).join("modprobe.d")) {
            for name in
                tree.list(&dir)?.into_iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "conf"))
            {
                let path = dir.join(&name);
                files.entry(name).or_insert(path);
            }
        }
        let mut config = Self::default();
        for path in files.values().filter(|path| !tree.is_masked(path)) {
            match tree.read(path, tree::TEXT) {
                Ok(bytes) => {
                    config.parse(&String::from_utf8_lossy(&bytes));
                    config.sources.push(Source::of(Kind::Modprobe, path.to_string_lossy(), &bytes));
                }
                // modprobe warns of a link to nothing, and goes on.
                Err(TreeError::Dangling { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(config)
    }

    /// Adds the lines of one file.
    pub fn parse(&mut self, text: &str) {
        let joined = text.replace("\\\n", " ");
        for line in joined.lines() {
            let line = line.trim();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim();
            match word {
                "" => {}
                _ if word.starts_with('#') => {}
                "options" => {
                    let (name, params) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                    let all = self.options.entry(canonical_name(name)).or_default();
                    if !all.is_empty() {
                        all.push(' ');
                    }
                    all.push_str(&params.trim().replace('\t', " "));
                }
                "blacklist" => self.blacklist.push(canonical_name(rest)),
                "alias" => {
                    if let Some((pattern, name)) = rest.split_once(char::is_whitespace) {
                        self.aliases.push((pattern.to_owned(), canonical_name(name.trim())));
                    }
                }
                "softdep" => {
                    for (name, soft) in parse_softdep(line) {
                        let all = self.soft.entry(name).or_default();
                        all.pre.extend(soft.pre);
                        all.post.extend(soft.post);
                    }
                }
                "install" if blocks(rest) => {
                    self.blocked.extend(rest.split_whitespace().next().map(canonical_name));
                }
                _ => self.ignored.push(line.to_owned()),
            }
        }
    }
}

/// Whether the command of `install NAME COMMAND` does nothing: it is one word. `modprobe -i NAME; /bin/true` loads the module.
fn blocks(rest: &str) -> bool {
    let words: Vec<&str> = rest.split_whitespace().skip(1).collect();
    matches!(words.as_slice(), [command] if matches!(command.rsplit('/').next(), Some("false" | "true" | ":")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_does_nothing_blocks() {
        for rest in ["x /bin/false", "x true", "x  /usr/bin/true ", "x :"] {
            assert!(blocks(rest), "{rest}");
        }
        for rest in ["x", "x modprobe -i x; /bin/true", "x modprobe -i x || /bin/true", "x logger /bin/false"] {
            assert!(!blocks(rest), "{rest}");
        }
    }

    #[test]
    fn lines() {
        let mut config = ModprobeConfig::default();
        config.parse("# c\noptions zfs zfs_arc_max=1 \\\n  b=2\noptions zfs c=3\nblacklist pc-spkr\nalias x-y zfs\nsoftdep a pre: b\ninstall nfs /bin/true\ninstall x modprobe y\n");
        assert_eq!(config.options["zfs"], "zfs_arc_max=1    b=2 c=3");
        assert_eq!(config.blacklist, ["pc_spkr"]);
        assert_eq!(config.aliases, [("x-y".to_owned(), "zfs".to_owned())]);
        assert_eq!(config.soft["a"].pre, ["b"]);
        assert_eq!(config.ignored, ["install x modprobe y"]);
        assert_eq!(config.blocked, ["nfs".to_owned()].into());
    }

    #[test]
    fn an_earlier_directory_hides_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        for (sub, text) in [("etc/modprobe.d", "options a x=1"), ("lib/modprobe.d", "options a x=2")] {
            fs::create_dir_all(dir.path().join(sub)).unwrap();
            fs::write(dir.path().join(sub).join("a.conf"), text).unwrap();
        }
        assert_eq!(ModprobeConfig::read(&Tree::open(dir.path()).unwrap()).unwrap().options["a"], "x=1");
    }

    #[test]
    fn links_stay_in_the_tree_and_what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let (real, own) = (dir.path().join("store"), dir.path().join("etc"));
        for made in [&real, &own, &dir.path().join("usr/lib/modprobe.d")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(real.join("a.conf"), "options a x=1").unwrap();
        symlink("/dev/null", real.join("off.conf")).unwrap();
        symlink("/nowhere/x", real.join("gone.conf")).unwrap();
        fs::write(dir.path().join("usr/lib/modprobe.d/off.conf"), "options b x=1").unwrap();
        symlink("/store", own.join("modprobe.d")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let config = ModprobeConfig::read(&tree).unwrap();
        assert_eq!(config.options.keys().collect::<Vec<_>>(), ["a"]);
        fs::create_dir(real.join("odd.conf")).unwrap();
        assert!(ModprobeConfig::read(&tree).unwrap_err().to_string().contains("found a directory"));
        fs::remove_file(own.join("modprobe.d")).unwrap();
        symlink("/nowhere", own.join("modprobe.d")).unwrap();
        assert!(ModprobeConfig::read(&tree).is_err());
    }

    proptest! {
        #[test]
        fn total(text in "(options|blacklist|softdep|alias|x)?[ \\t\\\\a-z\\n#:]{0,80}") {
            ModprobeConfig::default().parse(&text);
        }
    }
}
