#!/usr/bin/env bash
# Runs lint and all tests; the last line is "N passed, N failed". Needs the kit and the binaries (make kit build).
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0 passed=0

# One step that is not a test of its own harness: counts as one.
step() {
    echo "== $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

if cargo fmt --version >/dev/null 2>&1; then step cargo fmt --all --check; else echo "== rustfmt is not installed: format not checked"; fi
if cargo clippy --version >/dev/null 2>&1; then
    step cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
else
    echo "== clippy is not installed: not linted"
fi

# A backtrace through the harness says nothing; the guest's console is shown instead.
export RUST_BACKTRACE=${TAPROOT_BACKTRACE:-0}
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace "$@" 2>&1 | tee "$log"
    status=$?
    summary=$(grep -E '^ +Summary \[' "$log" | tail -n 1)
    # A test binary that does not build leaves no summary.
    number() { sed -n "s/.* \([0-9]\+\) $1.*/\1/p" <<<"$summary" | grep . || echo 0; }
    passed=$((passed + $(number passed)))
    count=$(($(number failed) + $(number 'timed out')))
else
    cargo test --locked --workspace --no-fail-fast -- --test-threads=2 "$@" 2>&1 | tee "$log"
    status=$?
    sum() { sed -n "s/^test result:.* \([0-9]\+\) $1;.*/\1/p" "$log" | paste -sd+ | grep . || echo 0; }
    passed=$((passed + $(sum passed)))
    count=$(($(sum failed)))
fi
[ "$status" = 0 ] || [ "$count" -gt 0 ] || count=1
failed=$((failed + count))
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
