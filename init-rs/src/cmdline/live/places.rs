//! How the words of live systems spell devices and paths.

use crate::devices::probe::Wanted;

/// A path below a file system's topmost directory, without a leading `/`. Blanks are as good as anything else.
pub(super) struct Path(pub(super) String);

impl Path {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let good = |part: &&str| *part != ".." && !part.contains(char::is_control);
        (!parts.is_empty() && parts.iter().all(good)).then(|| Self(parts.join("/")))
    }
}

/// `/dev/sda1/path/to.iso`, `/dev/disk/by-label/NAME/path`, `LABEL=NAME/path`, or a path alone.
pub(super) fn device_and_path(text: &str) -> Option<(Option<String>, Path)> {
    // The slash that ends the device.
    let parts: usize = match text.strip_prefix("/dev/") {
        Some(rest) if rest.starts_with("disk/") => 5,
        Some(rest) if rest.starts_with("mapper/") => 4,
        Some(_) => 3,
        None if Wanted::parse(text).is_some() => 1,
        None => return Some((None, Path::parse(text)?)),
    };
    let (at, _) = text.match_indices('/').nth(parts - 1)?;
    let (device, path) = text.split_at_checked(at)?;
    Wanted::parse(device)?;
    Some((Some(device.to_owned()), Path::parse(path)?))
}

/// What stands behind `root=live:`, as fstab spells it; else why it cannot be used.
pub(super) fn dracut_root(text: &str) -> Result<String, String> {
    if let Some(scheme) = text.split_once("://").map(|(scheme, _)| scheme) {
        return Err(format!(
            "no medium is fetched over a network ({scheme}); root=live:LABEL=NAME names one that is there"
        ));
    }
    let spec = match text.strip_prefix("CDLABEL=").or_else(|| text.strip_prefix("LABEL=")) {
        // As udev writes it in the name of a link.
        Some(label) if label.contains("\\x") => format!("/dev/disk/by-label/{label}"),
        Some(label) => format!("LABEL={label}"),
        None => text.to_owned(),
    };
    match Wanted::parse(&spec) {
        Some(_) => Ok(spec),
        None => Err(format!(
            "root=live:{text} names no device; expected root=live:LABEL=NAME, UUID=, PARTLABEL=, PARTUUID= or /dev/..."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_paths() {
        for (text, device, path) in [
            ("/dev/sda1/a b/c.iso", Some("/dev/sda1"), "a b/c.iso"),
            ("/dev/disk/by-label/MY\\x20DISK/c.iso", Some("/dev/disk/by-label/MY\\x20DISK"), "c.iso"),
            ("/dev/mapper/a-b/c.iso", Some("/dev/mapper/a-b"), "c.iso"),
            ("UUID=AB-CD/boot//c.iso", Some("UUID=AB-CD"), "boot/c.iso"),
            ("/isos/c.iso", None, "isos/c.iso"),
        ] {
            let (found, below) = device_and_path(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.as_deref(), below.0.as_str()), (device, path), "{text}");
        }
        for wrong in ["", "/", "/dev/sda1", "/dev/sda1/", "/dev/sda1/../x", "LABEL=x", "/a/../b"] {
            assert!(device_and_path(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn roots_of_dracut() {
        assert_eq!(dracut_root("CDLABEL=Fedora-41").as_deref(), Ok("LABEL=Fedora-41"));
        assert_eq!(dracut_root("LABEL=My\\x20Live").as_deref(), Ok("/dev/disk/by-label/My\\x20Live"));
        assert_eq!(dracut_root("/dev/sr0").as_deref(), Ok("/dev/sr0"));
        assert!(dracut_root("https://x/y.iso").unwrap_err().contains("over a network (https)"));
        assert!(dracut_root("x.iso").unwrap_err().contains("names no device"));
    }
}
