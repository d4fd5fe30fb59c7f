//! Variables of UEFI firmware, as files of efivarfs (`filesystems/efivarfs.rst`).

use crate::sys::System;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file system, and of its module.
pub const EFIVARFS: &str = "efivarfs";
/// There on machines that were started by UEFI firmware.
const FIRMWARE: &str = "/sys/firmware/efi";
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Before the data of each variable; non-volatile, for boot services and at run time (UEFI specification, 8.2 "Variable
/// Services").
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
/// More than any variable that is read here.
const LONGEST: usize = 64 << 10;

/// Whether this machine can have such variables.
pub fn present(system: &dyn System) -> bool {
    system.exists(Path::new(FIRMWARE))
}

/// The variables while they can be seen. A name is the variable's, `-`, and the vendor's GUID.
pub struct Variables<'a> {
    system: &'a dyn System,
    /// Whether the file system was mounted for this.
    mounted: bool,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("mounted", &self.mounted).finish_non_exhaustive()
    }
}

impl<'a> Variables<'a> {
    /// Mounts the file system unless it is mounted already. Its module must be there.
    pub fn open(system: &'a dyn System) -> io::Result<Self> {
        let nothing = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        match system.mount(EFIVARFS, Path::new(VARIABLES), EFIVARFS, nothing, "") {
            Ok(()) => Ok(Self { system, mounted: true }),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(Self { system, mounted: false }),
            Err(e) => Err(e),
        }
    }

    /// The data of a variable; `None` if there is no such variable.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.system.read(&file(name), LONGEST) {
            Ok(bytes) => Ok(Some(bytes.get(ATTRIBUTES.len()..).unwrap_or_default().to_vec())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Stores a variable. The kernel makes variables that it does not know immutable, against `rm -rf`.
    pub fn write(&self, name: &str, data: &[u8]) -> io::Result<()> {
        self.system.make_mutable(&file(name))?;
        // One write is one SetVariable.
        self.system.write(&file(name), &[&ATTRIBUTES, data].concat())
    }

    /// Removes a variable, if it is there; says whether it was.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let file = file(name);
        if !self.system.exists(&file) {
            return Ok(false);
        }
        self.system.make_mutable(&file)?;
        self.system.remove(&file).map(|()| true)
    }
}

impl Drop for Variables<'_> {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.system.unmount(Path::new(VARIABLES), true);
        }
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(VARIABLES).join(name)
}
