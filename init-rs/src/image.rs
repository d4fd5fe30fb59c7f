//! The image configuration: what the builder knew when it packed, in a form the boot reads in microseconds.
//!
//! The file is `/etc/taproot/image.conf`: UTF-8 lines `key=value`, `#` starts a comment line, a key may repeat.
//! Unknown keys are ignored, so that an older binary boots a newer image.

use std::fmt::Write as _;

/// Where the configuration lies in an image.
pub const CONFIG_PATH: &str = "/etc/taproot/image.conf";
/// Where the builder's manifest lies in an image: one tab-separated line a file: path, reason.
pub const MANIFEST_PATH: &str = "/etc/taproot/manifest";

/// A pool that the packed system uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedPool {
    /// Pool name.
    pub name: String,
    /// Pool guid, 0 if unknown.
    pub guid: u64,
    /// Paths of its vdevs, as the packing system had them.
    pub vdevs: Vec<String>,
}

/// A root that is a file system on a device, not a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedRoot {
    /// As `root=` takes it: `UUID=...`, `PARTUUID=...`, `/dev/...`.
    pub source: String,
    /// Type, as mount(8) calls it.
    pub fstype: String,
}

/// What the builder knew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Kernel release the modules belong to (`uname -r`).
    pub kernel: String,
    /// Version of the packer.
    pub packer: String,
    /// What tells this image from every other one, in hexadecimal; empty if the packer gave none.
    pub id: String,
    /// Words put before the kernel command line; the command line wins.
    pub cmdline: String,
    /// Hash of the password that opens the rescue prompt, in PHC form; `None`: it needs none.
    pub rescue_password: Option<String>,
    /// Pools the packed system had its root on.
    pub pools: Vec<ExpectedPool>,
    /// The file system that the packed system had its root on, if that was no dataset.
    pub root: Option<ExpectedRoot>,
}

impl ImageConfig {
    /// The text of the file.
    pub fn render(&self) -> String {
        let mut out = String::from("# written by taproot initramfs\n");
        let _ = writeln!(out, "kernel={}", self.kernel);
        let _ = writeln!(out, "packer={}", self.packer);
        if !self.id.is_empty() {
            let _ = writeln!(out, "id={}", self.id);
        }
        if !self.cmdline.is_empty() {
            let _ = writeln!(out, "cmdline={}", self.cmdline);
        }
        if let Some(hash) = &self.rescue_password {
            let _ = writeln!(out, "rescue_password={hash}");
        }
        for pool in &self.pools {
            let _ = writeln!(out, "pool={}\t{}\t{}", pool.name, pool.guid, pool.vdevs.join("\t"));
        }
        if let Some(root) = &self.root {
            let _ = writeln!(out, "root={}\t{}", root.source, root.fstype);
        }
        out
    }

    /// Reads the file; lines that make no sense are skipped, because a boot must not fail for want of a hint.
    pub fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some((key, value)) = line.split_once('=') else { continue };
            match key {
                "kernel" => value.clone_into(&mut config.kernel),
                "packer" => value.clone_into(&mut config.packer),
                "id" => value.clone_into(&mut config.id),
                "cmdline" => value.clone_into(&mut config.cmdline),
                "rescue_password" => config.rescue_password = Some(value.to_owned()),
                "pool" => {
                    let mut fields = value.split('\t').filter(|f| !f.is_empty());
                    if let (Some(name), Some(guid)) = (fields.next(), fields.next().and_then(|g| g.parse().ok())) {
                        let vdevs = fields.map(str::to_owned).collect();
                        config.pools.push(ExpectedPool { name: name.to_owned(), guid, vdevs });
                    }
                }
                "root" => {
                    config.root = value
                        .split_once('\t')
                        .filter(|(source, fstype)| !source.is_empty() && !fstype.is_empty())
                        .map(|(source, fstype)| ExpectedRoot { source: source.to_owned(), fstype: fstype.to_owned() });
                }
                _ => {}
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let config = ImageConfig {
            kernel: "6.12".into(),
            packer: "taproot 0.1.0".into(),
            id: "0123456789abcdef".into(),
            cmdline: "quiet".into(),
            rescue_password: Some("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA".into()),
            pools: vec![ExpectedPool {
                name: "tank".into(),
                guid: u64::MAX,
                vdevs: vec!["/dev/disk/by-id/a b".into()],
            }],
            root: Some(ExpectedRoot { source: "UUID=1-2".into(), fstype: "ext4".into() }),
        };
        assert_eq!(ImageConfig::parse(&config.render()), config);
        assert_eq!(ImageConfig::parse("root=UUID=1-2\nroot=\text4\n").root, None);
    }
}
