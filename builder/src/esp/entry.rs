//! Entries of a boot menu, as UAPI.1 has them: a file each. GRUB's menu is made of the same ones.

use super::config::Recipe;
use crate::initramfs::tree::{TEXT, Tree};
use anyhow::Result;
use std::fmt::Write as _;

/// Of whose kernels an entry says that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Os {
    /// `ID`: what entries are sorted by.
    pub id: String,
    /// `PRETTY_NAME`.
    pub title: String,
}

/// Where a tree says it; the first that is there counts.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

impl Os {
    /// Of a tree.
    pub fn of(tree: &Tree) -> Result<Self> {
        let mut text = None;
        for path in OS_RELEASE {
            text = text.or(tree.read_if_there(path, TEXT)?);
        }
        Ok(Self::parse(&String::from_utf8_lossy(&text.unwrap_or_default())))
    }

    /// From os-release.
    pub fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let found = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
            let value = found.map(|(_, value)| value.trim().trim_matches(['"', '\'']).replace(['"', '\\'], ""));
            value.filter(|value| !value.is_empty())
        };
        let id = value("ID").unwrap_or_else(|| "linux".to_owned());
        let title = value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".to_owned());
        Self { id, title }
    }

    /// Lines for a unified kernel image: newer kernels are newer versions.
    pub fn release_text(&self, release: &str) -> String {
        let Self { id, title } = self;
        format!("ID={id}\nPRETTY_NAME=\"{title}\"\nIMAGE_ID={id}\nIMAGE_VERSION=\"{release}\"\n")
    }
}

/// One kernel with one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Release of the kernel.
    pub release: String,
    /// Whether it is the image before, which stays until the newer one has booted.
    pub old: bool,
    /// What a menu shows.
    pub title: String,
    /// What entries are sorted by.
    pub sort_key: String,
    /// Directory of kernel and image on the partition.
    pub directory: String,
    /// The kernel command line.
    pub options: String,
}

/// What ends the name of an entry of the image before; sorted in front of the end of a name, as older.
pub const OLD: &str = "~old";

impl Entry {
    /// For the newest image of a kernel.
    pub fn new(recipe: &Recipe, release: &str, directory: &str) -> Self {
        Self {
            release: release.to_owned(),
            old: false,
            title: recipe.os.title.clone(),
            sort_key: recipe.os.id.clone(),
            directory: directory.to_owned(),
            options: recipe.cmdline.clone(),
        }
    }

    /// The same as the image before.
    #[must_use]
    pub fn before(&self) -> Self {
        let title = format!("{} (image before)", self.title);
        Self { old: true, title, ..self.clone() }
    }

    /// The version that it is sorted by.
    pub fn version(&self) -> String {
        format!("{}{}", self.release, if self.old { OLD } else { "" })
    }

    /// Name of its file.
    pub fn file(&self) -> String {
        format!("taproot-{}.conf", self.version())
    }

    /// Its file.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let Self { title, sort_key, directory, options, .. } = self;
        let version = self.version();
        let _ = write!(out, "title {title}\nversion {version}\nsort-key {sort_key}\n");
        let _ = write!(out, "linux /{directory}/linux\ninitrd /{directory}/initrd\n");
        if !options.is_empty() {
            let _ = writeln!(out, "options {options}");
        }
        out
    }

    /// Reads a file; `None` if it is none that [`Entry::render`] made.
    pub fn parse(file: &str, text: &str) -> Option<Self> {
        let name = file.strip_prefix("taproot-")?.strip_suffix(".conf")?;
        let (release, old) = name.strip_suffix(OLD).map_or((name, false), |release| (release, true));
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
            lines.filter(|(found, _)| *found == key).map(|(_, value)| value.trim().to_owned()).next()
        };
        Some(Self {
            release: release.to_owned(),
            old,
            title: value("title")?,
            sort_key: value("sort-key")?,
            directory: value("linux")?.strip_prefix('/')?.strip_suffix("/linux")?.to_owned(),
            options: value("options").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn os_release() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n";
        let os = Os::parse(text);
        assert_eq!((os.id.as_str(), os.title.as_str()), ("debian", "Debian GNU/Linux 12 (bookworm)"));
        assert!(os.release_text("6.1").contains("IMAGE_VERSION=\"6.1\"\n"));
        assert_eq!(Os::parse("").title, "Linux");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(release in "[0-9][0-9a-z.+-]{0,20}", title in "[A-Za-z(][ -~]{0,20}[)a-z]", options in "([a-z=:/ \"']{1,30}[a-z])?", old in any::<bool>()) {
            let options = options.trim().to_owned();
            let entry = Entry { release, old, title, sort_key: "debian".into(), directory: "taproot/x".into(), options };
            prop_assert_eq!(Entry::parse(&entry.file(), &entry.render()), Some(entry));
        }

        #[test]
        fn total(file in ".{0,30}", text in ".{0,200}") {
            let _ = Entry::parse(&file, &text);
            let _ = Entry::parse("taproot-6.conf", &text);
            let _ = Os::parse(&text);
        }
    }
}
