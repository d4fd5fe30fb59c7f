use super::*;
use std::path::PathBuf;

/// A directory of a disk below `/sys/devices`, with files beside and above it.
fn disk(path: &str, files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("devices").join(path);
    fs::create_dir_all(&dir).unwrap();
    for (file, bytes) in files {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let dir = fs::canonicalize(dir).unwrap();
    (root, dir)
}

fn page(designators: &[(u8, u8, &[u8])]) -> Vec<u8> {
    let mut page = vec![0, 0x83, 0, 0];
    for (head, kind, value) in designators {
        page.extend([*head, *kind, 0, u8::try_from(value.len()).unwrap()]);
        page.extend(*value);
    }
    page
}

#[test]
fn virtio_and_nvme() {
    let (_keep, dir) = disk("pci0000:00/0000:00:05.0/virtio1/block/vda", &[("serial", b"my disk/1\n")]);
    let names = names(&dir, "vda");
    assert_eq!(names.links, ["by-id/virtio-my_disk_1", "by-path/pci-0000:00:05.0"]);
    assert_eq!(names.identity, "serial my disk/1");
    let (_keep, dir) = disk(
        "pci0000:00/0000:00:1c.0/0000:01:00.0/nvme/nvme0/nvme0n1",
        &[
            ("wwid", b"eui.0025385b71b0a1b2\n"),
            ("nsid", b"1\n"),
            ("device/model", b"Samsung SSD 970   \n"),
            ("device/serial", b"S4EWNX0 \n"),
        ],
    );
    let names = super::names(&dir, "nvme0n1");
    assert_eq!(names.wwid.as_deref(), Some("eui.0025385b71b0a1b2"));
    assert_eq!(names.identity, "Samsung SSD 970, serial S4EWNX0");
    let expected = [
        "by-id/nvme-eui.0025385b71b0a1b2",
        "by-id/nvme-Samsung_SSD_970_S4EWNX0_1",
        "by-id/nvme-Samsung_SSD_970_S4EWNX0",
        "by-path/pci-0000:01:00.0-nvme-1",
    ];
    assert_eq!(names.links, expected);
}

#[test]
fn mapped_devices() {
    let (_keep, dir) = disk("virtual/block/dm-0", &[("dm/name", b"my--vg-root\n"), ("dm/uuid", b"LVM-abc\n")]);
    let expected = ["by-id/dm-name-my--vg-root", "by-id/dm-uuid-LVM-abc", "my-vg/root", "mapper/my--vg-root"];
    assert_eq!(names(&dir, "dm-0").links, expected);
    let (_keep, dir) = disk("virtual/block/dm-1", &[("dm/name", b"crypt-x\n")]);
    assert_eq!(names(&dir, "dm-1").links, ["by-id/dm-name-crypt-x", "mapper/crypt-x"]);
}

#[test]
fn ata() {
    let mut name = b"ATA     ".to_vec();
    name.extend(format!("{:<40}{:>20}", "QEMU HARDDISK", "QM00001").bytes());
    let pg83 = page(&[(2, 0, b"QM00001             "), (2, 1, &name), (1, 3, &[0x50, 1, 2, 3, 4, 5, 6, 7])]);
    let (_keep, dir) = disk(
        "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda",
        &[("device/vpd_pg83", &pg83), ("device/model", b"QEMU HARDDISK\n"), ("device/wwid", b"naa.5001020304050607\n")],
    );
    let port = dir.ancestors().nth(5).unwrap().join("ata_port/ata3");
    fs::create_dir_all(&port).unwrap();
    fs::write(port.join("port_no"), "1\n").unwrap();
    let expected = [
        "by-id/ata-QEMU_HARDDISK_QM00001",
        "by-id/wwn-0x5001020304050607",
        "by-path/pci-0000:00:1f.2-ata-1",
        "by-path/pci-0000:00:1f.2-ata-1.0",
    ];
    assert_eq!(names(&dir, "sda").links, expected);
}

#[test]
fn scsi_and_usb() {
    let at = "pci0000:00/0000:00:04.0/virtio2/host4/target4:0:1/4:0:1:2/block/sda";
    let pg83 = page(&[(2, 0, b"drive-scsi0"), (1, 0x13, &[9; 8])]);
    let inquiry: [(&str, &[u8]); 2] = [("device/vendor", b"QEMU    \n"), ("device/model", b"QEMU HARDDISK   \n")];
    let (_keep, dir) = disk(at, &[inquiry[0], inquiry[1], ("device/vpd_pg83", &pg83)]);
    // A second host of the same controller would be number 1.
    let expected = ["by-id/scsi-0QEMU_QEMU_HARDDISK_drive-scsi0", "by-path/pci-0000:00:04.0-scsi-0:0:1:2"];
    assert_eq!(names(&dir, "sda").links, expected);
    fs::create_dir(dir.ancestors().nth(5).unwrap().join("host3")).unwrap();
    assert_eq!(names(&dir, "sda").links[1], "by-path/pci-0000:00:04.0-scsi-1:0:1:2");

    let (_keep, dir) = disk(at, &[inquiry[0], inquiry[1], ("device/vpd_pg80", b"\0\x80\0\x03abc")]);
    assert_eq!(names(&dir, "sda").links[0], "by-id/scsi-SQEMU_QEMU_HARDDISK_abc");
    assert_eq!(names(&dir, "sda").identity, "QEMU HARDDISK, serial abc");

    let at = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host5/target5:0:0/5:0:0:0/block/sdb";
    let (_keep, dir) = disk(at, &inquiry);
    let usb = dir.ancestors().nth(6).unwrap();
    fs::write(usb.join("idVendor"), "46f4\n").unwrap();
    fs::write(usb.join("serial"), "1-0000\n").unwrap();
    let expected = ["by-id/usb-QEMU_QEMU_HARDDISK_1-0000-0:0", "by-path/pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0"];
    assert_eq!(names(&dir, "sdb").links, expected);
}

#[test]
fn pages_of_any_bytes() {
    for bytes in [&b""[..], b"\0\x83\0\x04\x01", b"\0\x83\0\xff\x01\x03\0\xff\x01", &[0xff; 300]] {
        let (_keep, dir) = disk("block/sda", &[("device/vpd_pg83", bytes), ("device/vpd_pg80", bytes)]);
        let _ = names(&dir, "sda");
    }
}

/// On a real machine: what udev made, if it runs there, is what we make.
#[test]
fn this_machine() {
    for entry in fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let Ok(dir) = fs::canonicalize(entry.path()) else { continue };
        for link in names(&dir, &entry.file_name().to_string_lossy()).links {
            assert!(link.starts_with("by-") && !link.contains(char::is_whitespace), "{link}");
        }
    }
}
