//! What the early boot and the kernel say, word for word, as far as tests rely on it.

/// First line of the explanation when there is no way on.
pub const EXPLANATION: &str = "taproot: the system could not be started";
/// Stands before the sentence that says what is wrong.
pub const PROBLEM: &str = "Problem:";
/// Stands before what should have been there.
pub const EXPECTED: &str = "Expected:";
/// Prompt of the rescue: takes numbers of its menu and words.
pub const PROMPT: &str = "(taproot) # ";
/// What an explanation says that a screen does not hold.
pub const MORE: &str = "more lines: type why";
/// What a long text stops with.
pub const PAGE: &str = "-- page ";
/// Question of the prompt before what cannot be undone.
pub const CONFIRM: &str = "Type yes to do it: ";
/// What the log says when words that were typed are taken.
pub const TAKEN: &str = "the next attempt has these words, typed at the rescue prompt";
/// Prompt of the packed shell, which the word `shell` starts.
pub const SHELL_PROMPT: &str = "(shell) # ";
/// Part of the answer to `help` in either.
pub const HELP: &str = "what went wrong";
/// How the driver calls a fault of the emulated processor; a scenario that dies of it is run again.
pub const EMULATOR_FAULT: &str =
    "emulator fault (QEMU crashed, or the guest's kernel met a stray int3 or lost a timer)";
/// What the kernel says of each disk that it has found.
pub const DISK: &str = "-byte logical blocks";
