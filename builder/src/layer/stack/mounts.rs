//! The overlay that is the root, by `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`): which upper, which lowers, which options.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use taproot_init::layers::state::Flags;
use taproot_init::plan::layers::LAYERS;

/// An overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The directory that takes what is written; `None` of one that is read-only.
    pub upper: Option<PathBuf>,
    /// The topmost first.
    pub lowers: Vec<PathBuf>,
    /// Its other options; those that are as the kernel would have them anyway are not shown there.
    pub options: BTreeMap<String, String>,
}

/// Type of the file system and options of what is mounted at a directory: of several the last one.
pub fn mounted_at(mountinfo: &str, directory: &Path) -> Option<(String, String)> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let at = unescape(left.split(' ').nth(4)?);
        let mut right = right.split(' ');
        let kind = right.next()?.to_owned();
        let options = right.nth(1).unwrap_or_default().to_owned();
        Some((at, kind, options))
    };
    let found = mountinfo.lines().filter_map(parse).rfind(|(at, ..)| at == directory);
    found.map(|(_, kind, options)| (kind, options))
}

/// The overlay at a directory; the error is the type of what is there instead.
pub fn overlay_at(mountinfo: &str, directory: &Path) -> Result<Overlay, String> {
    let (kind, options) = mounted_at(mountinfo, directory).ok_or("nothing")?;
    if kind != "overlay" {
        return Err(kind);
    }
    let mut overlay = Overlay::default();
    for option in options.split(',') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            // Lowers that were given one by one are shown one by one (Linux 6.7).
            "lowerdir" => overlay.lowers.extend(value.split(':').map(lower)),
            "lowerdir+" => overlay.lowers.push(lower(value)),
            "upperdir" => overlay.upper = Some(unescape(value)),
            "workdir" | "rw" | "ro" => {}
            _ => {
                overlay.options.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    Ok(overlay)
}

/// Where a page had no room for whole paths, names stand alone.
fn lower(text: &str) -> PathBuf {
    Path::new(LAYERS).join(unescape(text))
}

/// Blanks, commas and the like stand as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *byte == b'\\');
        let number = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 8).ok());
        bytes.push(number.unwrap_or(*byte));
        rest = if number.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Options that decide how the upper is read. `default`: what the kernel does without a word, by the parameter's name
/// (`/sys/module/overlay/parameters`).
pub fn flags(overlay: &Overlay, default: impl Fn(&str) -> bool) -> Flags {
    let of = |name: &str, parameter: &str, on: &str| {
        let value = match overlay.options.get(name).map(String::as_str) {
            // It follows what others left, and leaves nothing itself.
            Some("follow") => "off",
            Some(shown) => shown,
            None if default(parameter) => on,
            None => "off",
        };
        (name.to_owned(), value.to_owned())
    };
    Flags(BTreeMap::from([
        of("index", "index", "on"),
        of("metacopy", "metacopy", "on"),
        of("redirect_dir", "redirect_dir", "on"),
        of("xino", "xino_auto", "auto"),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "30 1 0:29 / / rw,relatime shared:1 - overlay overlay \
        rw,lowerdir=/run/taproot/layers/site:/run/taproot/layers/base,upperdir=/run/taproot/base/upper/upper,workdir=/run/taproot/base/upper/work,xino=off\n";

    #[test]
    fn both_ways_to_show_lowers() {
        let old = overlay_at(OLD, Path::new("/")).unwrap();
        let new = OLD.replace(
            "lowerdir=/run/taproot/layers/site:/run/taproot/layers/base",
            "lowerdir+=/run/taproot/layers/site,lowerdir+=/run/taproot/layers/base",
        );
        assert_eq!(overlay_at(&new, Path::new("/")).unwrap(), old);
        let short = OLD.replace("/run/taproot/layers/site:/run/taproot/layers/base", "site:base");
        assert_eq!(overlay_at(&short, Path::new("/")).unwrap(), old);
        assert_eq!(old.upper.as_deref(), Some(Path::new("/run/taproot/base/upper/upper")));
        assert_eq!(old.lowers, ["/run/taproot/layers/site", "/run/taproot/layers/base"].map(PathBuf::from));
        let blank = OLD.replace("upper/upper", "my\\040upper/a\\054b");
        let upper = overlay_at(&blank, Path::new("/")).unwrap().upper.unwrap();
        assert_eq!(upper, Path::new("/run/taproot/base/my upper/a,b"));
    }

    #[test]
    fn the_last_mount_counts_and_must_be_an_overlay() {
        let plain = format!("{OLD}31 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        assert_eq!(overlay_at(&plain, Path::new("/")), Err("ext4".to_owned()));
        assert_eq!(overlay_at(OLD, Path::new("/srv")), Err("nothing".to_owned()));
    }

    #[test]
    fn what_is_not_shown_is_the_kernels_default() {
        let overlay = overlay_at(OLD, Path::new("/")).unwrap();
        assert_eq!(flags(&overlay, |_| false), Flags::portable());
        let on = flags(&overlay, |name| name == "redirect_dir");
        assert_eq!(on.hindrance().as_deref(), Some("redirect_dir=on"));
        let follow = overlay_at(&OLD.replace("xino=off", "redirect_dir=follow,index=on"), Path::new("/")).unwrap();
        assert_eq!(flags(&follow, |_| false).hindrance().as_deref(), Some("index=on"));
    }
}
