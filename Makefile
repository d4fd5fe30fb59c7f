# Everything a developer or a CI machine calls. Needs Debian 12 or 13, root or sudo, and Rust; `make kit` installs the rest.
TARGET := x86_64-unknown-linux-gnu
PREFIX ?= /usr

RUNS ?= 20000

.PHONY: help build guest-init host kit lint test unit sim golden demo switch bench fuzz install clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: host ## both binaries: out/taproot and out/taproot-init
	cargo build --locked --profile boot -p taproot-init
	cargo build --locked --release -p taproot
	install -D -m 755 target/$(TARGET)/boot/taproot-init out/taproot-init
	out/taproot-init --version # one that does not start would not start at boot either
	install -D -m 755 target/$(TARGET)/release/taproot out/taproot

guest-init: host
	cargo build --locked --profile boot -p taproot-tests --bin guest-init
	install -D -m 755 target/$(TARGET)/boot/guest-init out/guest-init

host: ## packages of this machine: QEMU, compilers, squashfs-tools...
	@tests/kit/host.sh

kit: guest-init ## Debian trees and pools for the tests, in ~/.cache/taproot-kit (about 15 minutes the first time)
	@tests/kit/all.sh

lint: ## rustfmt and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

unit: ## the tests that need no virtual machine
	cargo test --locked --workspace --lib

sim: ## simulated boots: RUNS=20000 of them, or the whole story of one with SEED= (NARROW=)
	cargo run --locked --quiet --release -p taproot-tests --bin sim -- $(if $(NARROW),--narrow $(NARROW),$(if $(SEED),--seed $(SEED),$(RUNS)))

golden: build kit ## what the kit's kernels answer, asked anew for tests/golden (what simulated machines go by)
	cargo build --locked --release -p taproot-tests --bin record --bin recorder
	target/$(TARGET)/release/record target/$(TARGET)/release/recorder

test: build kit ## everything: lint, unit tests, scenarios in virtual machines on both kit systems
	@tests/run.sh

demo: build kit ## an installed Debian on ZFS boots, changes its boot environment and boots again
	cargo run --locked --quiet --release -p taproot-tests --bin demo

switch: build kit ## a Debian with initramfs-tools is switched to Taproot by README's commands, boots, is switched back, boots
	@tests/kit/switch.sh

bench: build kit ## boot phases, image build time and size, against the floor; 10 000 datasets against none, 60 disks against 2
	@tests/kit/pools.sh debian12-zfs2.3 large many
	cargo run --locked --quiet --release -p taproot-tests --bin bench

fuzz: ## ten minutes for each parser of foreign bytes (FUZZ_SECONDS=600)
	fuzz/run.sh $(FUZZ_SECONDS)

install: ## what `make build` left in out/, with man pages, completions and the mkinitcpio hook, to $(DESTDIR)$(PREFIX)
	@test -x out/taproot || { echo "out/taproot is not there: run make build first" >&2; exit 1; }
	install -D -m 755 out/taproot $(DESTDIR)$(PREFIX)/bin/taproot
	install -D -m 755 out/taproot-init $(DESTDIR)$(PREFIX)/lib/taproot/taproot-init
	install -D -m 644 mkinitcpio-hook/install/taproot $(DESTDIR)$(PREFIX)/lib/initcpio/install/taproot
	install -D -m 644 mkinitcpio-hook/hooks/taproot $(DESTDIR)$(PREFIX)/lib/initcpio/hooks/taproot
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	out/taproot man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	out/taproot completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/taproot
	out/taproot completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_taproot
	out/taproot completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/taproot.fish

clean: ## build results; the kit in ~/.cache/taproot-kit stays
	cargo clean
	rm -rf out
