//! Device-mapper devices of one target, by the ioctls of `include/uapi/linux/dm-ioctl.h` (version 4), without libdevmapper.
#![allow(unsafe_code)]

use super::Mapping;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// There once `dm_mod` is.
const CONTROL: &str = "/dev/mapper/control";
/// The interface that is asked for; every kernel since 2.6 has it.
const VERSION: [u32; 3] = [4, 0, 0];

/// `sizeof(struct dm_ioctl)`, behind which the target and its parameters stand.
const HEADER: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const TARGET: usize = 40;
/// Bytes of a name and a uuid with the NUL behind it, and of a target's type.
const NAME_LEN: usize = 128;
const UUID_LEN: usize = 129;
const TYPE_LEN: usize = 16;
/// More is told to no target.
const MAX_PARAMETERS: usize = 4096;

mod offset {
    pub(super) const DATA_SIZE: usize = 12;
    pub(super) const DATA_START: usize = 16;
    pub(super) const TARGET_COUNT: usize = 20;
    pub(super) const FLAGS: usize = 28;
    pub(super) const DEV: usize = 40;
    pub(super) const NAME: usize = 48;
    pub(super) const UUID: usize = 176;
    // Within the target.
    pub(super) const LENGTH: usize = 8;
    pub(super) const NEXT: usize = 20;
    pub(super) const TYPE: usize = 24;
}

/// Numbers of the calls, `_IOWR(0xfd, N, struct dm_ioctl)` without the rest.
mod call {
    pub(super) const DEV_CREATE: u64 = 3;
    pub(super) const DEV_REMOVE: u64 = 4;
    /// Which resumes too.
    pub(super) const DEV_SUSPEND: u64 = 6;
    pub(super) const TABLE_LOAD: u64 = 9;
    /// Read and write, so many bytes, of the device-mapper.
    pub(super) const REST: u64 = 3 << 30 | (super::HEADER as u64) << 16 | 0xfd << 8;
}

/// `DM_READONLY_FLAG`.
const READ_ONLY: u32 = 1;

/// For the node, which the kernel's own devtmpfs makes: it is there when the call returns, on every kernel looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(2);

/// A request: the header, and what stands behind it.
#[derive(Debug)]
struct Request(Vec<u64>);

impl Request {
    /// A request about the device of this name.
    fn new(name: &str, behind: usize) -> io::Result<Self> {
        let mut request = Self(vec![0; (HEADER + behind).div_ceil(8)]);
        let [size, start] = [8 * request.0.len(), HEADER].map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        for (at, number) in (0..).step_by(4).zip(VERSION) {
            request.put(at, &number.to_ne_bytes());
        }
        request.put(offset::DATA_SIZE, &size.to_ne_bytes());
        request.put(offset::DATA_START, &start.to_ne_bytes());
        request.text(offset::NAME, NAME_LEN, name)?;
        Ok(request)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            if let Some(word) = self.0.get_mut(at / 8) {
                let mut whole = word.to_ne_bytes();
                if let Some(slot) = whole.get_mut(at % 8) {
                    *slot = *byte;
                }
                *word = u64::from_ne_bytes(whole);
            }
        }
    }

    /// A text with the NUL that has room behind it.
    fn text(&mut self, at: usize, room: usize, text: &str) -> io::Result<()> {
        if text.is_empty() || text.len() >= room || text.contains(['\0', '/']) {
            let why = format!("expected a name of 1 to {} bytes without / and NUL, found {text:?}", room - 1);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.put(at, text.as_bytes());
        Ok(())
    }

    /// `dev` afterwards, in the kernel's encoding of 64 bits.
    fn device(&self) -> u64 {
        self.0.get(offset::DEV / 8).copied().unwrap_or_default()
    }

    fn send(&mut self, control: &File, number: u64) -> io::Result<()> {
        let request = call::REST | number;
        // SAFETY: the buffer is as long as the size in it says and lives across the call; the kernel writes within it.
        let result = unsafe { libc::ioctl(control.as_raw_fd(), request, self.0.as_mut_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn control() -> io::Result<File> {
    File::options().read(true).write(true).open(CONTROL).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            let why =
                format!("expected {CONTROL} of the module dm_mod, found nothing there; is the module in the image?");
            io::Error::new(io::ErrorKind::NotFound, why)
        }
        _ => error,
    })
}

/// The request that tells a device its table.
fn table(mapping: &Mapping) -> io::Result<Request> {
    let parameters = mapping.parameters.as_bytes();
    if parameters.len() >= MAX_PARAMETERS || parameters.contains(&0) {
        let why =
            format!("expected parameters of less than {MAX_PARAMETERS} bytes without NUL, found {}", parameters.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    // The NUL behind them.
    let behind = (TARGET + parameters.len() + 1).next_multiple_of(8);
    let mut request = Request::new(&mapping.name, behind)?;
    request.put(offset::FLAGS, &READ_ONLY.to_ne_bytes());
    request.put(offset::TARGET_COUNT, &1_u32.to_ne_bytes());
    request.put(HEADER + offset::LENGTH, &mapping.sectors.to_ne_bytes());
    request.put(HEADER + offset::NEXT, &u32::try_from(behind).unwrap_or(u32::MAX).to_ne_bytes());
    request.text(HEADER + offset::TYPE, TYPE_LEN, mapping.target)?;
    request.put(HEADER + TARGET, parameters);
    Ok(request)
}

pub(super) fn map(mapping: &Mapping) -> io::Result<PathBuf> {
    let mut table = table(mapping)?;
    let mut create = Request::new(&mapping.name, 0)?;
    create.text(offset::UUID, UUID_LEN, &mapping.uuid)?;
    create.put(offset::FLAGS, &READ_ONLY.to_ne_bytes());
    let control = control()?;
    create.send(&control, call::DEV_CREATE)?;
    let made = activate(&control, mapping, &mut table).and_then(|()| node(create.device()));
    if made.is_err() {
        // Half a device holds those below.
        let _ = unmap(&mapping.name);
    }
    made
}

fn activate(control: &File, mapping: &Mapping, table: &mut Request) -> io::Result<()> {
    table.send(control, call::TABLE_LOAD)?;
    let mut resume = Request::new(&mapping.name, 0)?;
    resume.put(offset::FLAGS, &READ_ONLY.to_ne_bytes());
    resume.send(control, call::DEV_SUSPEND)
}

pub(super) fn unmap(name: &str) -> io::Result<()> {
    Request::new(name, 0)?.send(&control()?, call::DEV_REMOVE)
}

/// The node of a device, once it is there.
fn node(device: u64) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!("/dev/dm-{}", libc::minor(device)));
    let start = Instant::now();
    while !is_node(&path, device) {
        if start.elapsed() > PATIENCE {
            let why = format!("expected the kernel to make {}, found nothing there", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(TURN);
    }
    Ok(path)
}

fn is_node(path: &Path, device: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device() && meta.rdev() == device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        Mapping {
            name: "taproot-base".to_owned(),
            uuid: "CRYPT-VERITY-0-taproot-base".to_owned(),
            target: "verity",
            sectors: 0x1_0000_0010,
            parameters: "1 7:0 7:1 -".to_owned(),
        }
    }

    /// Where `offsetof` of the kernel's header puts everything (gcc, x86-64).
    #[test]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(call::REST | call::DEV_CREATE, 0xc138_fd03);
        assert_eq!(call::REST | call::TABLE_LOAD, 0xc138_fd09);
        let request = table(&mapping()).unwrap();
        let bytes: Vec<u8> = request.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes.len(), 312 + 56);
        assert_eq!([number(0), number(4), number(8)], [4, 0, 0]);
        assert_eq!([number(12), number(16), number(20), number(28)], [368, 312, 1, 1]);
        assert_eq!(&bytes[48..61], b"taproot-base\0");
        assert_eq!(&bytes[312..320], 0_u64.to_ne_bytes());
        assert_eq!(&bytes[320..328], 0x1_0000_0010_u64.to_ne_bytes());
        assert_eq!(number(312 + 20), 56, "the next target would begin there");
        assert_eq!(&bytes[336..343], b"verity\0");
        assert_eq!(&bytes[352..], b"1 7:0 7:1 -\0\0\0\0\0");
    }

    #[test]
    fn what_has_no_room_is_refused_before_the_kernel_is_asked() {
        let long = |len: usize| "n".repeat(len);
        let cases: [(&str, Mapping); 6] = [
            ("127 bytes", Mapping { name: long(128), ..mapping() }),
            ("127 bytes", Mapping { name: String::new(), ..mapping() }),
            ("without /", Mapping { name: "a/b".to_owned(), ..mapping() }),
            ("128 bytes", Mapping { uuid: long(129), ..mapping() }),
            ("15 bytes", Mapping { target: "sixteen-letters-", ..mapping() }),
            ("4096 bytes", Mapping { parameters: long(4096), ..mapping() }),
        ];
        for (said, mapping) in cases {
            let error = map(&mapping).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(table(&Mapping { name: long(127), parameters: long(4095), ..mapping() }).is_ok());
        assert!(unmap("a\0b").is_err());
    }

    #[test]
    fn a_node_is_one_only_if_it_is_that_device() {
        assert!(!is_node(Path::new("/dev/null"), fs::metadata("/dev/null").unwrap().rdev()), "no block device");
        assert!(!is_node(Path::new("/nonexistent"), 0));
    }
}
