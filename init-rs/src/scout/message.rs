//! What PID 1 and the scout say to each other: one datagram a message, in an encoding of their own.
//!
//! A byte says which message, the rest are its fields in order: numbers in little-endian order, flags as one byte, texts and
//! bytes behind their length (4 bytes), lists behind their count. A ZFS label travels packed as on the disk, so that it is
//! never longer there than here. Both sides are the same program, so there is no version; but what the scout says comes
//! from a process that reads foreign disks, and decoding is total: no length is believed before the bytes are there.

#[cfg(test)]
mod tests;
mod wire;

use crate::devices::known::{Device, Module};
use crate::report::log::Level;
use std::io;
use std::time::Duration;
use wire::{Reader, Writer};

pub use wire::Malformed;

/// Longest piece of a device that is sent at once.
pub const PEEK_MAX: usize = 64 << 10;
/// Longest text of a line, a name or an error.
const TEXT_MAX: usize = 4096;
/// Most modaliases that are told, and most bytes of them.
const UNDRIVEN_MAX: usize = 1024;
const UNDRIVEN_BYTES: usize = 128 << 10;

/// What the scout says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A device that is new, or of which something else is known now.
    Device(Box<Device>),
    /// The device of this name is gone.
    Gone(String),
    /// How far a module is.
    Module {
        /// Name, `_` for `-`.
        name: String,
        /// How far.
        state: Module,
        /// How long its insertion took; `None` if it has not ended, or was there before.
        took: Option<Duration>,
    },
    /// Whether drivers and devices are at rest.
    Settled {
        /// See [`crate::devices::known::Hardware::settled`].
        settled: bool,
        /// See [`crate::devices::known::Hardware::inserting`].
        inserting: bool,
    },
    /// The answer to [`Command::Undriven`]: modaliases.
    Undriven(Vec<String>),
    /// A line for the log.
    Log {
        /// How much it matters.
        level: Level,
        /// What happened.
        text: String,
    },
    /// The answer to [`Command::Peek`].
    Peeked {
        /// Of the command.
        id: u64,
        /// The bytes.
        result: Result<Vec<u8>, Refused>,
    },
    /// The answer to [`Command::DiscardImage`].
    Discarded {
        /// Of the command.
        id: u64,
        /// Whether there was an image.
        result: Result<bool, Refused>,
    },
}

/// What PID 1 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Load this module, and what it needs.
    Load(String),
    /// Read this device (the kernel's name) again.
    Reread(String),
    /// Read a piece of a device.
    Peek {
        /// Stands in the answer.
        id: u64,
        /// The device's node.
        node: String,
        /// Bytes from its beginning.
        offset: u64,
        /// Bytes, at most [`PEEK_MAX`].
        len: u32,
    },
    /// Make plain swap space of a page that begins a hibernation image, and see that it is on the disk.
    DiscardImage {
        /// Stands in the answer.
        id: u64,
        /// The device's node.
        node: String,
        /// Bytes from its beginning to the page.
        offset: u64,
        /// Bytes of the page.
        page: u32,
    },
    /// Which devices have no driver?
    Undriven,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The errno, 0 for none.
    pub errno: i32,
    /// In words.
    pub text: String,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), text: error.to_string() }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        match refused.errno {
            0 => Self::other(refused.text),
            errno => Self::from_raw_os_error(errno),
        }
    }
}

impl Message {
    /// The datagram; what would make it too long is cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Device(device) => {
                w.u8(1);
                wire::put_device(&mut w, device);
            }
            Self::Gone(name) => {
                w.u8(2);
                w.text(name, TEXT_MAX);
            }
            Self::Module { name, state, took } => {
                w.u8(3);
                w.text(name, TEXT_MAX);
                wire::put_module(&mut w, state);
                w.option(took.as_ref(), |w, took| w.duration(*took));
            }
            Self::Settled { settled, inserting } => {
                w.u8(4);
                w.flag(*settled);
                w.flag(*inserting);
            }
            Self::Undriven(list) => {
                w.u8(5);
                let mut bytes = 0;
                let fits = list.iter().take(UNDRIVEN_MAX).take_while(|modalias| {
                    bytes += modalias.len().min(TEXT_MAX) + 4;
                    bytes <= UNDRIVEN_BYTES
                });
                let fits: Vec<&String> = fits.collect();
                w.count(fits.len());
                for modalias in fits {
                    w.text(modalias, TEXT_MAX);
                }
            }
            Self::Log { level, text } => {
                w.u8(6);
                w.u8(*level as u8);
                w.text(text, TEXT_MAX);
            }
            Self::Peeked { id, result } => {
                w.u8(7);
                w.u64(*id);
                w.result(result, |w, bytes| w.bytes(bytes.get(..PEEK_MAX).unwrap_or(bytes)));
            }
            Self::Discarded { id, result } => {
                w.u8(8);
                w.u64(*id);
                w.result(result, |w, was| w.flag(*was));
            }
        }
        w.done()
    }

    /// Reads a datagram.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            1 => Self::Device(Box::new(wire::device(&mut r)?)),
            2 => Self::Gone(r.text()?),
            3 => Self::Module { name: r.text()?, state: wire::module(&mut r)?, took: r.option(Reader::duration)? },
            4 => Self::Settled { settled: r.flag()?, inserting: r.flag()? },
            5 => Self::Undriven(r.list(4, Reader::text)?),
            6 => Self::Log { level: level(r.u8()?)?, text: r.text()? },
            7 => Self::Peeked { id: r.u64()?, result: r.result(Reader::bytes)? },
            8 => Self::Discarded { id: r.u64()?, result: r.result(Reader::flag)? },
            other => return Err(Malformed::Kind(other)),
        };
        r.end()?;
        Ok(message)
    }
}

impl Command {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Load(module) => {
                w.u8(1);
                w.text(module, TEXT_MAX);
            }
            Self::Reread(name) => {
                w.u8(2);
                w.text(name, TEXT_MAX);
            }
            Self::Peek { id, node, offset, len } => {
                w.u8(3);
                w.u64(*id);
                w.text(node, TEXT_MAX);
                w.u64(*offset);
                w.u32(*len);
            }
            Self::DiscardImage { id, node, offset, page } => {
                w.u8(4);
                w.u64(*id);
                w.text(node, TEXT_MAX);
                w.u64(*offset);
                w.u32(*page);
            }
            Self::Undriven => w.u8(5),
        }
        w.done()
    }

    /// Reads a datagram.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let command = match r.u8()? {
            1 => Self::Load(r.text()?),
            2 => Self::Reread(r.text()?),
            3 => Self::Peek { id: r.u64()?, node: r.text()?, offset: r.u64()?, len: r.u32()? },
            4 => Self::DiscardImage { id: r.u64()?, node: r.text()?, offset: r.u64()?, page: r.u32()? },
            5 => Self::Undriven,
            other => return Err(Malformed::Kind(other)),
        };
        r.end()?;
        Ok(command)
    }
}

fn level(number: u8) -> Result<Level, Malformed> {
    [Level::Error, Level::Warn, Level::Info, Level::Debug]
        .into_iter()
        .find(|level| *level as u8 == number)
        .ok_or(Malformed::Value("level", number))
}
