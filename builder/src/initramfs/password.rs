//! The rescue password: hashed when packing, so that the image does not hold it.

use super::tree::Tree;
use crate::settings::Named;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Read;
use taproot_init::rescue::lock::PasswordHash;

/// A salt of the recommended length (RFC 9106, 3.1).
const SALT: usize = 16;
/// Shorter ones are refused: the hash can be tried offline by whoever reads the image.
const SHORTEST: usize = 8;
/// Bytes of the file.
const LONGEST: u64 = 64 << 10;

/// The hash for the image: the one that the file holds, or that of the password in its first line, with a new salt.
pub fn read(path: &Named, tree: &Tree) -> Result<String> {
    let shown = path.shown(tree);
    let shown = shown.display();
    let text = path.read(tree, LONGEST).with_context(|| format!("--rescue-password-file {shown}"))?;
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"$argon2") {
        let hash = PasswordHash::parse(&String::from_utf8_lossy(line));
        return Ok(hash.map_err(|e| anyhow::anyhow!("--rescue-password-file {shown}: {e}"))?.render());
    }
    if line.len() < SHORTEST {
        bail!("--rescue-password-file {shown}: expected a password of at least {SHORTEST} bytes in the first line");
    }
    let mut salt = [0; SALT];
    fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut salt)).context("/dev/urandom")?;
    let hash = PasswordHash::new(line, &salt).map_err(|e| anyhow::anyhow!("hashing the rescue password: {e}"))?;
    Ok(hash.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hashed_and_hashes_kept() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let read = |path: &std::path::Path| read(&Named::Here(path.to_owned()), &tree);
        let path = dir.path().join("password");
        fs::write(&path, "correct horse\r\nsecond line").unwrap();
        let (first, second) = (read(&path).unwrap(), read(&path).unwrap());
        assert_ne!(first, second, "the salt is new");
        assert_eq!(PasswordHash::parse(&first).unwrap().matches(b"correct horse"), Ok(true));
        fs::write(&path, format!("{first}\n")).unwrap();
        assert_eq!(read(&path).unwrap(), first, "a hash gives the same image each time");
        for wrong in
            ["", "short\n", "$argon2id$v=19$m=1,t=1,p=1$x$y", "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$aGFzaA"]
        {
            fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_err(), "{wrong:?}");
        }
        assert!(read(std::path::Path::new("/nonexistent")).is_err());
    }
}
