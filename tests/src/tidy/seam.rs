//! Everything that touches the world goes through `sys::System`: the rooms above it must not reach round it.

use super::source::{Source, product, words};
use super::{none, rust_files};
use std::ops::Range;

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

/// Ways to the streams that a program was started with.
const MACROS: [&str; 5] = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Methods of paths that look at what is there. The seam has some of the same name: those are called on a `system`.
const LOOKS: [&str; 10] = [
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "is_symlink",
    "metadata",
    "symlink_metadata",
    "canonicalize",
    "read_dir",
    "read_link",
];
/// Functions that may use the streams, `*` for all of a file: never PID 1, but a program that somebody else called, who reads what
/// it says.
const PROGRAMS: [(&str, &str); 5] = [
    ("after/generator.rs", "*"), // systemd's generator
    ("after/mount_all.rs", "*"), // in the place of `zfs mount -a`
    ("boot/hook.rs", "*"),       // the other tool's script
    ("rescue/applet.rs", "*"),   // the rescue shell
    ("rescue/apart.rs", "part"), // the prompt: it started this process to wait in its place
];

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

/// Calls of [`LOOKS`] on anything that is not called `system`, and their names where they are handed on (`Path::exists`).
fn looks(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for look in LOOKS {
        for at in words(code, look) {
            let (before, behind) = (code[..at].trim_end(), code[at + look.len()..].trim_start());
            let called = before.strip_suffix('.').filter(|_| behind.starts_with('('));
            let on = called.map(|on| on.trim_end().trim_end_matches(".as_ref()").trim_end());
            let seam = |on: &str| on.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next() == Some("system");
            let path = ["Path::", "PathBuf::", "Path>::"].iter().any(|path| before.ends_with(path));
            if path || on.is_some_and(|on| !seam(on)) {
                found.push((at, look.to_owned()));
            }
        }
    }
    found
}

/// The streams of the program, and the macros that print to them.
fn streams(code: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for name in MACROS {
        found.extend(words(code, name).into_iter().map(|at| (at, name.to_owned())));
    }
    for name in STREAMS {
        let called = |at: &usize| code[at + name.len()..].trim_start().starts_with('(');
        found.extend(words(code, name).into_iter().filter(called).map(|at| (at, name.to_owned())));
        found.extend(paths(code, "std").into_iter().filter(|(_, path)| *path == format!("std::io::{name}")));
    }
    found
}

/// Whether one of [`PROGRAMS`] stands there.
fn is_excused(file: &Source, at: usize, (path, function): (&str, &str)) -> bool {
    let within = |(name, body): (String, Range<usize>)| name == function && body.contains(&at);
    file.path == format!("init-rs/src/{path}") && (function == "*" || file.functions().into_iter().any(within))
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
    found.extend(looks(code));
    found.extend(
        streams(code).into_iter().filter(|(at, _)| !PROGRAMS.iter().any(|program| is_excused(file, *at, *program))),
    );
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
    for program in PROGRAMS {
        let used = |file: &Source| streams(&file.product).iter().any(|(at, _)| is_excused(file, *at, program));
        assert!(files.iter().any(used), "{program:?} uses no stream: it needs no excuse");
    }
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
        "println!(\"x\");",
        "std::eprint!(\"x\")",
        "dbg!(x)",
        "use std::io::{self, stdout};",
        "io::stdout().flush()",
        "writeln!(std::io::stderr(), \"x\")",
        "io::stdin ().read_line(&mut text)",
        "if path.exists() {}",
        "path\n    .try_exists()",
        "self.at(\"x\").is_file()",
        "let there = system.path().is_dir();",
        "entry.path().is_symlink()",
        "Path::new(\"/x\").metadata()?",
        "filesystem.symlink_metadata()",
        "dir.canonicalize()",
        "for entry in self.dir.read_dir()? {}",
        "link.read_link()",
        "all.iter().filter(|p| p.exists())",
        "list.retain(PathBuf::exists); let x = 0;",
        "map(std::path::Path::metadata)",
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
        "system.exists(path) && self.system.read_link(&p).is_ok() && boot.system\n    .exists(path)",
        "self.system.as_ref().exists(path)",
        "fn exists(&self) {} let metadata = sight.metadata; let stdout = program.stdout;",
        "// println!()\nlet s = \"io::stdout()\"; write!(text, \"x\"); fingerprint!(x)",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    assert_eq!(found("\n\nuse std::thread;"), ["x.rs:3: std::thread"]);
    let apart = |text: &str| {
        let file = Source::new("init-rs/src/rescue/apart.rs", text.to_owned());
        round_the_seam(&file).into_iter().map(|what| what.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(apart("fn part() { io::stdout().flush() }\nfn f() { print!(\"x\") }"), ["apart.rs:2: print!"]);
    assert_eq!(apart("fn part() { path.exists() }"), ["apart.rs:1: exists"]);
}
