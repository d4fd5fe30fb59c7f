//! Test kit driver: the kit's systems and images, virtual machines, what their guests report.

pub mod account;
pub mod agreement;
pub mod chroot;
pub mod compare;
pub mod cuts;
pub mod exfat;
pub mod golden;
pub mod hibernation;
pub mod image;
pub mod installed;
pub mod kit;
pub mod layers;
pub mod minimal;
pub mod newer;
pub mod nobody;
pub mod notices;
pub mod old;
pub mod plain;
pub mod scenario;
pub mod seeds;
pub mod show;
pub mod silent;
pub mod sim;
pub mod small;
#[cfg(test)]
mod tidy;
pub mod torture;
pub mod vm;
pub mod words;

/// The checkout this crate was built from.
pub fn checkout() -> std::path::PathBuf {
    let mut path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}
