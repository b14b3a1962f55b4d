# SPDX-License-Identifier: MIT
# The everyday commands; Meson does the building. See CONTRIBUTING.md.
BUILD ?= build
MESON_ARGS ?=
ARGS ?=

SOURCES = $(shell find src include tests bench examples -name '*.[ch]' -o -name '*.def')
SCRIPTS = scripts/setup scripts/check scripts/check-sanitized scripts/check-host-kvm scripts/fuzz scripts/selftests tests/client/launcher \
	tests/client/installed tests/client/stats demo/fetch demo/run bench/run .ci/run

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)
	@ln -sfn src/client/ukvm $(BUILD)/ukvm

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { echo "make: there is no meson; scripts/setup build installs what is needed" >&2; exit 1; }
	meson setup $(BUILD) $(MESON_ARGS)

# Packages that are missing are installed with apt: as root, or with sudo.
setup-%:
	@scripts/setup $*

# DEMO=check for the scripted session; GUEST="--smp 4 --arch i386 ..." see demo/guest.py --help
demo: setup-demo
	@$(MAKE) --no-print-directory all
	@demo/run $(BUILD) $(GUEST)

check: setup-check
	@$(MAKE) --no-print-directory all
	@scripts/check $(BUILD) $(ARGS)

# The guests that take minutes each: CPU models, memory tests, a Debian that must compute what it computes natively.
check-long: setup-check
	@$(MAKE) --no-print-directory all
	@LONG=1 scripts/check $(BUILD) $(ARGS)

bench: setup-bench
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) bench/run $(ARGS)

# The API tests on this machine's real /dev/kvm, for comparison.
check-host-kvm: all
	@scripts/check-host-kvm $(BUILD)

# Linux's own KVM selftests as clients; ARGS names some, such as x86_64/sync_regs_test.
selftests: setup-build
	@$(MAKE) --no-print-directory all
	@scripts/selftests $(BUILD) $(ARGS)

# The tests without the guests, in a sanitizer build.
asan: setup-check
	@scripts/check-sanitized address,undefined build-asan $(ARGS)
tsan: setup-check
	@scripts/check-sanitized thread build-tsan $(ARGS)

# Fuzz targets under libFuzzer and sanitizers: make fuzz TARGET=engine SECONDS=600; see tests/fuzz.
TARGET ?= engine
SECONDS ?= 60
fuzz: setup-fuzz
	@scripts/fuzz $(TARGET) $(SECONDS) $(ARGS)

# The bare CPU as the oracle of the engine, for ever or until ctrl-C: make fuzz-insn ARGS="--row imul --seed 7"
fuzz-insn: all
	@$(BUILD)/tests/insn/insn --seconds 0 --seed $$(date +%s) $(ARGS)

docs: all
	@scripts/api-docs $(BUILD)/ukvm >docs/api.md.new && mv docs/api.md.new docs/api.md

install: all
	meson install -C $(BUILD) $(ARGS)

# Lines changed since the last commit: tables are laid out by hand.
fmt:
	@git clang-format --force --extensions c,h HEAD

lint: setup-lint
	@scripts/lint $(SOURCES)
	@shellcheck -S warning $(SCRIPTS)
	@cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr --suppressions-list=.cppcheck \
		--std=c11 -j2 -D__x86_64__ -Isrc -Iinclude src/*/*.c

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz

.PHONY: all demo check check-long bench check-host-kvm asan tsan fuzz fuzz-insn selftests docs install fmt lint clean
