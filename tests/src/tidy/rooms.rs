//! Rooms of `init-rs/src` import only what lies below them. The table of rooms is the one in `docs/ARCHITECTURE.md`.

use std::collections::BTreeMap;

use super::source::{Source, product, words};
use super::{none, page, rust_files};

const HEADING: &str = "## Rooms of `init-rs/src`";

/// One row of the table.
#[derive(Debug)]
struct Room {
    name: String,
    /// Rooms, or `room::module` where one module of a room is allowed.
    may_use: Vec<String>,
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The name of a room or module by its path in the table: `plan/`, `main.rs`, `plan/names.rs`.
fn name(path: &str) -> String {
    path.trim_end_matches('/').trim_end_matches(".rs").replace('/', "::")
}

/// The rows, from the top down. "everything below" means just that.
fn table(page: &str) -> Vec<Room> {
    let section = page.split(HEADING).nth(1).unwrap_or_else(|| panic!("no heading {HEADING:?}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| line.trim_end_matches(" |").split(" | ").collect())
        .collect();
    let names: Vec<String> = rows.iter().map(|cells| name(cells[0].trim_end_matches('`'))).collect();
    let room = |(index, cells): (usize, &Vec<&str>)| {
        let last = cells.last().unwrap();
        let below = last.contains("everything below").then(|| names[index + 1..].to_vec());
        let may_use = below.unwrap_or_else(|| quoted(last).iter().map(|path| name(path)).collect());
        Room { name: names[index].clone(), may_use }
    };
    rows.iter().enumerate().map(room).collect()
}

/// Rows that allow what does not lie below, or name what is no room.
fn wrong_rows(rooms: &[Room]) -> Vec<String> {
    let place: BTreeMap<&str, usize> = rooms.iter().enumerate().map(|(at, room)| (room.name.as_str(), at)).collect();
    let mut list = Vec::new();
    for (at, Room { name, may_use }) in rooms.iter().enumerate() {
        for used in may_use {
            let room = used.split("::").next().unwrap_or_default();
            match place.get(used.as_str()).or_else(|| place.get(room)) {
                None => list.push(format!("docs/ARCHITECTURE.md: {name} may use {used}, which is no room")),
                Some(below) if *below <= at => {
                    list.push(format!("docs/ARCHITECTURE.md: {name} may use {used}, which does not lie below it"));
                }
                Some(_) => {}
            }
        }
    }
    list
}

/// The paths below `crate::` (or the crate's name) that a file uses, with where: groups in braces are taken apart.
fn imports(file: &Source) -> Vec<(usize, String)> {
    let mut list = Vec::new();
    for root in ["crate", "taproot_init"] {
        for at in words(&file.product, root) {
            let Some(rest) = file.product[at + root.len()..].strip_prefix("::") else { continue };
            // A macro lies at the top wherever it was written.
            let is_macro = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').starts_with('!');
            if !is_macro {
                list.extend(paths(rest).into_iter().map(|path| (at, path)));
            }
        }
    }
    list
}

/// The first two names of each path that begins here: `plan::names`, or of each in `{plan::names, sys}`.
fn paths(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let first = |text: &str| text.chars().take_while(|c| is_path(*c)).collect::<String>();
    let short = |path: String| path.split("::").take(2).collect::<Vec<_>>().join("::").trim_end_matches(':').to_owned();
    let Some(group) = text.strip_prefix('{') else {
        let path = first(text);
        // `plan::{names, facts}`
        let tail = &text[path.len()..];
        if path.ends_with("::") && tail.starts_with('{') && path.matches("::").count() == 1 {
            return paths(tail).into_iter().map(|inner| short(format!("{path}{inner}"))).collect();
        }
        return vec![short(path)];
    };
    let mut depth = 0;
    let mut list = Vec::new();
    let mut begin = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[begin..at].trim();
                if !item.is_empty() {
                    list.extend(paths(item));
                }
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    list
}

/// The room of a file: its directory below `src`, or its own name. A file inside a room may have a row of its own.
fn room_of(rooms: &[Room], path: &str) -> String {
    let inside = path.trim_start_matches("init-rs/src/");
    let own = name(inside);
    if rooms.iter().any(|room| room.name == own) {
        return own;
    }
    name(inside.split('/').next().unwrap_or_default())
}

fn upwards(rooms: &[Room], file: &Source) -> Vec<String> {
    let own = room_of(rooms, &file.path);
    let Some(room) = rooms.iter().find(|room| room.name == own) else {
        return vec![format!("{}: no row for {own} in the table of rooms", file.path)];
    };
    let allowed = |path: &str| {
        let first = path.split("::").next().unwrap_or_default();
        first == own || room.may_use.iter().any(|used| used == first || used == path)
    };
    let found = imports(file).into_iter().filter(|(_, path)| !allowed(path));
    found.map(|(at, path)| format!("{}: {own} imports {path}", file.at(at))).collect()
}

#[test]
fn no_room_imports_upwards() {
    let rooms = table(&page("docs/ARCHITECTURE.md"));
    assert!(rooms.len() > 5, "the table of rooms has {} rows", rooms.len());
    let mut list = wrong_rows(&rooms);
    for file in product(rust_files("init-rs/src")) {
        // It only names the rooms.
        if file.path != "init-rs/src/lib.rs" {
            list.extend(upwards(&rooms, &file));
        }
    }
    none(&list, "a room uses the rooms that its row in docs/ARCHITECTURE.md names, which lie below it");
}

#[test]
fn what_points_upwards_is_found() {
    let page = format!(
        "{HEADING}, down\n\n| room | job | may use |\n|---|---|---|\n| `main.rs` | x | everything below |\n\
         | `boot/` | `x` | types of `plan`, `sys/` |\n| `plan/` | x | `zfs/names.rs` |\n| `zfs/` | x | - |\n| `sys/` | x | `plan` |\n\
         | `boot/low.rs` | x | - |\n\n## Next\n| `x` | | |\n"
    );
    let rooms = table(&page);
    assert_eq!(
        rooms.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["main", "boot", "plan", "zfs", "sys", "boot::low"]
    );
    assert_eq!(rooms[0].may_use, ["boot", "plan", "zfs", "sys", "boot::low"]);
    assert_eq!(wrong_rows(&rooms), ["docs/ARCHITECTURE.md: sys may use plan, which does not lie below it"]);
    let found = |path: &str, text: &str| upwards(&rooms, &Source::new(path, text.to_owned()));
    assert!(found("init-rs/src/boot/a.rs", "use crate::{boot::x, plan::{self, y}, sys};").is_empty());
    assert_eq!(
        found("init-rs/src/boot/a.rs", "\nuse crate::{plan, zfs::x};"),
        ["init-rs/src/boot/a.rs:2: boot imports zfs::x"]
    );
    assert!(found("init-rs/src/plan/a.rs", "use crate::zfs::{names::A, names};").is_empty());
    assert_eq!(found("init-rs/src/plan/a.rs", "crate::zfs::{names, label}").len(), 1);
    assert_eq!(
        found("init-rs/src/zfs/a.rs", "fn f() { crate::sys::x() }\n#[cfg(test)]\nmod t { use crate::boot; }").len(),
        1
    );
    assert_eq!(
        found("init-rs/src/boot/low.rs", "use crate::sys;"),
        ["init-rs/src/boot/low.rs:1: boot::low imports sys"]
    );
    assert_eq!(found("init-rs/src/new.rs", ""), ["init-rs/src/new.rs: no row for new in the table of rooms"]);
    assert!(found("init-rs/src/zfs/a.rs", "crate::of_sys!(x); crate::sys!{}").is_empty());
    assert_eq!(found("init-rs/src/main.rs", "taproot_init::boot::run(); // crate::nowhere").len(), 0);
}
