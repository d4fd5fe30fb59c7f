//! Texts that name what only the machine has that made the tree: its disks, its mirrors, its proxy.

use super::Edits;
use super::desk::Desk;
use super::identity::lines_of;
use crate::tar::TarError;
use std::path::Path;

const MARK: &str = "# taproot: of the machine that made this image: ";
/// Types of file systems that lie on no disk.
const NO_DISK: [&str; 22] = [
    "tmpfs",
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "ramfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "efivarfs",
    "hugetlbfs",
    "mqueue",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "overlay",
    "nfs",
    "nfs4",
    "cifs",
    "fuse.sshfs",
];

pub(super) fn write(desk: &mut Desk, edits: &Edits) -> Result<(), TarError> {
    if let Some(lines) = &edits.fstab {
        fstab(desk, lines)?;
        comment(desk, "etc/crypttab", |line| !line.is_empty(), "disks commented out")?;
        for path in ["etc/mdadm/mdadm.conf", "etc/mdadm.conf"] {
            comment(desk, path, |line| line.split_whitespace().next() == Some("ARRAY"), "arrays commented out")?;
        }
        loaders(desk)?;
    }
    proxies(desk)?;
    mirrors(desk)
}

/// Comments lines out for which something holds.
fn comment(desk: &mut Desk, path: &str, mut goes: impl FnMut(&str) -> bool, what: &str) -> Result<(), TarError> {
    let Some(text) = desk.text(path)? else { return Ok(()) };
    let mut out = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let says = !line.trim_start().starts_with('#') && !line.trim().is_empty();
        if says && goes(line.trim()) {
            count += 1;
            out.push(format!("{MARK}{line}"));
        } else {
            out.push(line.to_owned());
        }
    }
    if count > 0 {
        desk.put(path, lines_of(&out), 0o644)?;
        desk.report.changed(path.as_bytes(), format!("{what}: {count}"));
    }
    Ok(())
}

/// Whether a line of the table names a disk, or a data set.
fn on_disk(line: &str) -> bool {
    let mut fields = line.split_whitespace();
    let (device, _, kind, options) = (fields.next().unwrap_or_default(), fields.next(), fields.next(), fields.next());
    let kind = kind.unwrap_or_default();
    let bind = options.unwrap_or_default().split(',').any(|option| option == "bind" || option == "rbind");
    // A file of the root itself: an image of an archive, a file to swap to.
    let of_root = device.starts_with('/') && !device.starts_with("/dev/");
    let of_programs = kind.starts_with("fuse") && !device.starts_with("/dev/");
    !(bind || of_root || of_programs || NO_DISK.contains(&kind))
}

fn fstab(desk: &mut Desk, lines: &[String]) -> Result<(), TarError> {
    const TABLE: &str = "etc/fstab";
    comment(desk, TABLE, on_disk, "disks commented out")?;
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = desk.text(TABLE)?.unwrap_or_default();
    text.push_str(&lines_of(lines));
    desk.put(TABLE, text, 0o644)?;
    desk.report.changed(TABLE.as_bytes(), format!("the image's own partitions: {}", lines.len()));
    Ok(())
}

/// Whether a word of a kernel command line names a disk.
fn names_disk(word: &str) -> bool {
    ["root=", "resume=", "resume_offset=", "rootfstype=", "cryptdevice=", "rd.luks.uuid=", "rd.lvm.lv=", "rd.md.uuid="]
        .iter()
        .any(|start| word.trim_matches(['"', '\'']).starts_with(start))
}

/// The words without those that name disks, and those.
fn without_disks(text: &str) -> (String, Vec<&str>) {
    let (gone, stay): (Vec<&str>, Vec<&str>) = text.split_whitespace().partition(|word| names_disk(word));
    (stay.join(" "), gone)
}

/// Defaults of boot loaders, which the next installation of a kernel reads.
fn loaders(desk: &mut Desk) -> Result<(), TarError> {
    if let Some(text) = desk.text("etc/kernel/cmdline")? {
        let (stay, gone) = without_disks(&text);
        if !gone.is_empty() {
            desk.report.changed(b"etc/kernel/cmdline", format!("without {}", gone.join(" ")));
            desk.put("etc/kernel/cmdline", format!("{stay}\n"), 0o644)?;
        }
    }
    let scripts: Vec<String> = paths(desk, "etc/default/grub");
    for path in scripts {
        let Some(text) = desk.text(&path)? else { continue };
        let (mut out, mut all) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.starts_with("GRUB_CMDLINE_LINUX"))
            else {
                out.push(line.to_owned());
                continue;
            };
            let quote = value.chars().next().filter(|first| ['"', '\''].contains(first));
            let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
            let (stay, gone) = without_disks(inner);
            if gone.is_empty() {
                out.push(line.to_owned());
                continue;
            }
            all.extend(gone.iter().map(|word| (*word).to_owned()));
            out.push(format!("{name}=\"{stay}\""));
        }
        if !all.is_empty() {
            desk.report.changed(path.as_bytes(), format!("without {}", all.join(" ")));
            desk.put(&path, lines_of(&out), 0o644)?;
        }
    }
    Ok(())
}

/// What is held whose path begins so.
fn paths(desk: &Desk, start: &str) -> Vec<String> {
    let paths = desk.held.keys().filter(|path| path.starts_with(start.as_bytes()));
    paths.filter_map(|path| String::from_utf8(path.clone()).ok()).collect()
}

fn proxies(desk: &mut Desk) -> Result<(), TarError> {
    for path in paths(desk, "etc/apt/apt.conf") {
        let says = |line: &str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("acquire::") && line.split([' ', '\t']).next().is_some_and(|name| name.contains("::proxy"))
        };
        comment(desk, &path, says, "proxy commented out")?;
        let nested = desk.text(&path)?.is_some_and(|text| {
            let says = |line: &str| {
                !line.trim_start().starts_with('#')
                    && line.to_ascii_lowercase().split(['{', ' ', '\t', ';']).any(|word| word == "proxy")
            };
            text.lines().any(says)
        });
        if nested {
            desk.report.kept(path.as_bytes(), "a proxy in braces: write it as Acquire::http::Proxy, or remove it");
        }
    }
    let proxy = |line: &str| {
        let name = line.trim_start_matches("export ").split('=').next().unwrap_or_default().to_ascii_lowercase();
        name.ends_with("_proxy")
    };
    comment(desk, "etc/environment", proxy, "proxy commented out")
}

/// Whether an address leads to the machine itself or into its own network.
fn is_local(address: &str) -> bool {
    if ["file:", "copy:", "cdrom:", "/"].iter().any(|start| address.starts_with(start)) {
        return true;
    }
    let Some((_, rest)) = address.split_once("://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    if let Some(v6) = host.strip_prefix('[') {
        let v6 = v6.to_ascii_lowercase();
        return ["::1]", "fe80", "fc", "fd"].iter().any(|start| v6.starts_with(start));
    }
    let name = host.split(':').next().unwrap_or_default();
    if let Ok(address) = name.parse::<std::net::Ipv4Addr>() {
        return address.is_loopback() || address.is_private() || address.is_link_local();
    }
    name == "localhost"
        || !name.contains('.')
        || [".local", ".lan", ".localdomain", ".internal"].iter().any(|end| name.ends_with(end))
}

fn mirrors(desk: &mut Desk) -> Result<(), TarError> {
    let lists = paths(desk, "etc/apt/sources.list").into_iter();
    let ends = |path: &String, end: &str| Path::new(path).extension().is_some_and(|found| found == end);
    let (stanzas, lines): (Vec<String>, Vec<String>) = lists.partition(|path| ends(path, "sources"));
    let mut left = 0;
    let had_any = !lines.is_empty() || !stanzas.is_empty();
    for path in lines.iter().filter(|path| ends(path, "list")) {
        let local = |line: &str| {
            line.starts_with("deb")
                && line
                    .split_whitespace()
                    .skip(1)
                    .find(|word| word.contains(':') && !word.starts_with('['))
                    .is_some_and(is_local)
        };
        comment(desk, path, local, "local mirrors commented out")?;
        left +=
            desk.text(path)?.unwrap_or_default().lines().filter(|line| line.trim_start().starts_with("deb ")).count();
    }
    for path in &stanzas {
        left += disable(desk, path)?;
    }
    if had_any && left == 0 {
        desk.report.note("no package source is left: add one ([system] add, or a mirror in the source), or the system gets no updates");
    }
    let server =
        |line: &str| line.split_once('=').is_some_and(|(key, value)| key.trim() == "Server" && is_local(value.trim()));
    for path in ["etc/pacman.conf", "etc/pacman.d/mirrorlist"] {
        comment(desk, path, server, "local mirrors commented out")?;
    }
    Ok(())
}

/// Turns paragraphs of a list in deb822(5) form off that have local addresses only; gives how many are left.
fn disable(desk: &mut Desk, path: &str) -> Result<usize, TarError> {
    let Some(text) = desk.text(path)? else { return Ok(0) };
    let mut out = Vec::new();
    let (mut left, mut off) = (0, 0);
    for stanza in text.split("\n\n") {
        let addresses = stanza.lines().find_map(|line| line.strip_prefix("URIs:")).unwrap_or_default();
        let mut addresses = addresses.split_whitespace().peekable();
        if addresses.peek().is_some() && addresses.all(is_local) {
            off += 1;
            let lines: Vec<&str> = stanza.lines().filter(|line| !line.starts_with("Enabled:")).collect();
            out.push(format!("Enabled: no\n{}", lines.join("\n")));
        } else {
            left += usize::from(stanza.contains("URIs:"));
            out.push(stanza.trim_end_matches('\n').to_owned());
        }
    }
    if off > 0 {
        desk.put(path, format!("{}\n", out.join("\n\n").trim_end()), 0o644)?;
        desk.report.changed(path.as_bytes(), format!("local mirrors turned off: {off}"));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_lines_name_disks() {
        for line in [
            "UUID=1 / ext4 defaults 0 1",
            "/dev/sda2 none swap sw 0 0",
            "rpool/x /x zfs defaults 0 0",
            "LABEL=a /a btrfs",
            "PARTUUID=3 /b vfat",
        ] {
            assert!(on_disk(line), "{line}");
        }
        for line in [
            "tmpfs /tmp tmpfs",
            "srv:/x /x nfs4",
            "//s/x /x cifs",
            "/srv/a /b none bind,ro",
            "/swapfile none swap sw",
            "/a.iso /a iso9660 loop",
            "u@h:/x /x fuse.sshfs",
        ] {
            assert!(!on_disk(line), "{line}");
        }
    }

    #[test]
    fn which_addresses_are_local() {
        for address in [
            "file:/srv/x",
            "http://localhost:3142/debian",
            "http://10.1.2.3/debian",
            "http://apt:3142/x",
            "https://u@192.168.1.1/x",
            "http://[fe80::1]/x",
            "http://mirror.lan/x",
            "copy:/x",
            "file:///srv",
        ] {
            assert!(is_local(address), "{address}");
        }
        for address in
            ["http://deb.example.org/debian", "https://8.8.8.8/x", "http://[2001:db8::1]/x", "tor+http://abc.onion/x"]
        {
            assert!(!is_local(address), "{address}");
        }
    }
}
