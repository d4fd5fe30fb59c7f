use super::*;
use std::path::PathBuf;
use taproot_init::devices::verity::{Digest, Superblock, root_hash};
use taproot_init::plan::layerlist::{LayerList, ListError, PublicKey};

/// A squashfs by its superblock alone, whose image is so long, and which is padded to `padded`.
fn image(dir: &Path, name: &str, used: u64, padded: usize) -> PathBuf {
    let mut bytes: Vec<u8> = (0..padded).map(|i| (i.wrapping_mul(7) ^ (i >> 8)).to_le_bytes()[0]).collect();
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[40..48].copy_from_slice(&used.to_le_bytes());
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn said(result: Result<impl std::fmt::Debug>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// 200 blocks of data: two levels.
const USED: u64 = 200 * 4096 - 100;
const PADDED: usize = 200 * 4096;

#[test]
fn a_tree_beside_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), "debian_13.1.sqsh", USED, PADDED);
    let before = fs::read(&path).unwrap();
    let sealed = seal(&path, Place::Beside, b"").unwrap();
    assert_eq!(fs::read(&path).unwrap(), before, "the image stays as it is");
    assert_eq!((sealed.place, sealed.data_bytes), (Place::Beside, PADDED as u64));
    let tree = dir.path().join("debian_13.1.verity");
    assert_eq!(fs::metadata(&tree).unwrap().len(), 4096 * (1 + 1 + 2));
    let hash = fs::read_to_string(dir.path().join("debian_13.1.roothash")).unwrap();
    assert_eq!(root_hash(&hash), Ok(sealed.root));
    assert_eq!(check(&path, sealed.root).unwrap(), sealed);
    assert_eq!(check(&path, None).unwrap(), sealed);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing temporary is left");
    // The same again, and again the same.
    let first = fs::read(&tree).unwrap();
    assert_eq!(seal(&path, Place::Beside, b"").unwrap(), sealed);
    assert_eq!(fs::read(&tree).unwrap(), first);
    assert_ne!(seal(&path, Place::Beside, b"salt").unwrap().root, sealed.root);
}

#[test]
fn a_tree_at_the_end_of_an_image() {
    let dir = tempfile::tempdir().unwrap();
    // Made with -nopad, and with a name that is no image's.
    let path = image(dir.path(), "base.2026", USED, PADDED - 100);
    assert!(said(seal(&path, Place::Beside, b"")).contains("-nopad"));
    let sealed = seal(&path, Place::Appended, b"salt").unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), PADDED + 4096 * (1 + 1 + 2));
    let superblock = Superblock::parse(&bytes[PADDED..]).unwrap();
    assert_eq!((superblock.format.salt(), superblock.format.data_bytes()), (b"salt".as_slice(), PADDED as u64));
    assert_eq!(superblock.uuid[..6], sealed.root.bytes()[..6]);
    assert_eq!((superblock.uuid[6] >> 4, superblock.uuid[8] >> 6), (8, 2));
    assert_eq!(root_hash(&fs::read_to_string(dir.path().join("base.2026.roothash")).unwrap()), Ok(sealed.root));
    assert_eq!(check(&path, sealed.root).unwrap(), sealed);
    // A padded image with the same content has the same tree.
    let mut padded = bytes[..PADDED].to_vec();
    fs::write(dir.path().join("p.img"), &padded).unwrap();
    assert_eq!(seal(&dir.path().join("p.img"), Place::Appended, b"salt").unwrap().root, sealed.root);
    assert_eq!(fs::read(dir.path().join("p.img")).unwrap(), bytes);
    assert!(said(seal(&path, Place::Appended, b"")).contains("sealed already"));
    padded.push(1);
    fs::write(dir.path().join("p.img"), &padded).unwrap();
    let error = said(seal(&dir.path().join("p.img"), Place::Appended, b""));
    assert!(error.contains("1 bytes;"), "{error}");
}

/// Every block of an image and of its tree counts.
#[test]
fn what_was_changed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for place in [Place::Beside, Place::Appended] {
        let path = image(dir.path(), "layer.sqsh", USED, PADDED);
        let _ = fs::remove_file(dir.path().join("layer.verity"));
        let sealed = seal(&path, place, b"").unwrap();
        let (tree, from) = match place {
            Place::Beside => (dir.path().join("layer.verity"), 0),
            Place::Appended => (path.clone(), PADDED),
        };
        for (at, file, expected) in [
            (100, &path, "expected the root hash"),
            (PADDED - 1, &path, "expected the root hash"),
            (from + 4096, &tree, "its tree is damaged"),
            (from + 3 * 4096 + 200, &tree, "its tree is damaged"),
            (from + 4 * 4096 - 1, &tree, "its tree is damaged"),
            (from, &tree, "found none; seal it"),
            (from + 72, &tree, "expected a tree over"),
            (from + 80, &tree, "expected the root hash"),
        ] {
            flip(file, at);
            let error = said(check(&path, sealed.root));
            assert!(error.contains(expected), "{place:?}, byte {at}: {error}");
            flip(file, at);
        }
        assert_eq!(check(&path, sealed.root).unwrap(), sealed);
        let other = Digest::new([7; 32]);
        assert!(said(check(&path, other)).contains(&format!("expected the root hash {other}")));
        let bytes = fs::read(&tree).unwrap();
        fs::write(&tree, &bytes[..bytes.len() - 1]).unwrap();
        assert!(said(check(&path, sealed.root)).contains("its tree is damaged"));
    }
    let path = image(dir.path(), "cut.sqsh", USED, PADDED - 4096);
    assert!(said(seal(&path, Place::Appended, b"")).contains("it was cut"));
    fs::write(&path, "no image").unwrap();
    assert!(said(seal(&path, Place::Appended, b"")).contains("squashfs or erofs"));
    assert!(said(check(&path, None)).contains("squashfs or erofs"));
}

#[test]
fn lists_are_signed_with_keys_of_our_own_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, public) = keygen(&dir.path().join("site.2026"), "site, 2026").unwrap();
    assert_eq!([&secret, &public], [&dir.path().join("site.2026.key"), &dir.path().join("site.2026.pub")]);
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(said(keygen(&dir.path().join("site.2026"), "")).contains("found one"));
    let key = SecretKey::read(&secret).unwrap();
    let known = PublicKey::parse(&fs::read_to_string(&public).unwrap()).unwrap();
    assert_eq!(key.public().unwrap(), known);
    assert!(fs::read_to_string(&public).unwrap().ends_with(" site, 2026\n"));

    let path = image(dir.path(), "base.sqsh", USED, PADDED);
    let sealed = seal(&path, Place::Beside, b"").unwrap();
    let (size, digest) = sum(&path, |_| ()).unwrap();
    let layer = |name: &str, size, seal| Layer { name: name.to_owned(), size, seal };
    let layers = vec![layer("base", size, Seal::Verity(sealed.root)), layer("same", size, Seal::Sha256(digest))];
    let list = LayerList { serial: 3, layers };
    let signed = key.sign(&list).unwrap();
    assert_eq!(LayerList::open(signed.as_bytes(), &[known], Some(3)).as_ref(), Ok(&list));
    let (other, _) = keygen(&dir.path().join("other"), "").unwrap();
    let other = SecretKey::read(&other).unwrap().public().unwrap();
    assert_eq!(LayerList::open(signed.as_bytes(), &[other], None), Err(ListError::Signature(1)));
    for layer in &list.layers {
        check_layer(layer, &path).unwrap();
        let shorter = Layer { size: size - 4096, ..layer.clone() };
        assert!(said(check_layer(&shorter, &path)).contains(&format!("expected {} bytes", size - 4096)));
    }
    flip(&path, 5000);
    assert!(said(check_layer(&list.layers[0], &path)).contains("root hash"));
    assert!(said(check_layer(&list.layers[1], &path)).contains("SHA-256"));
    let bad = LayerList { serial: 1, layers: vec![layer("a:b", 1, Seal::Sha256(digest))] };
    assert!(said(key.sign(&bad)).contains("cannot be in a name"));
}

#[test]
fn secret_keys_are_read_only_where_nobody_else_can() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, _) = keygen(&dir.path().join("k"), "").unwrap();
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        assert!(said(SecretKey::read(&secret)).contains("chmod 600"), "{mode:o}");
    }
    fs::set_permissions(&secret, Permissions::from_mode(0o400)).unwrap();
    assert!(!format!("{:?}", SecretKey::read(&secret).unwrap()).contains(char::is_numeric));
    fs::remove_file(&secret).unwrap();
    fs::write(&secret, "ed25519 0000\n").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    assert!(said(SecretKey::read(&secret)).contains("64 hexadecimal digits"));
}
