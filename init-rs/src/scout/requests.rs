//! Pieces of devices that PID 1 asks for, each by a thread of its own.

use super::message::{Message, PEEK_MAX, Refused};
use super::reader::Open;
use crate::devices::swap::{Header, signature_without_image};
use std::io;
use std::path::Path;

/// Longest page that can begin a hibernation image.
const PAGE_MAX: usize = 64 << 10;
/// Shortest, which is that of x86.
const PAGE_MIN: usize = 4096;

/// Writes bytes to a device at an offset, and waits until it has them.
pub(super) type Write = dyn Fn(&Path, u64, &[u8]) -> io::Result<()> + Send + Sync;

/// Answers a [`Command::Peek`](super::message::Command::Peek).
pub(super) fn peek(open: &Open, id: u64, node: &Path, offset: u64, len: u32) -> Message {
    let result = piece(open, node, offset, usize::try_from(len).unwrap_or(usize::MAX));
    Message::Peeked { id, result: result.map_err(Refused::from) }
}

fn piece(open: &Open, node: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    if len > PEEK_MAX {
        return Err(io::Error::other(format!("expected at most {PEEK_MAX} bytes, {len} are asked for")));
    }
    let mut bytes = vec![0; len];
    open(node)?(offset, &mut bytes)?;
    Ok(bytes)
}

/// Answers a [`Command::DiscardImage`](super::message::Command::DiscardImage).
pub(super) fn discard(open: &Open, write: &Write, id: u64, node: &Path, offset: u64, page: u32) -> Message {
    Message::Discarded { id, result: restore(open, write, node, offset, page).map_err(Refused::from) }
}

/// Puts the signature of swap space back that the image has displaced; true if there was an image.
fn restore(open: &Open, write: &Write, node: &Path, offset: u64, page: u32) -> io::Result<bool> {
    let len = usize::try_from(page).unwrap_or(usize::MAX);
    if !(PAGE_MIN..=PAGE_MAX).contains(&len) {
        return Err(io::Error::other(format!("expected a page of {PAGE_MIN} to {PAGE_MAX} bytes, found {len}")));
    }
    let bytes = piece(open, node, offset, len)?;
    if Header::read(&bytes).image.is_none() {
        return Ok(false);
    }
    let signature = signature_without_image(&bytes);
    let at = offset.saturating_add((len - signature.len()) as u64);
    write(node, at, &signature)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scout::reader::of_this_system;
    use crate::sys::device::write_through;

    #[test]
    fn an_image_in_a_swap_file_is_discarded_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![7_u8; 3 * 4096];
        bytes[8192 - 20..8192].copy_from_slice(b"SWAPSPACE2S1SUSPEND\0");
        std::fs::write(file.path(), &bytes).unwrap();
        let open = of_this_system();
        let Message::Peeked { id: 5, result: Ok(page) } = peek(&*open, 5, file.path(), 4096, 4096) else { panic!() };
        assert_eq!(page, bytes[4096..8192]);
        let discard = || match discard(&*open, &write_through, 6, file.path(), 4096, 4096) {
            Message::Discarded { id: 6, result } => result,
            other => panic!("{other:?}"),
        };
        assert_eq!(discard(), Ok(true));
        bytes[8192 - 10..8192].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(std::fs::read(file.path()).unwrap(), bytes, "ten bytes are written, no others");
        assert_eq!(discard(), Ok(false));
    }

    #[test]
    fn what_cannot_be_done_says_why() {
        let open = of_this_system();
        let errno = |message| match message {
            Message::Peeked { result: Err(refused), .. } | Message::Discarded { result: Err(refused), .. } => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(errno(peek(&*open, 1, Path::new("/nonexistent"), 0, 512)).errno, libc::ENOENT);
        assert!(errno(peek(&*open, 1, Path::new("/dev/zero"), 0, 65537)).text.contains("65537"));
        let never = |_: &Path, _: u64, _: &[u8]| -> io::Result<()> { panic!("nothing is to be written") };
        for page in [0, 10, 4095, 65537, u32::MAX] {
            assert!(
                errno(discard(&*open, &never, 1, Path::new("/dev/zero"), 0, page)).text.contains("expected a page")
            );
        }
        // It ends before the page does.
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(errno(discard(&*open, &never, 1, file.path(), 0, 4096)).errno, 0);
    }
}
