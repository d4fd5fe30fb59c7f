//! What a configuration comes to: a source, edits, and the plan of a disk.

use super::words::Words;
use super::{Config, Row};
use crate::image::edit::{Added, Content, Edits, Identity, Password, User, crypt};
use crate::image::{Boot, Disk, Format, Loader, Output, Plan};
use crate::pool::{self, Compatibility, Compression, Dataset, Snapshot};
use crate::uki::sign::Keys;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Largest file of a password or of keys.
const SMALL: u64 = 64 << 10;

/// Bytes from a number with an optional unit of 1024.
pub fn size(text: &str) -> Result<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        "T" | "TIB" => 40,
        unit => bail!("expected bytes, or a number with K, M, G or T, found the unit {unit:?}"),
    };
    let number: u64 = digits.trim().parse().map_err(|_| anyhow!("expected bytes such as 20G, found {text:?}"))?;
    number.checked_mul(1 << shift).with_context(|| format!("{text} is too large"))
}

/// One of the words that a key takes.
fn word<T: clap::ValueEnum>(row: &Row<'_>, key: &str) -> Result<Option<T>> {
    let Some(text) = row.text(key) else { return Ok(None) };
    T::from_str(text, false).map(Some).map_err(|_| {
        let known: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
            .collect();
        anyhow!("{}: expected one of {}, found {text:?}", row.at(key), known.join(", "))
    })
}

fn compression(row: &Row<'_>, key: &str) -> Result<Option<Compression>> {
    let Some(text) = row.text(key) else { return Ok(None) };
    let level = |text: &str| text.strip_prefix("zstd-")?.parse().ok().filter(|level| (1..=19).contains(level));
    Ok(Some(match text {
        "off" => Compression::Off,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd(3),
        text => Compression::Zstd(level(text).with_context(|| {
            format!("{}: expected off, lz4, zstd, or zstd-1 to zstd-19, found {text:?}", row.at(key))
        })?),
    }))
}

impl Config {
    /// What of the tree is changed; the lines of the table of file systems are the disk's.
    pub fn edits(&self) -> Result<Edits> {
        let row = self.row();
        let name = row.text("pool.name").unwrap_or_default();
        let seed = format!("{name}\0{}", row.text("pool.seed").unwrap_or_default());
        let hostid = |text: &str| {
            u32::from_str_radix(text.trim_start_matches("0x"), 16)
                .map_err(|_| anyhow!("{}: expected 8 hexadecimal digits, found {text:?}", row.at("system.hostid")))
        };
        let identity = match row.text("system.identity") {
            Some("keep") => Identity::Keep,
            None | Some("strip") => Identity::Strip,
            Some(other) => bail!("{}: expected strip or keep, found {other:?}", row.at("system.identity")),
        };
        Ok(Edits {
            identity,
            keep: row.list("system.keep").to_vec(),
            remove: row.list("system.remove").to_vec(),
            add: row.list("system.add").iter().map(|text| added(&row, text)).collect::<Result<_>>()?,
            hostname: row.text("system.hostname").map(hostname).transpose()?,
            hostid: row.text("system.hostid").map(hostid).transpose()?,
            timezone: row.text("system.timezone").map(str::to_owned),
            locales: row.list("system.locales").to_vec(),
            keymap: row.text("system.keymap").map(str::to_owned),
            root_password: password(&row, "system.root-password", &format!("{seed}\0root"))?,
            allow_empty_root: row.flag("system.allow-empty-root"),
            ssh_keys: keys(&row, "system.ssh-keys")?,
            users: self.rows("user").map(|row| user(&row, &seed)).collect::<Result<_>>()?,
            fstab: None,
            time: self.time,
        })
    }

    /// The disk.
    pub fn plan(&self, words: &Words) -> Result<Plan> {
        let row = self.row();
        let size = match row.text("disk.size") {
            None | Some("auto") => None,
            Some(text) => Some(size(text).with_context(|| row.at("disk.size"))?),
        };
        let disk = Disk {
            size,
            sector: row.number("disk.sector")?.unwrap_or(512),
            esp: row.size("disk.esp")?.unwrap_or(Disk::ESP),
            swap: row.size("disk.swap")?.unwrap_or(0),
        };
        ensure!([512, 4096].contains(&disk.sector), "{}: expected 512 or 4096", row.at("disk.sector"));
        let sign = match (row.path("boot.sign-key"), row.path("boot.sign-certificate")) {
            (Some(key), Some(certificate)) => Some(Keys { key, certificate }),
            (None, None) => None,
            _ => bail!("boot.sign-key and boot.sign-certificate belong together, found one of them"),
        };
        let pool = self.pool()?;
        let boot = Boot {
            loader: word(&row, "boot.loader")?.unwrap_or(Loader::SystemdBoot),
            kernel: row.text("boot.kernel").map(str::to_owned),
            cmdline: row.text("boot.cmdline").map_or_else(|| format!("zfs={}", pool.name), str::to_owned),
            sign,
            init: row.path("boot.init"),
        };
        let mut outputs = outputs(&row, words)?;
        let mirror = mirror(&row, words, &mut outputs)?;
        Ok(Plan { pool, disk, boot, outputs, mirror, verify: row.flag("output.verify") })
    }

    fn pool(&self) -> Result<pool::Options> {
        let row = self.row();
        // What GRUB is to read is not compressed by zstd, unless somebody insists: then the pool's writer refuses.
        let grub = word::<Loader>(&row, "boot.loader")? == Some(Loader::GrubPool);
        let own = match compression(&row, "pool.compression")? {
            Some(_) if grub && row.is_default("pool.compression") => Some(Compression::Lz4),
            said => said,
        };
        let mut datasets = vec![Dataset { compression: own, properties: container(), ..Dataset::default() }];
        let mut bootfs = None;
        for set in self.rows("dataset") {
            let dataset = dataset(&set)?;
            if set.flag("bootfs") && bootfs.replace(dataset.name.clone()).is_some() {
                bail!("{}: two data sets with bootfs = true, expected one", set.at("bootfs"));
            }
            datasets.push(dataset);
        }
        if datasets.len() == 1 {
            datasets.extend(usual());
            bootfs = Some("ROOT/default".to_owned());
        }
        let last = self.states().pop().filter(|state| !state.name.is_empty());
        let snapshot = last.map(|state| (Snapshot { name: state.name, holds: state.holds }, state.everywhere));
        if snapshot.is_some() {
            let own = self.rows("dataset").find(|set| set.text("snapshot").is_some());
            ensure!(
                own.is_none(),
                "{}: the states have the names of the snapshots: take this out",
                own.map(|set| set.at("snapshot")).unwrap_or_default()
            );
            for set in &mut datasets {
                set.snapshot = None;
            }
        }
        let compatibility = match row.text("pool.compatibility") {
            _ if grub && row.is_default("pool.compatibility") => Compatibility::Grub,
            None | Some("openzfs-2.0" | "openzfs-2.0-linux") => Compatibility::OpenZfs20,
            Some("grub2" | "grub") => Compatibility::Grub,
            Some(other) => bail!("{}: expected openzfs-2.0 or grub2, found {other:?}", row.at("pool.compatibility")),
        };
        let defaults = pool::Options::default();
        Ok(pool::Options {
            name: row.text("pool.name").unwrap_or_default().to_owned(),
            ashift: row.number("pool.ashift")?.unwrap_or(defaults.ashift),
            grow_to: row.size("pool.grow-to")?.unwrap_or(defaults.grow_to),
            seed: row.text("pool.seed").unwrap_or_default().to_owned(),
            time: self.time.unsigned_abs(),
            compatibility,
            autoexpand: row.flag("pool.autoexpand"),
            bootfs,
            datasets,
            snapshot,
            ..defaults
        })
    }
}

/// What a data set is that holds others.
fn container() -> Vec<(String, String)> {
    [("canmount", "off"), ("mountpoint", "none"), ("acltype", "posix"), ("xattr", "sa"), ("relatime", "on")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// The data sets of those who name none.
fn usual() -> [Dataset; 2] {
    let set = |name: &str, tree: &str, canmount: &str| Dataset {
        name: name.into(),
        tree: Some(tree.into()),
        properties: vec![("mountpoint".into(), tree.into()), ("canmount".into(), canmount.into())],
        ..Dataset::default()
    };
    let installed = Snapshot { name: "installed".into(), holds: Vec::new() };
    [Dataset { snapshot: Some(installed), ..set("ROOT/default", "/", "noauto") }, set("home", "/home", "on")]
}

fn dataset(row: &Row<'_>) -> Result<Dataset> {
    let text = |key: &str| row.text(key).map(str::to_owned);
    let mut properties = Vec::new();
    for name in ["mountpoint", "canmount"] {
        properties.extend(text(name).map(|value| (name.to_owned(), value)));
    }
    for property in row.list("properties") {
        let (name, value) = property
            .split_once('=')
            .with_context(|| format!("{}: expected NAME=VALUE, found {property:?}", row.at("properties")))?;
        properties.push((name.to_owned(), value.to_owned()));
    }
    let clone_of = text("clone-of");
    let directory = text("mountpoint").filter(|path| path.starts_with('/') && clone_of.is_none());
    let holds = row.list("hold").to_vec();
    let snapshot = text("snapshot").map(|name| Snapshot { name, holds: holds.clone() });
    ensure!(snapshot.is_some() || holds.is_empty(), "{}: expected a snapshot to hold", row.at("hold"));
    Ok(Dataset {
        name: text("name").unwrap_or_default(),
        tree: text("tree").or(directory),
        compression: compression(row, "compression")?,
        properties,
        snapshot,
        clone_of,
        ..Dataset::default()
    })
}

fn outputs(row: &Row<'_>, words: &Words) -> Result<Vec<Output>> {
    let mut all = Vec::new();
    for (key, format) in [
        ("output.raw", Format::Raw),
        ("output.qcow2", Format::Qcow2),
        ("output.vdi", Format::Vdi),
        ("output.vmdk", Format::Vmdk),
        ("output.vhdx", Format::Vhdx),
        ("output.device", Format::Device),
    ] {
        if let Some(text) = row.text(key) {
            let path = PathBuf::from(words.put_into(text).with_context(|| row.at(key))?);
            all.push(Output { format, path });
        }
    }
    Ok(all)
}

/// Adds the other disks of a mirror to the first; whether it is one.
fn mirror(row: &Row<'_>, words: &Words, outputs: &mut Vec<Output>) -> Result<bool> {
    let key = "output.mirror";
    let others = row.list(key);
    if others.is_empty() {
        return Ok(false);
    }
    let [Output { format: format @ (Format::Device | Format::Raw), .. }] = **outputs else {
        bail!("{}: expected one disk to be a mirror of, a device or a raw file, and no other output", row.at(key));
    };
    for text in others {
        let path = PathBuf::from(words.put_into(text).with_context(|| row.at(key))?);
        outputs.push(Output { format, path });
    }
    Ok(true)
}

fn hostname(name: &str) -> Result<String> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    ensure!(
        name.len() <= 64 && name.split('.').all(part),
        "hostname {name:?}: expected up to 64 letters, digits and - between dots"
    );
    Ok(name.to_owned())
}

/// `SOURCE:TARGET`.
fn added(row: &Row<'_>, text: &str) -> Result<Added> {
    let at = || row.at("system.add");
    let (source, target) =
        text.rsplit_once(':').with_context(|| format!("{}: expected SOURCE:TARGET, found {text:?}", at()))?;
    let source = row.from("system.add", source);
    let meta = fs::metadata(&source).with_context(|| format!("{}: {}", at(), source.display()))?;
    ensure!(meta.is_file(), "{}: {}: expected a file", at(), source.display());
    ensure!(target.starts_with('/'), "{}: expected a target that begins with /, found {target:?}", at());
    // Who packs has a umask: only whether it can be executed says something.
    let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
    Ok(Added { path: target.trim_matches('/').into(), content: Content::File(source), mode, owner: (0, 0) })
}

fn small(path: &Path) -> Result<String> {
    let meta = fs::metadata(path).with_context(|| format!("{}: reading it", path.display()))?;
    ensure!(meta.len() <= SMALL, "{}: expected a small text", path.display());
    fs::read_to_string(path).with_context(|| format!("{}: reading it", path.display()))
}

/// `locked`, `empty` or `file:PATH`. Nothing secret stands in a configuration or on a command line.
fn password(row: &Row<'_>, key: &str, purpose: &str) -> Result<Password> {
    let Some(text) = row.text(key) else { return Ok(Password::Unchanged) };
    let expected =
        || format!("{}: expected locked, empty, or file:PATH with a hash or a password in its first line", row.at(key));
    match text {
        "locked" => Ok(Password::Locked),
        "empty" => Ok(Password::Empty),
        text => {
            // What was found may be a password, and is not shown.
            let path = row.from(key, text.strip_prefix("file:").with_context(expected)?);
            let all = small(&path).with_context(expected)?;
            let line = all.lines().next().unwrap_or_default();
            ensure!(!line.is_empty(), "{}, which is empty", expected());
            let hash = line.starts_with('$') && line.matches('$').count() >= 3;
            Ok(Password::Hash(if hash { line.to_owned() } else { crypt::hash(line.as_bytes(), purpose) }))
        }
    }
}

/// Public keys: lines of files, or as they are.
fn keys(row: &Row<'_>, key: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for text in row.list(key) {
        if text.contains(' ') {
            all.push(text.clone());
            continue;
        }
        let lines = small(&row.from(key, text)).with_context(|| row.at(key))?;
        all.extend(
            lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
    }
    Ok(all)
}

fn user(row: &Row<'_>, seed: &str) -> Result<User> {
    let name = row.text("name").unwrap_or_default().to_owned();
    Ok(User {
        uid: row.number("uid")?,
        groups: row.list("groups").to_vec(),
        shell: row.text("shell").map(str::to_owned),
        sudo: row.flag("sudo"),
        password: password(row, "password", &format!("{seed}\0{name}"))?,
        ssh_keys: keys(row, "ssh-keys")?,
        name,
    })
}
