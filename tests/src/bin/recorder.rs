//! Inside a virtual machine with pools of the kit: asks the kernel what `sim::golden` asks, and prints each answer.

use std::path::Path;

use taproot_init::sys::linux::Linux;
use taproot_init::zfs::assemble::Seen;
use taproot_init::zfs::label::read_labels;
use taproot_tests::sim::golden;

fn main() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let device = Path::new("/dev").join(&name);
        let size = std::fs::read_to_string(entry.path().join("size")).unwrap_or_default();
        let size = size.trim().parse::<u64>().unwrap_or(0) * 512;
        let Ok(file) = std::fs::File::open(&device) else { continue };
        let mut read = |offset: u64, buf: &mut [u8]| std::os::unix::fs::FileExt::read_exact_at(&file, buf, offset);
        if let Ok(label) = read_labels(&mut read, size) {
            seen.push(Seen::sound(device.display().to_string(), label));
        }
    }
    // Paths that the labels record need not be there.
    for one in &mut seen {
        let guid = one.label.guid();
        if let (Some(guid), Some(tree)) = (guid, std::sync::Arc::make_mut(&mut one.label.config).list_mut("vdev_tree"))
        {
            put_path(tree, guid, &one.device);
        }
    }
    golden::ask(&Linux::new(), &seen, &mut |what, errno, lines| {
        println!("@@G {what}: {errno}");
        for line in lines {
            println!("@@G   {line}");
        }
    });
    println!("@@GOLDEN DONE");
}

fn put_path(node: &mut taproot_init::zfs::nvlist::NvList, guid: u64, path: &str) {
    use taproot_init::zfs::nvlist::Value;
    for child in node.lists_mut("children").into_iter().flatten() {
        put_path(child, guid, path);
    }
    if node.get("children").is_none() && node.u64("guid") == Some(guid) {
        node.set("path", Value::text(path));
    }
}
