use super::*;
use crate::made::tar::{Made, archive};
use crate::tar::{Archive, Kind, write};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use taproot_init::hex::hex;

/// Writes a part; gives its sum.
fn blob(layout: &Path, bytes: &[u8]) -> String {
    let sum = hex(&Sha256::digest(bytes));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::write(layout.join("blobs/sha256").join(&sum), bytes).unwrap();
    format!("sha256:{sum}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn image(layout: &Path, layers: &[Vec<Made>]) -> String {
    let mut list = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let plain = archive(layer);
        let (bytes, word) = match number % 3 {
            0 => (gzip(&plain), "+gzip"),
            1 => (zstd::encode_all(plain.as_slice(), 1).unwrap(), "+zstd"),
            _ => (plain, ""),
        };
        let digest = blob(layout, &bytes);
        list.push(serde_json::json!({"mediaType": format!("application/vnd.oci.image.layer.v1.tar{word}"), "digest": digest, "size": bytes.len()}));
    }
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": list});
    blob(layout, manifest.to_string().as_bytes())
}

fn index(layout: &Path, manifests: &[serde_json::Value]) {
    fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    fs::write(layout.join("index.json"), serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string())
        .unwrap();
}

fn manifest(digest: &str, arch: &str, tag: &str) -> serde_json::Value {
    serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
        "platform": {"os": "linux", "architecture": arch}, "annotations": {REFERENCE: tag},
    })
}

/// What came out: of files their content, of others a word.
fn read(path: &Path, tag: Option<&str>, platform: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut archive = Archive::new(BufReader::new(stream(path, tag, platform)?));
    while let Some(entry) = archive.next_entry()? {
        let mut content = vec![0; usize::try_from(write::stored(&entry)).unwrap()];
        archive.read(&mut content)?;
        let path = String::from_utf8(entry.path).unwrap().trim_end_matches('/').to_owned();
        let said = match entry.kind {
            Kind::Directory => format!("directory {:o}", entry.mode),
            Kind::HardLink => format!("= {}", String::from_utf8(entry.target).unwrap()),
            _ => String::from_utf8(content).unwrap(),
        };
        assert!(all.insert(path.clone(), said).is_none(), "{path} is there twice");
    }
    super::super::Tarball::finish(Box::new(archive.into_inner().into_inner()))?;
    Ok(all)
}

fn dir(path: &str) -> Made {
    Made::new(path, b'5')
}

fn hard(path: &str, target: &str) -> Made {
    Made { target: target.into(), ..Made::new(path, b'1') }
}

fn layers() -> Vec<Vec<Made>> {
    let file = |path: &str, text: &str| Made::file(path, text);
    vec![
        vec![
            dir("etc/"),
            file("etc/a", "a0"),
            file("etc/b", "b0"),
            dir("opt/"),
            dir("opt/old/"),
            file("opt/old/x", "x0"),
            dir("var/"),
            file("var/gone", "g"),
            dir("lib/"),
            file("lib/one", "inode"),
            hard("lib/two", "lib/one"),
            hard("lib/three", "lib/one"),
            dir("turn/"),
            file("turn/x", "t"),
        ],
        vec![
            Made { mode: 0o700, ..dir("etc/") },
            file("etc/a", "a1"),
            file("etc/.wh.b", ""),
            // What stands before the mark in the archive is of this layer, and stays.
            file("var/new", "n"),
            file("var/.wh..wh..opq", ""),
            dir("opt/"),
            file("opt/.wh.old", ""),
            // Of three names the file's own goes, and another is written over.
            file("lib/.wh.one", ""),
            file("lib/two", "other"),
            file("turn", "a file now"),
        ],
        vec![file("/etc/b", "b2"), hard("etc/again", "lib/three"), dir("opt/old/"), file("opt/old/y", "y2")],
    ]
}

fn wanted() -> BTreeMap<String, String> {
    [
        ("etc", "directory 700"),
        ("etc/a", "a1"),
        ("etc/b", "b2"),
        // By the order of names; the file itself has another one no more.
        ("etc/again", "inode"),
        ("lib", "directory 755"),
        ("lib/three", "= etc/again"),
        ("lib/two", "other"),
        ("opt", "directory 755"),
        ("opt/old", "directory 755"),
        ("opt/old/y", "y2"),
        ("turn", "a file now"),
        ("var", "directory 755"),
        ("var/new", "n"),
    ]
    .map(|(path, said)| (path.to_owned(), said.to_owned()))
    .into()
}

#[test]
fn upper_layers_win_and_take_away() {
    let dir = tempfile::tempdir().unwrap();
    let digest = image(dir.path(), &layers());
    index(dir.path(), &[manifest(&digest, "riscv64", "x")]);
    assert_eq!(read(dir.path(), None, None).unwrap(), wanted());
    // The same as an archive of the layout.
    let tar = dir.path().join("image.tar");
    let mut members = vec![
        Made::file("./oci-layout", fs::read(dir.path().join("oci-layout")).unwrap()),
        Made::file("index.json", fs::read(dir.path().join("index.json")).unwrap()),
    ];
    for entry in fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        members.push(Made::file(
            format!("blobs/sha256/{}", entry.file_name().to_string_lossy()),
            fs::read(entry.path()).unwrap(),
        ));
    }
    fs::write(&tar, archive(&members)).unwrap();
    assert_eq!(read(&tar, None, None).unwrap(), wanted());
}

#[test]
fn one_of_several_images() {
    let dir = tempfile::tempdir().unwrap();
    let of = |text: &str| image(dir.path(), &[vec![Made::file("f", text)]]);
    let (amd, arm, other) = (of("amd"), of("arm"), of("other"));
    index(
        dir.path(),
        &[manifest(&amd, "amd64", "r:1"), manifest(&arm, "arm64", "r:1"), manifest(&other, "amd64", "r:2")],
    );
    let get = |tag, platform| {
        read(dir.path(), tag, platform).map(|all| all["f"].clone()).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(get(Some("1"), Some("linux/arm64")).unwrap(), "arm");
    assert_eq!(get(Some("r:2"), None).unwrap(), "other");
    assert!(get(Some("3"), None).unwrap_err().contains("found r:1, r:1, r:2"));
    assert!(get(Some("1"), Some("linux/s390x")).unwrap_err().contains("found linux/amd64, linux/arm64"));
    assert!(get(None, Some("linux/amd64")).unwrap_err().contains("expected one image"));
    // An index in the index, as buildx writes it, with what it knows about the build.
    let inner = serde_json::json!({"manifests": [manifest(&arm, "arm64", ""), manifest(&amd, "amd64", ""), manifest(&other, "unknown", "")]});
    let inner = blob(dir.path(), inner.to_string().as_bytes());
    index(
        dir.path(),
        &[serde_json::json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": inner, "size": 1})],
    );
    assert_eq!(get(None, Some("linux/amd64")).unwrap(), "amd");
}

#[test]
fn what_is_damaged_or_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let said = || format!("{:#}", read(dir.path(), None, None).unwrap_err());
    assert!(said().contains("oci-layout"));
    fs::write(dir.path().join("manifest.json"), "[]").unwrap();
    assert!(said().contains("skopeo copy"));
    let plain = archive(&[Made::file("f", "content")]);
    let layer = blob(dir.path(), &plain);
    let text =
        |media: &str| serde_json::json!({"layers": [{"mediaType": media, "digest": layer, "size": 1}]}).to_string();
    let of = |media: &str| index(dir.path(), &[manifest(&blob(dir.path(), text(media).as_bytes()), "amd64", "x")]);
    of("application/vnd.oci.image.layer.v1.tar");
    assert_eq!(read(dir.path(), None, None).unwrap()["f"], "content");
    let place = dir.path().join("blobs/sha256").join(layer.trim_start_matches("sha256:"));
    let mut damaged = plain.clone();
    damaged[513] ^= 1;
    fs::write(&place, &damaged).unwrap();
    assert!(said().contains("damaged"), "{}", said());
    fs::write(&place, &plain[..700]).unwrap();
    assert!(said().contains("too early"), "{}", said());
    fs::remove_file(&place).unwrap();
    assert!(said().contains("expected blobs/sha256"), "{}", said());
    of("application/vnd.oci.image.layer.v1.tar+encrypted");
    assert!(said().contains("+encrypted"), "{}", said());
}
