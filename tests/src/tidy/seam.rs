//! Everything that touches the world goes through `sys::System`: the rooms above it must not reach round it.

use super::source::{Source, product, words};
use super::{none, rust_files};

/// Rooms of which it holds, below `init-rs/src`.
const ROOMS: [&str; 13] = [
    "after/",
    "layers/",
    "shutdown/",
    "boot/",
    "pools/",
    "unlock/",
    "rescue/",
    "plan/",
    "report/",
    "cmdline/",
    "zfs/",
    "scout/client.rs",
    "keyboard.rs",
];
/// Modules through which a program reaches the world by itself.
const MODULES: [&str; 7] =
    ["std::fs", "std::process", "std::thread", "std::env", "std::net", "std::os::unix", "std::time"];
/// What of those is harmless.
const HARMLESS: [&str; 2] = ["std::time::Duration", "std::os::unix::ffi"];
/// Whole crates that do nothing else.
const CRATES: [&str; 2] = ["nix", "procfs"];
/// Types, however they were imported.
const NAMES: [&str; 3] = ["Instant", "SystemTime", "OpenOptions"];
/// Functions of types whose names others have too.
const CALLS: [&str; 4] = ["File::open", "File::create", "File::options", "Command::new"];

/// Paths that begin with one of these roots, groups in braces taken apart, with where they stand.
pub(super) fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut list = Vec::new();
    for at in words(code, root) {
        if let Some(rest) = code[at + root.len()..].strip_prefix("::") {
            expand(rest, &format!("{root}::"), at, &mut list);
        }
    }
    list
}

fn expand(text: &str, prefix: &str, at: usize, list: &mut Vec<(usize, String)>) {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let path: String = text.chars().take_while(|c| is_path(*c)).collect();
    let Some(group) = text[path.len()..].strip_prefix('{').filter(|_| path.is_empty() || path.ends_with("::")) else {
        list.push((at, format!("{prefix}{path}").trim_end_matches("::self").to_owned()));
        return;
    };
    let (mut depth, mut begin) = (0, 0);
    for (end, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[begin..end].trim();
                if !item.is_empty() {
                    expand(item, &format!("{prefix}{path}"), at, list);
                }
                begin = end + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn is_below(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn round_the_seam(file: &Source) -> Vec<String> {
    let code = &file.product;
    let mut found: Vec<(usize, String)> = paths(code, "std");
    found.retain(|(_, path)| {
        MODULES.iter().any(|module| is_below(path, module)) && !HARMLESS.iter().any(|harmless| is_below(path, harmless))
    });
    for name in CRATES {
        found.extend(paths(code, name));
    }
    for name in NAMES {
        found.extend(words(code, name).into_iter().map(|at| (at, name.to_owned())));
    }
    for call in CALLS {
        found.extend(words(code, call).into_iter().map(|at| (at, call.to_owned())));
    }
    // Constants of the C library are only numbers; its functions are calls.
    found.extend(paths(code, "libc").into_iter().filter(|(at, path)| {
        path["libc::".len()..].starts_with(|c: char| c.is_lowercase()) && code[at + path.len()..].starts_with('(')
    }));
    found.sort();
    found.dedup_by_key(|(at, _)| file.line(*at));
    found.into_iter().map(|(at, what)| format!("{}: {what}", file.at(at))).collect()
}

#[test]
fn nothing_reaches_round_the_seam() {
    let files = product(rust_files("init-rs/src"));
    let inside = |file: &&Source| {
        let path = file.path.trim_start_matches("init-rs/src/");
        ROOMS.iter().any(|room| path == *room || (room.ends_with('/') && path.starts_with(room)))
    };
    let list: Vec<String> = files.iter().filter(inside).flat_map(round_the_seam).collect();
    none(&list, "these rooms touch the world through sys::System alone");
}

#[test]
fn what_reaches_round_it_is_found() {
    let found = |text: &str| round_the_seam(&Source::new("x.rs", text.to_owned()));
    for text in [
        "use std::fs;",
        "use std::{collections::BTreeMap, io, fs::{self, File}};",
        "use std::time::{Duration, Instant};",
        "fn f() { std::env::var(\"X\"); }",
        "use std::os::unix::fs::MetadataExt as _;",
        "use nix::unistd::Pid;",
        "procfs::Uptime::current();",
        "let now = Instant::now();",
        "Command::new(\"sh\")",
        "File::open(\"x\")",
        "unsafe { libc::sync() }",
    ] {
        assert_eq!(found(text).len(), 1, "{text}: {:?}", found(text));
    }
    for text in [
        "use std::time::Duration; use std::os::unix::ffi::OsStrExt as _;",
        "if e == libc::EACCES { libc::MS_RDONLY } else { let x: libc::c_int = 0; }",
        "// std::fs\nlet s = \"Command::new\";",
        "#[cfg(test)]\nmod tests { use std::fs; }",
        "enum Command { A } fn f(c: &Command) { FileKind::File; Command::A }",
        "use std::fmt::Write as _; use std::{io, path::Path};",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    assert_eq!(found("\n\nuse std::thread;"), ["x.rs:3: std::thread"]);
}
