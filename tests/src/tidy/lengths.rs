//! No file over 500 lines and no function over 70.

use super::source::Source;
use super::{none, page, rust_files};

const FILE: usize = 500;
const FUNCTION: usize = 70;
/// Where the rule holds.
const PLACES: [&str; 6] = ["init-rs/src", "init-rs/tests", "builder/src", "builder/tests", "tests/src", "tests/tests"];
/// Shell files of which the same is asked.
const SHELL: [&str; 2] = ["mkinitcpio-hook/install/taproot", "mkinitcpio-hook/hooks/taproot"];

fn too_long(file: &Source) -> Vec<String> {
    let mut list = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE {
        list.push(format!("{}: {lines} lines", file.path));
    }
    for (name, at) in file.functions() {
        let lines = file.line(at.end) - file.line(at.start) + 1;
        if lines > FUNCTION {
            list.push(format!("{}: {name} has {lines} lines", file.at(at.start)));
        }
    }
    list
}

#[test]
fn files_and_functions_are_short() {
    let mut list: Vec<String> =
        PLACES.iter().flat_map(|place| rust_files(place)).flat_map(|file| too_long(&file)).collect();
    for path in SHELL {
        let lines = page(path).lines().count();
        if lines > FILE {
            list.push(format!("{path}: {lines} lines"));
        }
    }
    none(&list, "files have at most 500 lines and functions at most 70");
}

#[test]
fn what_is_too_long_is_found() {
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "x();\n".repeat(lines - 2));
    let found = |text: String| too_long(&Source::new("x.rs", text));
    assert!(found(body(FUNCTION)).is_empty());
    assert_eq!(found(format!("\n{}", body(FUNCTION + 1))), ["x.rs:2: f has 71 lines"]);
    assert!(found("//\n".repeat(FILE)).is_empty());
    assert_eq!(found("//\n".repeat(FILE + 1)), ["x.rs: 501 lines"]);
}
