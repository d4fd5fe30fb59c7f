//! Records what the kernels of the kit answer to `sim::golden`, into `tests/golden/`: `record RECORDER`, the program that asks them
//! in the guest.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use taproot_tests::golden;
use taproot_tests::kit::{self, ON_DEMAND, SYSTEMS, System};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [recorder] = args.as_slice() else { bail!("expected: record RECORDER") };
    for name in SYSTEMS.into_iter().chain([ON_DEMAND]) {
        if name == ON_DEMAND && !kit::cache()?.join("trees").join(name).join("stamp").exists() {
            println!("{name} is not there, its recording stays as it is");
            continue;
        }
        let system = System::open(name)?;
        let (path, text) = (golden::path(&system)?, golden::ask("record", &system, Path::new(recorder))?);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(&path, &text)?;
        println!("{}: {} lines", path.display(), text.lines().count());
    }
    Ok(())
}
