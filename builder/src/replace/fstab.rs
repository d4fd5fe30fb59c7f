//! What fstab says of a disk's partitions, and what it is to say of those of another one.

use crate::image::system::{ESP_REST, SWAP_REST};
use std::path::Path;

/// Device and place of a line; `None`: it is a comment, or none.
fn fields(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split_whitespace();
    let first = fields.next().filter(|word| !word.starts_with('#'))?;
    Some((first, fields.next()?))
}

/// The UUID of what is mounted at a directory.
pub(super) fn uuid_at<'a>(text: &'a str, at: &Path) -> Option<&'a str> {
    let mut here = text.lines().filter_map(fields).filter(|(_, place)| Path::new(place) == at);
    here.next()?.0.strip_prefix("UUID=")
}

/// UUIDs of swap areas.
pub(super) fn swaps(text: &str) -> impl Iterator<Item = &str> {
    let swap = |line| fields(line).filter(|(_, place)| matches!(*place, "none" | "swap"));
    text.lines().filter_map(swap).filter_map(|(device, _)| device.strip_prefix("UUID="))
}

/// A text with another device in the line that says `old`, or with a line more.
fn put(text: &str, old: Option<&str>, new: &str, rest: &str) -> String {
    let device = old.map(|old| format!("UUID={old}"));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line =
        lines.iter_mut().find(|line| device.is_some() && fields(line).map(|(found, _)| found) == device.as_deref());
    match (line, device) {
        (Some(line), Some(device)) => *line = line.replacen(&device, &format!("UUID={new}"), 1),
        _ => lines.push(format!("UUID={new} {rest}")),
    }
    lines.join("\n") + "\n"
}

/// What it is to say of the boot loader's partition that is mounted there.
pub(super) fn with_esp(text: &str, at: &Path, serial: &str) -> String {
    put(text, uuid_at(text, at), serial, &format!("{} {ESP_REST}", at.display()))
}

/// What it is to say of swap, in the place of one that is gone.
pub(super) fn with_swap(text: &str, gone: Option<&str>, uuid: &str) -> String {
    put(text, gone, uuid, SWAP_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# UUID=B /efi2 vfat\nUUID=A /efi vfat umask=0077,nofail 0 2\nUUID=s1 none swap sw 0 0\n\
                        UUID=B\t/efi2 vfat noatime 0 2\nUUID=s2 none swap pri=5 0 0\n/dev/sr0 /media auto noauto\n";

    #[test]
    fn lines_of_the_disk_that_is_gone_name_the_new_one() {
        assert_eq!(uuid_at(TEXT, Path::new("/efi2")), Some("B"));
        assert_eq!(uuid_at(TEXT, Path::new("/media")), None);
        assert_eq!(swaps(TEXT).collect::<Vec<_>>(), ["s1", "s2"]);
        let new = with_swap(&with_esp(TEXT, Path::new("/efi2"), "C"), Some("s2"), "s3");
        assert_eq!(new, TEXT.replace("UUID=B\t", "UUID=C\t").replace("UUID=s2", "UUID=s3"));
    }

    #[test]
    fn what_was_not_there_is_a_line_more() {
        let new = with_swap(&with_esp(TEXT, Path::new("/efi3"), "C"), None, "s3");
        let more = "UUID=C /efi3 vfat umask=0077,nofail 0 2\nUUID=s3 none swap sw,nofail 0 0\n";
        assert_eq!(new, format!("{TEXT}{more}"));
    }
}
