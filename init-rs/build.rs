//! How `taproot-init` is linked. Both options are known to lld and GNU ld.

use std::env;
use std::path::Path;

fn main() {
    let script = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("no-unwind.ld");
    println!("cargo::rustc-link-arg-bin=taproot-init=-Wl,-T,{}", script.display());
    // A tenth of the size of ordinary relocations; glibc reads them since 2.36 (Debian 12).
    println!("cargo::rustc-link-arg-bin=taproot-init=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=no-unwind.ld");
    println!("cargo::rerun-if-changed=build.rs");
}
