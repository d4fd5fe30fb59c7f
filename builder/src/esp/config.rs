//! What a system says of its boot loader: `/etc/taproot/loader.toml`. While that file is there, the hooks keep the boot loader's partition
//! in step with the kernels; `taproot image` writes it.

use super::entry::Os;
use crate::initramfs::tree::{BINARY, TEXT, Tree};
use crate::uki::sign::Keys;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The file.
pub const PATH: &str = "/etc/taproot/loader.toml";
/// Where systemd leaves its stubs, by the machine that this is compiled for.
const STUBS: &str = "/usr/lib/systemd/boot/efi";
/// Where an image has one whose tree lacks systemd's.
pub const OWN_STUBS: &str = "/usr/lib/taproot";

/// Which boot loaders find the kernels: one or several, joined by `+`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Loaders {
    /// Unified kernel images, which systemd-boot and the firmware start.
    pub uki: bool,
    /// Entries of systemd-boot (UAPI.1) with the files that they name.
    pub bls: bool,
    /// GRUB, on the same partition.
    pub grub: bool,
}

impl Loaders {
    /// Whether kernel and image lie there as files.
    pub fn has_files(self) -> bool {
        self.bls || self.grub
    }
}

impl FromStr for Loaders {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut loaders = Self::default();
        for word in text.split('+') {
            match word.trim() {
                "uki" => loaders.uki = true,
                "bls" => loaders.bls = true,
                "grub" => loaders.grub = true,
                other => bail!("loader {other:?}: expected uki, bls or grub, or several joined by + (uki+grub)"),
            }
        }
        Ok(loaders)
    }
}

impl TryFrom<String> for Loaders {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl fmt::Display for Loaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.uki, "uki"), (self.bls, "bls"), (self.grub, "grub")];
        let words: Vec<&str> = words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect();
        f.write_str(&words.join("+"))
    }
}

impl From<Loaders> for String {
    fn from(loaders: Loaders) -> Self {
        loaders.to_string()
    }
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What reads the partition.
    pub loader: Loaders,
    /// Where the partition is mounted.
    pub esp: PathBuf,
    /// Where those of other disks are mounted, which are to have the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub esp_copies: Vec<PathBuf>,
    /// The kernel command line.
    pub cmdline: String,
    /// Seconds that a menu waits.
    #[serde(default = "timeout")]
    pub timeout: u16,
    /// The stub of unified kernel images, in the tree; else systemd's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stub: Option<PathBuf>,
    /// What unified kernel images are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_key: Option<PathBuf>,
    /// Its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_certificate: Option<PathBuf>,
}

fn timeout() -> u16 {
    3
}

impl Config {
    /// What most systems have.
    pub fn new(loader: Loaders, esp: &Path, cmdline: &str) -> Self {
        let (esp, cmdline) = (esp.to_owned(), cmdline.to_owned());
        Self {
            loader,
            esp,
            esp_copies: Vec::new(),
            cmdline,
            timeout: timeout(),
            stub: None,
            sign_key: None,
            sign_certificate: None,
        }
    }

    /// That of a tree; `None`: it has none, and its boot loader is not ours.
    pub fn of(tree: &Tree) -> Result<Option<Self>> {
        let Some(bytes) = tree.read_if_there(PATH, TEXT)? else { return Ok(None) };
        let shown = tree.shown(PATH);
        let text = String::from_utf8(bytes).with_context(|| format!("{}: expected text", shown.display()))?;
        let config: Self = toml::from_str(&text).map_err(|e| anyhow::anyhow!("{}: {e}", shown.display()))?;
        config.check().with_context(|| shown.display().to_string())?;
        Ok(Some(config))
    }

    fn check(&self) -> Result<()> {
        for esp in self.esps() {
            ensure!(esp.is_absolute(), "esp = {:?}: expected an absolute path, such as /efi", esp.display());
        }
        ensure!(!self.cmdline.contains(['\n', '\0']), "cmdline: expected one line");
        ensure!(
            self.sign_key.is_some() == self.sign_certificate.is_some(),
            "expected both sign-key and sign-certificate, or neither"
        );
        Ok(())
    }

    /// Where all the partitions are mounted.
    pub fn esps(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.esp).chain(&self.esp_copies)
    }

    /// The file's text.
    pub fn render(&self) -> Result<String> {
        self.check()?;
        let text = toml::to_string(self).context("writing the configuration of the boot loader")?;
        Ok(format!(
            "# What the boot loader finds on its partition, and how it boots; after a change: taproot hooks update\n{text}"
        ))
    }
}

/// Everything that goes into the files of a partition but kernels and images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// What reads them.
    pub loaders: Loaders,
    /// The kernel command line.
    pub cmdline: String,
    /// Whose kernels they are.
    pub os: Os,
    /// Seconds that a menu waits.
    pub timeout: u16,
    /// The stub; empty where no unified kernel images are made.
    pub stub: Vec<u8>,
    /// What those are signed with.
    pub keys: Option<Keys>,
}

impl Recipe {
    /// By a tree's configuration.
    pub fn of(tree: &Tree, config: &Config) -> Result<Self> {
        let stub = if config.loader.uki { stub(tree, config.stub.as_deref())? } else { Vec::new() };
        let pair = config.sign_key.as_deref().zip(config.sign_certificate.as_deref());
        let keys = pair.map(|(key, certificate)| {
            anyhow::Ok(Keys { key: tree.place(key)?, certificate: tree.place(certificate)? })
        });
        Ok(Self {
            loaders: config.loader,
            cmdline: config.cmdline.clone(),
            os: Os::of(tree)?,
            timeout: config.timeout,
            stub,
            keys: keys.transpose()?,
        })
    }
}

/// Name of the stub for the machine that this is compiled for.
fn stub_name() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linuxaa64.efi.stub",
        "riscv64" => "linuxriscv64.efi.stub",
        _ => "linuxx64.efi.stub",
    }
}

/// Where systemd's stub lies, and where one that came with an image does.
pub fn stub_places() -> [PathBuf; 2] {
    [STUBS, OWN_STUBS].map(|dir| Path::new(dir).join(stub_name()))
}

/// The stub: the one that is named, systemd's, or the one that came with an image.
fn stub(tree: &Tree, named: Option<&Path>) -> Result<Vec<u8>> {
    let [path, own] = named.map_or_else(stub_places, |path| [path.to_owned(), path.to_owned()]);
    let found = match tree.read_if_there(&path, BINARY)? {
        Some(bytes) => Some(bytes),
        None => tree.read_if_there(&own, BINARY)?,
    };
    found.with_context(|| {
        format!(
            "{}: not there, and unified kernel images are made of it: install systemd-boot-efi (Debian) or systemd",
            tree.shown(&path).display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_rendered_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(Config::of(&tree).unwrap(), None);
        fs::create_dir_all(dir.path().join("etc/taproot")).unwrap();
        let mut config = Config::new("uki+grub".parse().unwrap(), Path::new("/efi"), "root=zfs:AUTO \"x\"");
        fs::write(dir.path().join("etc/taproot/loader.toml"), config.render().unwrap()).unwrap();
        assert_eq!(Config::of(&tree).unwrap().as_ref(), Some(&config));
        config.esp_copies.push("/efi2".into());
        fs::write(dir.path().join("etc/taproot/loader.toml"), config.render().unwrap()).unwrap();
        assert_eq!(
            Config::of(&tree).unwrap().unwrap().esps().collect::<Vec<_>>(),
            ["/efi", "/efi2"].map(PathBuf::from).iter().collect::<Vec<_>>()
        );
        config.sign_key = Some("/etc/key".into());
        assert!(config.render().unwrap_err().to_string().contains("sign-certificate"));
        for (text, said) in [
            ("loader = \"lilo\"\nesp = \"/efi\"\ncmdline = \"\"\n", "expected uki, bls or grub"),
            ("loader = \"uki\"\nesp = \"efi\"\ncmdline = \"\"\n", "expected an absolute path"),
            ("loader = \"uki\"\nesp = \"/efi\"\ncmdline = \"\"\ntimout = 1\n", "timout"),
        ] {
            fs::write(dir.path().join("etc/taproot/loader.toml"), text).unwrap();
            let error = format!("{:#}", Config::of(&tree).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_stub_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let config = Config::new("uki".parse().unwrap(), Path::new("/efi"), "");
        let error = Recipe::of(&tree, &config).unwrap_err().to_string();
        assert!(error.contains("systemd-boot-efi"), "{error}");
        // The one that came with an image gives way to systemd's.
        for (place, bytes) in stub_places().iter().rev().zip(["own", "systemd's"]) {
            let place = dir.path().join(place.strip_prefix("/").unwrap());
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
            assert_eq!(Recipe::of(&tree, &config).unwrap().stub, bytes.as_bytes());
        }
        let config = Config::new("bls".parse().unwrap(), Path::new("/efi"), "");
        assert_eq!(Recipe::of(&tree, &config).unwrap().os.id, "linux");
    }
}
