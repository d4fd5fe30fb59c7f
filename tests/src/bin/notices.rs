//! Writes `THIRD-PARTY.md` anew (`make notices`).

fn main() -> anyhow::Result<()> {
    taproot_tests::notices::write()
}
