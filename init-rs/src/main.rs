//! `taproot-init`: PID 1 of the initramfs, and of the machine's very end, a hook in another tool's, an applet of the rescue shell by
//! name, or what mounts the rest in the booted system.
//!
//! Rust's own start-up aborts when fds 0 to 2 are closed and `/dev/null` is missing, which is how the kernel starts an
//! init without a console; so `main` is the C one.
#![no_main]

use std::sync::Arc;
use taproot_init::sys::{System, linux::Linux};
use taproot_init::{after, boot, pools, rescue, scout, shutdown};

fn system() -> Arc<dyn System> {
    Arc::new(Linux::new())
}

/// The C entry point; arguments are read through `std::env`.
#[allow(unsafe_code)] // SAFETY: the only symbol of this name, with C's signature
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if std::process::id() == 1 {
        // Called by systemd-shutdown, of which it is the next program.
        if let Some(end) = shutdown::called(&args) {
            shutdown::run(&system(), end);
        }
        boot::run(&system(), std::env::args_os().skip(1).collect());
    }
    if args.first().is_some_and(|name| name == shutdown::WATCHER) {
        return shutdown::watch(&system());
    }
    if args.first().is_some_and(|name| name.rsplit('/').next() == Some(after::GENERATOR)) {
        return after::generate(&*system(), args.get(1..).unwrap_or_default());
    }
    match args.get(1).map(String::as_str) {
        Some(after::MOUNT_ALL) => after::mount_all(&*system(), args.get(2..).unwrap_or_default()),
        Some(boot::LOOK) => {
            println!("{}", boot::look(&*system(), args.get(2..).unwrap_or_default()));
            0
        }
        Some(pools::ASK) => {
            print!("{}", pools::answer(&*system(), args.get(2).map_or("", String::as_str)));
            0
        }
        Some("hook") => boot::hook(&system(), args.get(2..).unwrap_or_default()),
        Some(scout::copy::COPIER) => scout::copy::run(args.get(2..).unwrap_or_default()),
        Some("scout") => scout::run::run(args.get(2..).unwrap_or_default()),
        _ => rescue::applet(&system(), &args),
    }
}
