//! What a run of the suite has to account for beside passed and failed: tests that were skipped, and virtual machines that
//! were run again. Each is a line in a file that `tests/run.sh` names and sums up; without it the line is shown alone.
//!
//! Needs the standard library only: tests of the other packages include this file.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Names the file for tests that were skipped.
const SKIPPED: &str = "TAPROOT_SKIPPED";
/// Names the file for tests whose machines were run again.
const AGAIN: &str = "TAPROOT_AGAIN";

/// Notes that the running test is skipped, wholly or in part; the test returns then.
pub fn skipped(why: &str) {
    note("skipped", SKIPPED, why);
}

/// Notes that the machines of the running test are run again.
#[allow(dead_code, reason = "not everyone who includes this file has machines")]
pub fn again(why: &str) {
    note("once more", AGAIN, why);
}

fn note(what: &str, file: &str, why: &str) {
    let test = test();
    eprintln!("{what}: {test}: {why}");
    let Some(path) = std::env::var_os(file) else { return };
    // One write, because tests run side by side.
    let line = format!("{test}: {why}\n");
    let done = OpenOptions::new().append(true).create(true).open(&path).and_then(|mut f| f.write_all(line.as_bytes()));
    if let Err(error) = done {
        eprintln!("{}: {error}; the line above is not counted", path.display());
    }
}

/// The name of the running test.
fn test() -> String {
    let thread = std::thread::current();
    match thread.name() {
        Some(name) if name != "main" => name.to_owned(),
        // With one test a process there is no thread of its own; the name is the argument that is no option.
        _ => std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_else(|| "a test".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_knows_its_name() {
        assert!(super::test().ends_with("account::tests::a_test_knows_its_name"), "{}", super::test());
    }
}
