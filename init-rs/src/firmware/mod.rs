//! Variables of UEFI firmware, as files of efivarfs (`filesystems/efivarfs.rst`).

pub mod origin;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::{Machine, Tree};

    const NAME: &str = "X-1";

    #[test]
    fn data_stands_behind_the_attributes_and_the_mount_is_ours_to_undo() {
        let machine = Machine::new(Tree::new().with("/sys/firmware/efi/efivars/X-1", "\u{7}\0\0\0data"));
        assert!(present(&machine) && !present(&Machine::new(Tree::new())));
        let variables = Variables::open(&machine).unwrap();
        assert_eq!(variables.read(NAME).unwrap().as_deref(), Some(&b"data"[..]));
        assert_eq!(variables.read("Y-2").unwrap(), None);
        assert!(variables.remove(NAME).unwrap() && !variables.remove(NAME).unwrap());
        drop(variables);
        let mount = "mount efivarfs /sys/firmware/efi/efivars efivarfs 0xe";
        assert_eq!(machine.calls(), [mount, "unmount /sys/firmware/efi/efivars lazily"]);
    }

    #[test]
    fn what_is_mounted_already_stays_and_what_cannot_be_is_an_error() {
        let refusing = |errno| Machine { refusals: Box::new(move |_| Some(errno)), ..Machine::new(Tree::new()) };
        let busy = refusing(libc::EBUSY);
        drop(Variables::open(&busy).unwrap());
        assert_eq!(busy.calls().len(), 1, "no unmount");
        assert!(Variables::open(&refusing(libc::ENODEV)).is_err());
    }

    #[test]
    fn a_variable_is_stored_with_attributes() {
        // make_mutable needs a file system with such flags; one that is not there yet needs none.
        let tree = Tree::new().with("/sys/firmware/efi/efivars/other", "");
        let machine = Machine::new(tree);
        Variables::open(&machine).unwrap().write(NAME, &[3]).unwrap();
        assert_eq!(machine.tree.text("/sys/firmware/efi/efivars/X-1").as_bytes(), [7, 0, 0, 0, 3]);
    }
}
