//! What a console shows when several write to it: the kernel prints a message whenever it has one, also in the middle of a
//! line that somebody else began. A test that expects such a line must not depend on when the kernel has something to say.
//!
//! A message of the kernel is known by its time stamp and reaches to the end of its line; the rest, put together, is what
//! everybody else wrote. Messages of the early boot's log come through the kernel too, so a text is looked for in what the
//! console shows as it is first, and then in what is left without the kernel's messages.

use std::ops::Range;

/// One piece of a console's text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// The kernel's, stamp and end of line included.
    kernel: bool,
    at: Range<usize>,
}

/// Whether a byte is of the kind that is wanted.
type Wanted<'a> = &'a dyn Fn(u8) -> bool;

/// How long the stamp `[   12.345678] ` is that `text` begins with (`print_time` in `kernel/printk/printk.c`).
/// `Err` if it may become one with what is still to come.
fn stamp(text: &str) -> Result<Option<usize>, ()> {
    let mut rest = text.bytes().enumerate().peekable();
    let mut skip = |wanted: Wanted<'_>, most: usize| {
        let mut count = 0;
        while count < most && rest.next_if(|(_, byte)| wanted(*byte)).is_some() {
            count += 1;
        }
        (count, rest.peek().map(|(at, _)| *at))
    };
    let steps: [(Wanted<'_>, usize, usize); 6] = [
        (&|b| b == b'[', 1, 1),
        (&|b| b == b' ', 0, 4),
        (&|b| b.is_ascii_digit(), 1, 10),
        (&|b| b == b'.', 1, 1),
        (&|b| b.is_ascii_digit(), 6, 6),
        (&|b| b == b']', 1, 1),
    ];
    for (wanted, least, most) in steps {
        match skip(wanted, most) {
            (_, None) => return Err(()),
            (count, _) if count < least => return Ok(None),
            _ => {}
        }
    }
    match skip(&|b| b == b' ', 1) {
        (0, _) => Ok(None),
        (_, end) => Ok(Some(end.unwrap_or(text.len()))),
    }
}

/// A text in pieces, in order and without gaps. What may still become the kernel's counts as its.
fn pieces(text: &str) -> Vec<Piece> {
    let mut list = Vec::new();
    let (mut begin, mut from) = (0, 0);
    while let Some(open) = text.get(from..).and_then(|rest| rest.find('[')).map(|at| from + at) {
        let rest = text.get(open..).unwrap_or_default();
        if stamp(rest) == Ok(None) {
            from = open + 1;
            continue;
        }
        let end = rest.find('\n').map_or(text.len(), |at| open + at + 1);
        list.push(Piece { kernel: false, at: begin..open });
        list.push(Piece { kernel: true, at: open..end });
        (begin, from) = (end, end);
    }
    list.push(Piece { kernel: false, at: begin..text.len() });
    list.retain(|piece| !piece.at.is_empty());
    list
}

/// Where `pattern` stands first in `text` from the byte `from` on: as it is, or with messages of the kernel in between.
pub(super) fn find(text: &str, from: usize, pattern: &str) -> Option<Range<usize>> {
    let plain = text.get(from..)?.find(pattern).map(|at| from + at..from + at + pattern.len());
    let apart = find_apart(text, from, pattern);
    match (plain, apart) {
        (Some(plain), Some(apart)) => Some(if apart.start < plain.start { apart } else { plain }),
        (plain, apart) => plain.or(apart),
    }
}

/// As [`find`], in what others than the kernel wrote.
fn find_apart(text: &str, from: usize, pattern: &str) -> Option<Range<usize>> {
    // The piece that `from` lies in may have begun before it.
    let line = text.get(..from)?.rfind('\n').map_or(0, |at| at + 1);
    let tail = text.get(line..)?;
    let list = pieces(tail);
    if !list.iter().any(|piece| piece.kernel) {
        return None;
    }
    let mut said = String::new();
    // For each piece: where it begins in `said`, and in `text`.
    let mut origins = Vec::new();
    for piece in list.iter().filter(|piece| !piece.kernel) {
        let begin = (line + piece.at.start).max(from);
        let end = line + piece.at.end;
        if begin < end {
            origins.push((said.len(), begin));
            said.push_str(text.get(begin..end)?);
        }
    }
    let origin = |at: usize| {
        let piece = origins.iter().rev().find(|(said, _)| *said <= at)?;
        Some(piece.1 + (at - piece.0))
    };
    let at = said.find(pattern)?;
    let start = origin(at)?;
    let end = if pattern.is_empty() { start } else { origin(at + pattern.len() - 1)? + 1 };
    Some(start..end)
}

/// The text with the kernel's messages behind everything else, so that no line of anybody is cut in two.
pub fn unmixed(text: &str) -> String {
    let list = pieces(text);
    let of = |kernel: bool| list.iter().filter(move |p| p.kernel == kernel).filter_map(|p| text.get(p.at.clone()));
    let mut out: String = of(false).collect();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.extend(of(true));
    out
}

/// What stands on a screen of `columns`, read from `/dev/vcs*`: one row after the other without ends of lines. Rows that
/// were wrapped are one line again, then it is as [`unmixed`].
pub fn screen(dump: &str, columns: usize) -> String {
    let characters: Vec<char> = dump.chars().collect();
    let mut text = String::new();
    for row in characters.chunks(columns.max(1)) {
        let row: String = row.iter().collect();
        // The kernel begins its lines anew; a row before it that is full is one by chance.
        if matches!(stamp(&row), Ok(Some(_))) && !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(row.trim_end());
        if row.ends_with(' ') {
            text.push('\n');
        }
    }
    unmixed(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "(taproot) # [   12.345678] usb 1-1: New USB device found\nshell\nThe shell is on /dev/tty1\n";

    #[test]
    fn stamps() {
        for (text, wanted) in [
            ("[    0.000000] Linux", Ok(Some(15))),
            ("[12345.678901] x", Ok(Some(15))),
            ("[ 1234567.678901] x", Ok(Some(18))),
            ("[rootfs ~]# ", Ok(None)),
            ("[ OK ] Started", Ok(None)),
            ("[    1.5] x", Ok(None)),
            ("[    1.123456]x", Ok(None)),
            ("[    1.1234", Err(())),
            ("[", Err(())),
            ("[    1.123456]", Err(())),
            ("[    1.123456] ", Ok(Some(15))),
        ] {
            assert_eq!(stamp(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_line_with_a_message_in_between_is_found() {
        let hit = find(MIXED, 0, "(taproot) # shell").unwrap();
        assert_eq!(hit.start, 0);
        assert_eq!(&MIXED[hit.end..], "\nThe shell is on /dev/tty1\n");
        // The message itself is found as well, and what follows it.
        let hit = find(MIXED, 0, "New USB device").unwrap();
        assert!(find(MIXED, hit.end, "New USB").is_none());
        assert_eq!(find(MIXED, hit.end, "shell").unwrap().start, MIXED.find("shell").unwrap());
    }

    #[test]
    fn what_comes_first_is_found_first() {
        let text = "a[    1.000000] ab x\nb ab\n";
        assert_eq!(find(text, 0, "ab"), Some(0..text.find("b ab").unwrap() + 1));
        assert_eq!(find(text, 1, "ab"), Some(16..18));
        assert_eq!(find("ab", 0, "ab"), Some(0..2));
        assert_eq!(find("ab", 0, "ba"), None);
    }

    /// A search that begins in a message of the kernel does not take the rest of it for somebody's line.
    #[test]
    fn a_search_from_within_a_message() {
        let text = "pro[    1.000000] zfs: OpenZFS v2.3\nmpt\n";
        let from = text.find(" v2.3").unwrap();
        assert_eq!(find(text, from, "v2.3\nm"), Some(from + 1..text.find("pt\n").unwrap()), "as it is shown");
        assert_eq!(find(text, from, "prompt"), None, "its beginning lies before");
        assert_eq!(find(text, 0, "prompt").unwrap().end, text.len() - 1);
    }

    /// Part of a message never passes for the line that it interrupts.
    #[test]
    fn an_unfinished_message_is_waited_for() {
        let whole = "Pass[   12.345678] hid: ready\nphrase for x: ";
        for cut in 0..=whole.len() {
            let found = find(&whole[..cut], 0, "Passphrase for x: ").is_some();
            assert_eq!(found, cut == whole.len(), "{:?}", &whole[..cut]);
        }
    }

    #[test]
    fn two_messages_and_characters_of_several_bytes() {
        let text = "Gr\u{fc}[    1.000000] a\n[    1.000001] b\u{df}\n\u{df}e\n";
        let hit = find(text, 0, "Gr\u{fc}\u{df}e").unwrap();
        assert_eq!(&text[hit.end..], "\n");
        assert_eq!(unmixed(text), "Gr\u{fc}\u{df}e\n[    1.000000] a\n[    1.000001] b\u{df}\n");
    }

    /// As it was seen: the keyboard's message came between the prompt and what was typed there.
    #[test]
    fn a_screen_with_a_message_in_between() {
        let rows = [
            "  10  poweroff",
            "(taproot) # [   33.104242] input: QEMU QEMU USB Keyboard as /devices/pci0000:00/",
            "0000:00:04.0/usb1/1-1/input/input2",
            "shell",
            "The shell is on /dev/tty1",
            "(shell) # cat /dev/vcs1",
        ];
        let dump = rows.map(|row| format!("{row:<80}")).concat();
        assert_eq!(dump.chars().count(), 80 * rows.len());
        let seen = screen(&dump, 80);
        for part in [
            "poweroff\n",
            "(taproot) # shell\n",
            "The shell is on /dev/tty1",
            "(shell) # cat /dev/vcs1",
            "usb1/1-1/input/input2",
        ] {
            assert!(seen.contains(part), "{part:?} is not in\n{seen}");
        }
    }
}
