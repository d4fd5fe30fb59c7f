//! `taproot machine`.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::machine::Machine;
use crate::machine::{From, MACHINES, Machines, Shown, Zfs};
use crate::output::{agrees, print};

/// Makes, lists, removes or exports roots for systemd-nspawn.
pub fn run(action: &Machine) -> Result<()> {
    let zfs = Zfs::find();
    let machines = Machines { dir: Path::new(MACHINES), zfs: zfs.as_ref() };
    match action {
        Machine::Create { name, from, parent } => {
            for note in machines.create(name, &From::new(from)?, parent.as_deref())? {
                eprintln!("note: {note}");
            }
            print(&format!("{name}: systemd-nspawn -b -M {name} boots it, machinectl start {name} in the background\n"))
        }
        Machine::List { json } => list(&machines.list()?, *json),
        Machine::Remove { name, yes } => {
            let machine = machines.find(name)?;
            if !yes
                && !agrees(&format!(
                    "Remove {name} ({}, made of {}) with everything in it?",
                    machine.kind, machine.origin
                ))?
            {
                bail!("expected yes; nothing was removed");
            }
            machines.remove(&machine)
        }
        Machine::Export { name, file } => machines.export(&machines.find(name)?, file),
    }
}

fn list(all: &[Shown], json: bool) -> Result<()> {
    if json {
        let machine = |m: &Shown| json!({ "name": m.name, "kind": m.kind, "origin": m.origin, "running": m.running });
        let text = json!({ "format": 1, "machines": all.iter().map(machine).collect::<Vec<_>>() });
        return print(&format!("{text:#}\n"));
    }
    let rows = all.iter().map(|m| [m.name.as_str(), if m.running { "running" } else { "-" }, &m.kind, &m.origin]);
    let rows: Vec<[&str; 4]> = std::iter::once(["NAME", "STATE", "LIES ON", "MADE OF"]).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |[name, state, kind, origin]: &[&str; 4]| {
        let [first, second, third] = widths;
        format!("{name:<first$}  {state:<second$}  {kind:<third$}  {origin}\n")
    };
    print(&rows.iter().map(line).collect::<String>())
}
