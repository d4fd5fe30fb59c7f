//! The line for `/` in the fstab of a root made of layers. It was written for the root that a layer was made from; an overlay takes
//! none of its options, and where mount(8) uses the new mount API the booted system's remount of `/` would fail. The file itself
//! is part of a layer and stays as it is: systemd's remount is given a copy without the line.

use super::prepare::runs_systemd;
use crate::plan::fstab;
use crate::sys::System;
use crate::sys::beneath::resolve;
use std::io;
use std::path::Path;

/// The copy.
const COPY: &str = "/run/taproot/fstab";
/// What makes systemd-remount-fs(8) read it.
const DROP_IN: &str = "/run/systemd/system/systemd-remount-fs.service.d/00-taproot.conf";
/// Bytes of an fstab that are read.
const FSTAB_MAX: usize = 16 << 20;

/// Leaves a copy of the root's fstab without its line for `/`, if it has one and the init is systemd; gives the files that were
/// made.
pub fn without_root_line(system: &dyn System, root: &Path, init: &str) -> io::Result<Vec<String>> {
    if !runs_systemd(system, root, init) {
        return Ok(Vec::new());
    }
    let text = match resolve(system, root, Path::new("/etc/fstab")).and_then(|path| system.read(&path, FSTAB_MAX)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let lines: Vec<usize> =
        fstab::parse(&text).into_iter().filter(|entry| entry.target == "/").map(|entry| entry.line).collect();
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let kept = text.split_inclusive(|byte| *byte == b'\n').zip(1..).filter(|(_, number)| !lines.contains(number));
    let copy: Vec<u8> = kept.flat_map(|(line, _)| line).copied().collect();
    let drop_in = format!(
        "# Written by taproot for this boot: the root is made of layers, and takes no options of the line for /.\n\
         [Service]\nEnvironment=SYSTEMD_FSTAB={COPY}\n"
    );
    for (path, bytes) in [(COPY, copy.as_slice()), (DROP_IN, drop_in.as_bytes())] {
        let path = Path::new(path);
        path.parent().map_or(Ok(()), |dir| system.make_dirs(dir))?;
        system.write(path, bytes)?;
    }
    Ok(vec![COPY.to_owned(), DROP_IN.to_owned()])
}
