//! `taproot status`.

use crate::cli::StatusArgs;
use crate::output::print;
use crate::status::{Status, survey};
use anyhow::Result;

/// Says how things are; whether each kernel has the image that would be packed now.
pub fn run(args: &StatusArgs) -> Result<bool> {
    let status = Status::of(&survey(&args.root()?, args.patience(), false));
    print(&if args.json { format!("{}\n", serde_json::to_string_pretty(&status)?) } else { status.text() })?;
    Ok(status.is_fine())
}
