# Everything a developer or a CI machine calls. `make build` and `make install` need Rust and a C compiler with a static C library; what
# runs virtual machines needs Debian 12 or 13 with root or sudo, and installs the rest.
TARGET := x86_64-unknown-linux-gnu
PREFIX ?= /usr

RUNS ?= 20000
SEEDS ?= 100000

.PHONY: help build guest-init host kit lint notices test test-all unit sim layer-sim torture golden demo switch bench fuzz install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: ## both binaries: out/taproot and out/taproot-init
	@command -v cargo >/dev/null || { echo "cargo is not there: install Rust (rustup, or your distribution's package)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc is not there: install gcc or clang" >&2; exit 1; }
	@echo 'int main(void){return 0;}' | cc -static -x c -o /dev/null - || { echo "no static C library: install libc6-dev (Debian), glibc-static (Fedora); Arch has it in glibc" >&2; exit 1; }
	@command -v strip >/dev/null || { echo "strip is not there: install binutils" >&2; exit 1; }
	cargo build --locked --profile boot -p taproot-init
	cargo build --locked --release -p taproot
	install -D -m 755 target/$(TARGET)/boot/taproot-init out/taproot-init
	strip --strip-all --wildcard --keep-symbol='!*drop_in_place*' --keep-symbol='!*core..fmt..*' --keep-symbol='!*core..clone..*' --keep-symbol='!*core..cmp..*' --keep-symbol='*taproot_init*' out/taproot-init # of all names, those that a panic's backtrace needs: not what the compiler derives
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

notices: ## THIRD-PARTY.md: licences of the crates that the binaries are linked with
	cargo run --locked --quiet -p taproot-tests --bin notices

unit: ## the unit tests
	cargo test --locked --workspace --lib

sim: ## simulated boots: RUNS=20000 of them, or the whole story of one with SEED= (NARROW=)
	cargo run --locked --quiet --release -p taproot-tests --bin sim -- $(if $(NARROW),--narrow $(NARROW),$(if $(SEED),--seed $(SEED),$(RUNS)))

layer-sim: ## simulated power cuts of commits, merges and rollbacks of layers: SEEDS=100000 stories, or the one of SEED=
	cargo run --locked --quiet --release -p taproot-tests --bin layer-sim -- $(if $(SEED),--seed $(SEED),$(SEEDS))

# RUNS= as it is given; the default above is that of sim.
torture: host build kit ## real power cuts: QEMU is killed at RUNS=60 random writes of commits and merges of layers; SEED=1 is the first, RUNS=1 SEED= repeats one
	cargo run --locked --quiet --release -p taproot-tests --bin torture -- $(if $(filter file,$(origin RUNS)),60,$(RUNS)) $(or $(SEED),1)

golden: host build kit ## what the kit's kernels answer, asked anew for tests/golden (what simulated machines go by)
	cargo build --locked --release -p taproot-tests --bin record --bin recorder
	target/$(TARGET)/release/record target/$(TARGET)/release/recorder

test: host build kit ## everything: lint, unit tests, scenarios in virtual machines (Debian 13, OpenZFS 2.4; what kernels decide on Debian 12, OpenZFS 2.1, too)
	@tests/run.sh

test-all: host build guest-init ## the same, every scenario on all three kit systems: Debian 12 with OpenZFS 2.3 too
	@tests/kit/all.sh debian12-zfs2.3
	@tests/run.sh --all

demo: host build kit ## an installed Debian on ZFS boots, changes its boot environment and boots again; a tree becomes a disk image, which boots
	cargo run --locked --quiet --release -p taproot-tests --bin demo

switch: host build kit ## a Debian with initramfs-tools is switched to Taproot by README's commands, boots, is switched back, boots
	@tests/kit/switch.sh

bench: host build kit ## boot phases, image build time and size, against the floor; 10 000 datasets against none, 60 disks against 2; layers against scripts, mksquashfs and other live systems; disk images against mksquashfs, mkfs.ext4 and paczfs
	@tests/kit/pools.sh debian13-zfs2.4 many
	@tests/kit/live.sh debian13-zfs2.4
	cargo build --locked --profile boot -p taproot-tests --bin minimal-init
	install -D -m 755 target/$(TARGET)/boot/minimal-init out/minimal-init
	cargo run --locked --quiet --release -p taproot-tests --bin bench

fuzz: ## ten minutes for each parser of foreign bytes (FUZZ_SECONDS=600)
	fuzz/run.sh $(FUZZ_SECONDS)

DOCS := README.md CHANGELOG.md SECURITY.md THIRD-PARTY.md LICENSE LICENSE-APACHE LICENSE-MIT $(wildcard docs/*.md)
SHARE := $(DESTDIR)$(PREFIX)/share
UNITS := $(DESTDIR)/usr/lib/systemd/system

install: ## what `make build` left in out/, with man pages, docs, completions, units and hooks of package managers, to $(DESTDIR)$(PREFIX)
	@test -x out/taproot || { echo "out/taproot is not there: run make build first" >&2; exit 1; }
	install -D -m 755 out/taproot $(DESTDIR)$(PREFIX)/bin/taproot
	install -D -m 755 out/taproot-init $(DESTDIR)$(PREFIX)/lib/taproot/taproot-init
	install -D -m 644 mkinitcpio-hook/install/taproot $(DESTDIR)$(PREFIX)/lib/initcpio/install/taproot
	install -D -m 644 mkinitcpio-hook/hooks/taproot $(DESTDIR)$(PREFIX)/lib/initcpio/hooks/taproot
	install -D -m 755 builder/hooks/update-initramfs $(DESTDIR)$(PREFIX)/lib/taproot/update-initramfs
	for when in postinst.d postrm.d header_postinst.d; do install -D -m 755 builder/hooks/kernel/$$when/taproot $(DESTDIR)/etc/kernel/$$when/taproot || exit; done
	install -D -m 755 -t $(DESTDIR)/usr/lib/kernel/install.d builder/hooks/kernel-install/50-taproot.install builder/hooks/kernel-install/95-taproot.install
	install -D -m 644 -t $(DESTDIR)/usr/share/libalpm/hooks builder/hooks/pacman/10-taproot-mask.hook builder/hooks/pacman/90-taproot-install.hook builder/hooks/pacman/60-taproot-remove.hook
	install -D -m 755 builder/hooks/pacman/taproot $(DESTDIR)/usr/share/libalpm/scripts/taproot
	install -D -m 644 -t $(UNITS) builder/units/taproot-layer-work.service builder/units/taproot-layer-confirm.service builder/units/taproot-first-boot.service builder/units/taproot-grow.service
	install -d $(UNITS)/multi-user.target.wants && ln -sf ../taproot-layer-work.service ../taproot-layer-confirm.service ../taproot-first-boot.service ../taproot-grow.service $(UNITS)/multi-user.target.wants
	install -d $(SHARE)/doc/taproot && install -m 644 $(DOCS) $(SHARE)/doc/taproot
	pages=$$(mktemp -d) && trap 'rm -rf $$pages' EXIT && out/taproot man $$pages && \
	for page in $$pages/*; do install -D -m 644 $$page $(SHARE)/man/man$${page##*.}/$${page##*/} || exit; done
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions $(SHARE)/fish/vendor_completions.d
	out/taproot completions bash >$(SHARE)/bash-completion/completions/taproot
	out/taproot completions zsh >$(SHARE)/zsh/vendor-completions/_taproot
	out/taproot completions fish >$(SHARE)/fish/vendor_completions.d/taproot.fish

uninstall: ## takes away what `make install` put below $(DESTDIR)$(PREFIX); configuration and images stay
	@test ! -e $(DESTDIR)/etc/taproot/hooks.enabled || { echo "taproot makes the images here: run taproot hooks disable first, or the next kernel has no image" >&2; exit 1; }
	rm -f $(DESTDIR)$(PREFIX)/bin/taproot
	rm -rf $(DESTDIR)$(PREFIX)/lib/taproot $(SHARE)/doc/taproot
	rm -f $(DESTDIR)$(PREFIX)/lib/initcpio/install/taproot $(DESTDIR)$(PREFIX)/lib/initcpio/hooks/taproot
	rm -f $(SHARE)/man/man?/taproot.? $(SHARE)/man/man?/taproot-*.? $(SHARE)/man/man5/taproot.toml.5
	rm -f $(SHARE)/bash-completion/completions/taproot $(SHARE)/zsh/vendor-completions/_taproot $(SHARE)/fish/vendor_completions.d/taproot.fish
	rm -f $(DESTDIR)/etc/kernel/postinst.d/taproot $(DESTDIR)/etc/kernel/postrm.d/taproot $(DESTDIR)/etc/kernel/header_postinst.d/taproot
	rm -f $(DESTDIR)/usr/lib/kernel/install.d/50-taproot.install $(DESTDIR)/usr/lib/kernel/install.d/95-taproot.install
	rm -f $(DESTDIR)/usr/share/libalpm/hooks/10-taproot-mask.hook $(DESTDIR)/usr/share/libalpm/hooks/90-taproot-install.hook $(DESTDIR)/usr/share/libalpm/hooks/60-taproot-remove.hook $(DESTDIR)/usr/share/libalpm/scripts/taproot
	rm -f $(UNITS)/taproot-layer-work.service $(UNITS)/taproot-layer-confirm.service $(UNITS)/taproot-first-boot.service $(UNITS)/taproot-grow.service
	rm -f $(UNITS)/multi-user.target.wants/taproot-layer-work.service $(UNITS)/multi-user.target.wants/taproot-layer-confirm.service $(UNITS)/multi-user.target.wants/taproot-first-boot.service $(UNITS)/multi-user.target.wants/taproot-grow.service

clean: ## build results; the kit in ~/.cache/taproot-kit stays
	cargo clean
	rm -rf out
