//! A look into a file system that may be a live medium, in a process of its own: a disk that stops to answer holds up that process
//! alone, and its mount is seen by nobody else.

use crate::devices::filesystems::without_replay;
use crate::devices::known::Superblock;
use crate::devices::probe::superblock;
use crate::plan::live::{Sight, Sought};
use crate::sys::beneath::resolve;
use crate::sys::{FileKind, Program, System};
use std::io;
use std::path::Path;

/// The first argument of such a process.
pub const LOOK: &str = "look";
/// Where it mounts what it looks into.
const PLACE: &str = "/run/taproot/look";
/// At most so many names are told.
const NAMES_MAX: usize = 4096;

/// The program that looks.
pub(super) fn program(system: &dyn System, node: &str, fstype: &str, sought: &Sought) -> Program {
    let args = [LOOK, node, fstype, &sought.dir, &sought.marker, &sought.iso].map(str::to_owned).into();
    Program { path: system.own_program(), args, ..Program::default() }
}

/// Looks; `args`: what follows the program's first argument. Gives what is to be printed.
pub fn look(system: &dyn System, args: &[String]) -> String {
    let [node, fstype, dir, marker, iso] = args else { return "error it was called wrongly".to_owned() };
    let sought = Sought { dir: dir.clone(), marker: marker.clone(), iso: iso.clone() };
    let place = Path::new(PLACE);
    let flags = libc::MS_RDONLY | libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOEXEC;
    let mounted = system
        .own_mounts()
        .and_then(|()| system.make_dirs(place))
        .and_then(|()| system.mount(node, place, fstype, flags, without_replay(fstype)));
    if let Err(e) = mounted {
        return format!("error it could not be mounted as {fstype}: {e}");
    }
    let seen = see(system, place, &sought);
    let _ = system.unmount(place, false);
    match seen {
        Ok(sight) => sight.to_text(),
        Err(e) => format!("error it could not be read: {e}"),
    }
}

fn see(system: &dyn System, root: &Path, sought: &Sought) -> io::Result<Sight> {
    let at = |path: &str| resolve(system, root, &Path::new("/").join(path));
    let mut sight = Sight::default();
    if !sought.dir.is_empty() {
        sight.names = match system.list(&at(&sought.dir)?) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
            names => names?,
        };
        sight.names.truncate(NAMES_MAX);
    }
    sight.marker = !sought.marker.is_empty() && system.exists(&at(&sought.marker)?);
    if !sought.iso.is_empty() {
        sight.iso = iso(system, &at(&sought.iso)?);
    }
    Ok(sight)
}

/// What a file with a file system says of itself; `None` if there is no such file.
fn iso(system: &dyn System, path: &Path) -> Option<(u64, Option<Superblock>)> {
    let info = system.stat(path).ok().filter(|info| info.kind == FileKind::File)?;
    let mut read = |offset: u64, buf: &mut [u8]| match system.read_at(path, offset, buf)? {
        len if len == buf.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    // One that is too short to hold anything holds nothing.
    let found = superblock(&mut read, info.size).unwrap_or_default();
    Some((info.size, found.map(Into::into)))
}
