//! `taproot doctor`.

use crate::cli::StatusArgs;
use crate::doctor::Diagnosis;
use crate::output::print;
use crate::status::survey;
use anyhow::Result;

/// The exit code of a check that could not tell, as monitoring has it.
pub const UNKNOWN: u8 = 3;

/// Says what would stop the next boot; the exit code that this comes to.
pub fn run(args: &StatusArgs) -> Result<u8> {
    let diagnosis = Diagnosis::of(&survey(&args.root()?, args.patience(), true));
    print(&if args.json { format!("{}\n", serde_json::to_string_pretty(&diagnosis)?) } else { diagnosis.text() })?;
    Ok(diagnosis.exit_code())
}
