# Every target works from a fresh clone on a machine with a Rust toolchain; what else it needs, it installs and says so.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

HOST_TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
# The plugins are static, at a fixed address: they save the dynamic loader's time at every container start.
PLUGIN_FLAGS := -C target-feature=+crt-static -C relocation-model=static -C force-unwind-tables=no -C link-arg=-Wl,--no-eh-frame-hdr
PLUGIN_ENV    = RUSTFLAGS="$${RUSTFLAGS:-} $(PLUGIN_FLAGS)" CFLAGS="$${CFLAGS:-} -fno-asynchronous-unwind-tables"
TARGET_DIR  := $(abspath $(or $(CARGO_TARGET_DIR),target))
PLUGIN_DIR  := $(TARGET_DIR)/$(HOST_TARGET)/plugin
PLUGINS     := calico calico-ipam

AGENT       := $(TARGET_DIR)/release/routed-agent

CNI_BIN_DIR  ?= /opt/cni/bin
CNI_CONF_DIR ?= /etc/cni/net.d
SBIN_DIR     ?= /usr/local/sbin
DESTDIR      ?=
FUZZ_SECONDS ?= 60
SOAK_ROUNDS  ?= 50
COMMAND      ?= uname -a

.PHONY: build agent demo test vm lint fmt fmt-check deny bench bench-cni bench-bgp soak fuzz install uninstall tools clean

build: ## the two plugins, as they are installed
	$(PLUGIN_ENV) cargo build --locked --profile plugin --target $(HOST_TARGET) -p calico-cni -p calico-ipam
	@ls -l $(addprefix $(PLUGIN_DIR)/,$(PLUGINS)) | awk '{printf "%s  %.2f MB\n", $$NF, $$5/1e6}'

agent: ## the daemon, as it is installed
	cargo build --locked --release -p routed-agent
	@ls -l "$(AGENT)" | awk '{printf "%s  %.2f MB\n", $$NF, $$5/1e6}'

demo: build ## hosts in namespaces, containers on them, and everything gone again
	cargo build --locked --quiet -p routed-agent
	CALICO_BIN_DIR="$(PLUGIN_DIR)" cargo run --locked --quiet -p testbed --bin playground

test: tools build ## everything, real runtimes included; as root
	.ci/peers
	@mkdir -p "$(TARGET_DIR)" && rm -f "$(TARGET_DIR)/skipped-tests"
	TESTBED_SKIPS="$(TARGET_DIR)/skipped-tests" CALICO_BIN_DIR="$(PLUGIN_DIR)" \
	  cargo nextest run --locked --workspace --no-fail-fast
	@if [ -s "$(TARGET_DIR)/skipped-tests" ]; then echo "SKIPPED, because of what this machine lacks:"; cat "$(TARGET_DIR)/skipped-tests"; fi
	cargo test --locked --workspace --doc --quiet

vm: override export COMMAND := $(value COMMAND)
vm: ## a command as root under a stock kernel, for what the running one lacks: make vm COMMAND='ip link add tun1 type ipip local 192.0.2.1 && ip -d link'
	.ci/peers
	@cargo run --locked --quiet -p testbed --bin vm -- sh -c "$$COMMAND"

lint: ## clippy with the choices made in Cargo.toml, and the documentation builds
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

fmt:
	cargo fmt --all

fmt-check:
	cargo fmt --all -- --check

deny: ## licences, bans and sources of what we link; advisories where their database can be reached
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny"; cargo install --quiet --locked cargo-deny; }
	cargo deny --locked check bans licenses sources
	@if timeout 60 cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo "SKIPPED: advisories, their database cannot be reached from here"; fi

bench: bench-cni bench-bgp ## both comparisons

bench-cni: build ## the plugins against ptp + host-local and against the bare kernel operations
	.ci/peers
	$(PLUGIN_ENV) cargo build --locked --profile plugin --target $(HOST_TARGET) -p bench --bin bench --bin bare
	CALICO_BIN_DIR="$(PLUGIN_DIR)" $(PLUGIN_DIR)/bench

bench-bgp: build agent ## the daemon against BIRD, FRR, GoBGP and ip -batch; some eight minutes, as root
	.ci/peers
	cargo build --locked --release -p bench --bin bench-bgp
	CALICO_BIN_DIR="$(PLUGIN_DIR)" "$(TARGET_DIR)/release/bench-bgp" --agent "$(AGENT)"

soak: tools build ## agents stopped and killed under load, SOAK_ROUNDS times each, direct and through a tunnel; as root
	CALICO_BIN_DIR="$(PLUGIN_DIR)" SOAK_ROUNDS="$(SOAK_ROUNDS)" \
	  cargo nextest run --locked -p routed-agent --no-capture -E 'test(restarts_and_kills_lose_no_packet)'

fuzz: ## each target of fuzz/ for FUZZ_SECONDS, from the inputs in testdata/fuzz; what it finds is in fuzz/artifacts
	@command -v cargo-fuzz >/dev/null || { echo "installing cargo-fuzz"; cargo install --quiet --locked cargo-fuzz; }
	@for target in cni_config cni_args stored_block bgp_message bgp_session; do \
	  echo "$$target for $(FUZZ_SECONDS) s"; mkdir -p "fuzz/corpus/$$target"; \
	  CARGO_PROFILE_RELEASE_LTO=off cargo fuzz run --fuzz-dir fuzz --sanitizer none --codegen-units 16 --features libfuzzer "$$target" \
	    "fuzz/corpus/$$target" "testdata/fuzz/$$target" -- -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 \
	    -dict=fuzz/json.dict -print_final_stats=1 -verbosity=0; \
	done

tools:
	@command -v cargo-nextest >/dev/null || { echo "installing cargo-nextest"; cargo install --quiet --locked cargo-nextest; }

install: build agent ## plugins into CNI_BIN_DIR, the daemon into SBIN_DIR with its unit, the network list last; each by rename
	@conf/install-agent "$(AGENT)" "$(SBIN_DIR)" "$(DESTDIR)"
	@conf/install "$(PLUGIN_DIR)" "$(DESTDIR)$(CNI_BIN_DIR)" "$(DESTDIR)$(CNI_CONF_DIR)"

uninstall: ## removes what install put there; containers and state stay
	@conf/uninstall-agent "$(SBIN_DIR)" "$(DESTDIR)"
	@conf/uninstall "$(DESTDIR)$(CNI_BIN_DIR)" "$(DESTDIR)$(CNI_CONF_DIR)"

clean:
	cargo clean
