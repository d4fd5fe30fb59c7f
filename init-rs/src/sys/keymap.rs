//! The keymap of the kernel's own terminals, the screens: `ioctl_console(2)`, `drivers/tty/vt/keyboard.c`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Most combinations that the kernel keeps (`MAX_DIACR`).
pub const COMPOSE_MAX: usize = 256;

/// What keys do, as the kernel takes it in Unicode mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keymap {
    /// Actions, by the sum of the held modifiers' weights (shift 1, `AltGr` 2, control 4, alt 8, ...) and by the key's code. What
    /// is not named stays as it is.
    pub tables: BTreeMap<u8, BTreeMap<u8, u16>>,
    /// Whether the kernel's other tables go.
    pub complete: bool,
    /// Accent, letter and what they make, for dead keys and Compose. None: the kernel's own stay.
    pub compose: Vec<[char; 3]>,
}

const KDGKBMODE: libc::Ioctl = 0x4b44;
const KDSKBMODE: libc::Ioctl = 0x4b45;
const KDSKBENT: libc::Ioctl = 0x4b47;
const KDSKBDIACRUC: libc::Ioctl = 0x4bfb;
/// Keys give UTF-8.
const K_UNICODE: libc::c_int = 3;
/// For key 0: the table goes.
const K_NOSUCHMAP: u16 = 0x27f;

/// `struct kbentry`.
#[repr(C)]
struct Entry {
    table: u8,
    index: u8,
    value: u16,
}

/// `struct kbdiacrsuc`.
#[repr(C)]
struct Compose {
    count: u32,
    entries: [[u32; 3]; COMPOSE_MAX],
}

fn call<T>(file: &File, number: libc::Ioctl, argument: *mut T) -> io::Result<()> {
    // SAFETY: each caller passes a live object of the type that the ioctl reads or writes; the kernel keeps no pointer to it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mode(file: &File) -> io::Result<libc::c_int> {
    let mut mode = 0;
    call(file, KDGKBMODE, &raw mut mode)?;
    Ok(mode)
}

/// Whether a terminal is a screen of the kernel's, with the keyboard.
pub(super) fn is_screen(file: &File) -> bool {
    mode(file).is_ok()
}

/// Loads a keymap. The kernel has one for all screens; whether keys give UTF-8 is said of each.
pub(super) fn load(screens: &[&File], keymap: &Keymap) -> io::Result<()> {
    let first = screens.first().ok_or(io::ErrorKind::NotFound)?;
    for screen in screens {
        if mode(screen)? != K_UNICODE {
            // SAFETY: this ioctl takes a number, no pointer.
            if unsafe { libc::ioctl(screen.as_raw_fd(), KDSKBMODE, K_UNICODE) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    let set = |table: u8, index: u8, value: u16| {
        let mut entry = Entry { table, index, value };
        call(first, KDSKBENT, &raw mut entry)
    };
    // Without the table of no modifier there is no keyboard.
    for table in (1..=u8::MAX).filter(|table| keymap.complete && !keymap.tables.contains_key(table)) {
        set(table, 0, K_NOSUCHMAP)?;
    }
    for (table, keys) in &keymap.tables {
        for (index, value) in keys {
            match set(*table, *index, *value) {
                // An action that this kernel does not know: the key stays as it is.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                other => other?,
            }
        }
    }
    if keymap.compose.is_empty() {
        return Ok(());
    }
    let mut compose = Compose { count: 0, entries: [[0; 3]; COMPOSE_MAX] };
    for (entry, chars) in compose.entries.iter_mut().zip(&keymap.compose) {
        *entry = chars.map(u32::from);
        compose.count += 1;
    }
    call(first, KDSKBDIACRUC, &raw mut compose)
}
