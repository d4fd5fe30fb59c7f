//! Where a bug was met, for the log.

use std::backtrace::Backtrace;

/// Functions that are shown; more is a recursion.
const MOST: usize = 40;

/// The functions that led to a panic, innermost first, each with its number; to be asked for in the panic's hook. Names come from
/// the program's own symbols, so /proc must be mounted; without it there are none.
pub fn lines() -> Vec<String> {
    shorten(&Backtrace::force_capture().to_string())
}

/// Drops what the panic itself called, and what called `main`.
fn shorten(text: &str) -> Vec<String> {
    let frames: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    // Not all of std::panicking: a thread begins there.
    let own_parts = [" core::panicking::", "rust_begin_unwind", "panic_with_hook"];
    let own = frames.iter().rposition(|frame| own_parts.iter().any(|part| frame.contains(part)));
    let own = frames.get(own.map_or(0, |at| at + 1)..).unwrap_or_default();
    let end = own.iter().position(|frame| frame.contains(" __libc_start_")).unwrap_or(own.len());
    own.iter().take(end.min(MOST)).map(|frame| (*frame).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_a_panic() {
        let text = "   0: taproot_init::hook::{{closure}}\n   1: std::panicking::panic_with_hook\n             at x.rs:1:2\n   \
                    2: core::panicking::panic_bounds_check\n   3: taproot_init::boot::find\n   4: main\n   \
                    5: __libc_start_call_main\n   6: _start\n";
        assert_eq!(shorten(text), ["3: taproot_init::boot::find", "4: main"]);
        assert_eq!(shorten("<unsupported>"), [""; 0]);
        let deep: String = (0..100).map(|n| format!("{n}: a::b\n")).collect();
        assert_eq!(shorten(&deep).len(), MOST);
    }

    #[test]
    fn a_thread_has_no_main() {
        let text = "0: core::panicking::panic\n1: a::b\n2: std::panicking::catch_unwind::<X>\n3: start_thread\n";
        assert_eq!(shorten(text), ["1: a::b", "2: std::panicking::catch_unwind::<X>", "3: start_thread"]);
    }

    #[test]
    fn a_real_one_has_names() {
        let found = lines();
        assert!(found.iter().any(|frame| frame.contains("backtrace::lines")), "{found:?}");
    }
}
