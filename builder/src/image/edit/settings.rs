//! Names, places and languages: what a person would set up first in a new system.

use super::desk::Desk;
use super::identity::lines_of;
use super::seen::wrong;
use super::{Edits, Identity};
use crate::tar::TarError;

/// Locales that every libc has in itself.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];
const ARCHIVE: &str = "usr/lib/locale/locale-archive";

pub(super) fn write(desk: &mut Desk, edits: &Edits) -> Result<(), TarError> {
    hostname(desk, edits)?;
    if let Some(zone) = &edits.timezone {
        timezone(desk, zone)?;
    }
    if let Some(first) = edits.locales.first() {
        locales(desk, &edits.locales, first.split_whitespace().next().unwrap_or_default())?;
    }
    if let Some(keymap) = &edits.keymap {
        set(desk, "etc/vconsole.conf", "KEYMAP", keymap)?;
        if debian(desk) {
            // The layout of a console's map is what stands before a variant: de-latin1, us.
            let layout = keymap.split(['-', '_', '.']).next().unwrap_or_default();
            set(desk, "etc/default/keyboard", "XKBLAYOUT", &format!("\"{layout}\""))?;
        }
    }
    Ok(())
}

fn debian(desk: &Desk) -> bool {
    desk.has("var/lib/dpkg") || desk.has("etc/debian_version")
}

fn hostname(desk: &mut Desk, edits: &Edits) -> Result<(), TarError> {
    let name = match (&edits.hostname, edits.identity) {
        (Some(name), _) => name.as_str(),
        (None, Identity::Strip) => "localhost",
        (None, Identity::Keep) => return Ok(()),
    };
    if !desk.has("etc") {
        return Ok(());
    }
    let before = desk.text("etc/hostname")?.unwrap_or_default();
    if before.trim() != name {
        desk.put("etc/hostname", format!("{name}\n"), 0o644)?;
        desk.report.changed(b"etc/hostname", name);
    }
    let Some(text) = desk.text("etc/hosts")? else { return Ok(()) };
    let own = |line: &str| line.split_whitespace().next() == Some("127.0.1.1");
    let mut lines: Vec<String> = text.lines().filter(|line| !own(line)).map(str::to_owned).collect();
    if name != "localhost" {
        let after = lines.iter().position(|line| line.starts_with("127.0.0.1")).map_or(lines.len(), |at| at + 1);
        let short = name.split('.').next().unwrap_or(name);
        let names = if short == name { name.to_owned() } else { format!("{name} {short}") };
        lines.insert(after, format!("127.0.1.1\t{names}"));
    }
    let new = lines_of(&lines);
    if new != text {
        desk.put("etc/hosts", new, 0o644)?;
        desk.report.changed(b"etc/hosts", "the machine's own name");
    }
    Ok(())
}

fn timezone(desk: &mut Desk, zone: &str) -> Result<(), TarError> {
    let file = format!("usr/share/zoneinfo/{zone}");
    if !desk.has(&file) {
        return Err(wrong(
            b"etc/localtime",
            format!(
                "time zone {zone:?}: the tree has no {file}; install tzdata, or choose a name that it has, such as UTC or Europe/Berlin"
            ),
        ));
    }
    let target = format!("/{file}");
    desk.held.remove(b"etc/localtime".as_slice());
    desk.link("etc/localtime", &target)?;
    // Debian's programs read the name.
    if desk.text("etc/timezone")?.is_some() {
        desk.put("etc/timezone", format!("{zone}\n"), 0o644)?;
    }
    desk.report.changed(b"etc/localtime", zone);
    Ok(())
}

fn locales(desk: &mut Desk, wanted: &[String], system: &str) -> Result<(), TarError> {
    // The list of what locale-gen makes: what is asked for and nothing else.
    if let Some(text) = desk.text("etc/locale.gen")? {
        let plain = |line: &str| line.trim_start_matches(['#', ' ']).split_whitespace().collect::<Vec<_>>().join(" ");
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let active = !line.trim_start().starts_with('#') && !line.trim().is_empty();
            if active && !wanted.iter().any(|wanted| plain(wanted) == plain(line)) {
                lines.push(format!("# {line}"));
            } else if !active && wanted.iter().any(|wanted| plain(wanted) == plain(line)) {
                lines.push(plain(line));
            } else {
                lines.push(line.to_owned());
            }
        }
        for locale in wanted.iter().map(|wanted| plain(wanted)) {
            if locale.contains(' ') && !lines.contains(&locale) {
                lines.push(locale);
            }
        }
        desk.put("etc/locale.gen", lines_of(&lines), 0o644)?;
        desk.report.changed(b"etc/locale.gen", wanted.join(", "));
    }
    set(desk, "etc/locale.conf", "LANG", system)?;
    if debian(desk)
        && desk.held.get(b"etc/default/locale".as_slice()).is_none_or(|made| made.entry.kind == crate::tar::Kind::File)
    {
        set(desk, "etc/default/locale", "LANG", system)?;
    }
    // Its directory is called with what libc makes of the name: en_US.utf8.
    let folded = system.split_once('.').map_or(system.to_owned(), |(language, set)| {
        format!("{language}.{}", set.to_ascii_lowercase().replace('-', ""))
    });
    let there = [system, &folded].iter().any(|name| desk.has(&format!("usr/lib/locale/{name}")));
    if !BUILT_IN.contains(&system) && !there {
        let known = if desk.has(ARCHIVE) {
            "the tree has an archive of locales, in which it may be"
        } else {
            "the tree does not have it yet"
        };
        desk.report.note(format!(
            "locale {system}: {known}; if not, run locale-gen in the tree (a hook), or once in the system"
        ));
    }
    Ok(())
}

/// Sets one `NAME=value` of a file of such lines.
fn set(desk: &mut Desk, path: &str, name: &str, value: &str) -> Result<(), TarError> {
    if desk.held.get(path.as_bytes()).is_some_and(|made| made.entry.kind == crate::tar::Kind::SymbolicLink) {
        // Debian 13 has etc/default/locale lead to etc/locale.conf.
        return Ok(());
    }
    let text = desk.text(path)?.unwrap_or_default();
    let says = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim() == name);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = format!("{name}={value}");
    match lines.iter_mut().find(|line| says(line)) {
        Some(old) => *old = line,
        None => lines.push(line),
    }
    desk.put(path, lines_of(&lines), 0o644)?;
    desk.report.changed(path.as_bytes(), format!("{name}={value}"));
    Ok(())
}
