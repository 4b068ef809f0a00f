# SPDX-License-Identifier: LGPL-2.1-only OR MIT
#
# Everything that is built lies under $(B).
#
## make               library, drivers, tool, jobs, examples
## make run           the main job, with all set-up
## make check         all tests, with all set-up (about 35 minutes on 2 cores)
## make check-quick   unit tests, runtime suite with futexes, static checks (5 minutes; tests/one NAME: one program)
## make hooks         checks of a second before each commit, if you like
## make module        the kernel module (KDIR=: other headers than the running kernel's)
## make python        the Python package, in build/python (docs/python.md)
## make deb           packages for this Debian, in build/deb: the module (DKMS), library, headers, tool, Python package
## make check-packages   these packages in minimal systems of Debian 12 and 13, with kernel headers, and for arm64 (tests/vm/packages)
## make docs          the documentation as one HTML site, in build/docs
## make release       checks version, notes, symbols and interface of a version that is to go out
## make pages         manual pages, and completion for shells, in build/pages
## make install       DESTDIR= PREFIX= ; all of the next
## make install-user  library, headers, .pc, drivers, tool (without root: PREFIX=$HOME/...)
## make install-module-source   the module's sources for DKMS, with its group and udev rule
## make install-python   the Python package (PYTHON=: of another interpreter)
## make uninstall     DESTDIR= PREFIX= ; takes away what install has put there (uninstall-user: without the module's part)
## make kselftest     the module's selftests, in a guest
## make check-kernels the same on every kernel that tests/vm/kernel lists (DISTWORKER_HANDOVERS=1000000: long hunts),
##                    and on arm64 and riscv64, emulated, with the unit and runtime suites
## ARCH=arm64 make check   kselftests, unit and runtime suites on an arm64 machine, emulated (riscv64, too)
## make check-fresh  `make run` and `make check` in minimal systems of Debian 12 and 13 (hours; tests/vm/fresh)
## make check-debug-kernel   everything on kernels with KASAN, lockdep, KCSAN …
## make static        cppcheck, clang-tidy; checkpatch, sparse, W=1, coccicheck; the documentation of the module
## make fuzz-module   SECONDS=60: fuzzing of the module in a guest
## make stress        SECONDS=60: random kills under load
## make check-worlds  the same programs in all worlds that tests/worlds/table lists (clocks, limits, filters …)
## make fuzz          SECONDS=60: libFuzzer on each parser, so long each
## make bench         side by side with StarPU, libgomp, futex, eventfd, pipe
## make clean

HASH := \#
VERSION := $(shell cat VERSION)
MAJOR := $(firstword $(subst ., ,$(VERSION)))
# The day of the release, for manual pages: "November 30, 2026".
RELEASED := $(shell LC_ALL=C date -u +'%B %-d, %Y' -d "$$(sed -nE 's/^$(HASH)$(HASH) [0-9.]+ \((.*)\)$$/\1/p' docs/changelog.md | head -n 1)")
B ?= build
CC ?= gcc
CXX ?= g++

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DRIVERDIR ?= $(LIBDIR)/distworker

# A word for the shell, and the right side of sed's s|||.
quote = '$(subst ','\'',$(1))'
sedquote = $(subst |,\|,$(subst &,\&,$(subst \,\\,$(1))))

# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' '$(1)' '$@')

# WERROR=1, as in `make check`, makes errors of them: other compilers warn of other things.
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
# Instrumented code confuses these two analyses.
WARNINGS += $(if $(SANITIZE),-Wno-format-truncation -Wno-maybe-uninitialized)
CFLAGS ?= -O2 -g
# -ffp-contract=off: a result has the same bits on every machine.
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -fPIC -pthread -ffp-contract=off -fvisibility=hidden \
	-fexceptions $(WARNINGS) -Ilib/include -Ikmod/uapi -Ilib/src -DDW_BUILDING_LIBRARY \
	-DDW_VERSION='"$(VERSION)"' -DDW_DRIVER_DIR=$(call quote,"$(DRIVERDIR)") -MMD -MP $(CFLAGS) $(SANITIZE)
LINK := $(CC) -pthread $(CFLAGS) $(SANITIZE) $(LDFLAGS)
USER_CFLAGS := $(filter-out -DDW_BUILDING_LIBRARY,$(ALL_CFLAGS))
# C++, as its users compile it: an example, and what tests load; left out where no C++ compiler is.
CXX_WORKS := $(shell echo 'int main() { return 0; }' | $(CXX) -x c++ - -o /dev/null 2>/dev/null && echo yes)
CXX_LINK = $(CXX) -std=c++11 -fPIC -pthread -Wall -Wextra $(if $(WERROR),-Werror) -pedantic -Wold-style-cast -Ilib/include -Ikmod/uapi \
	-MMD -MP $(CFLAGS) $(SANITIZE) $(LDFLAGS)

# Pointers of 32 bits are refused at once, and not by each file for itself. Without a compiler this says nothing.
ifeq ($(shell echo __SIZEOF_POINTER__ | $(CC) $(CFLAGS) -E -P -x c - 2>/dev/null | tail -n 1),4)
ifeq ($(filter clean help setup-%,$(MAKECMDGOALS)),)
$(error distworker needs a 64-bit target: "$(CC)" has pointers of 32 bits (-m32, -mx32?))
endif
endif

LIB_SRC := $(wildcard $(foreach layer,base task mailbox memory depend callable engine trace host worker chip,\
	lib/src/$(layer)/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
LIB := $(B)/libdistworker.so
LIB_STATIC := $(B)/libdistworker.a
LIB_LIBS := -ldl -lhwloc -lz -lelf

# opencl is built where OpenCL's headers and its loader are there (ocl-icd-opencl-dev).
OPENCL := $(shell echo 'int main(void) { return 0; }' | \
	$(CC) -include CL/cl.h -DCL_TARGET_OPENCL_VERSION=210 -x c - -lOpenCL -o /dev/null 2>/dev/null && echo yes)
DRIVERS := $(filter-out $(if $(OPENCL),,opencl),\
	$(patsubst lib/src/chip/drivers/%/,%,$(wildcard lib/src/chip/drivers/*/)))
DRIVER_SO := $(DRIVERS:%=$(B)/libdistworker-chip-%.so)

TOOL := $(B)/distworker
# The library's own reader of records, of which nothing is exported.
TOOL_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard tools/*.c) \
	lib/src/trace/convert.c lib/src/trace/text_out.c)
JOB_SO := $(patsubst tools/jobs/%.c,$(B)/jobs/%.so,$(wildcard tools/jobs/*.c))
KERNEL_SO := $(patsubst tools/jobs/kernels/%.c,$(B)/jobs/kernels/%.so,$(wildcard tools/jobs/kernels/*.c))
KERNEL_CL := $(patsubst tools/jobs/kernels/%.cl,$(B)/jobs/kernels/%.cl,$(wildcard tools/jobs/kernels/*.cl))
JOB_DATA := $(B)/jobs/digits.csv.gz
EXAMPLES := $(patsubst docs/examples/%.c,$(B)/examples/%,$(wildcard docs/examples/*.c)) \
	$(patsubst docs/examples/%.cc,$(B)/examples/%_cc,$(if $(CXX_WORKS),$(wildcard docs/examples/*.cc))) \
	$(patsubst docs/examples/job/%.c,$(B)/examples/%.so,$(wildcard docs/examples/job/*.c))

UNIT := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c))
RUNTIME := $(patsubst %.c,$(B)/%,$(wildcard tests/runtime/test_*.c))
FIXTURE_SO := $(patsubst %.c,$(B)/%.so,$(wildcard tests/runtime/fixtures/*.c tests/unit/fixtures/*.c)) \
	$(patsubst %.cc,$(B)/%.so,$(if $(CXX_WORKS),$(wildcard tests/runtime/fixtures/*.cc)))
EXAMPLE_DRIVER_SO := $(patsubst docs/examples/chip-driver/%.c,$(B)/examples/libdistworker-chip-%.so,\
	$(wildcard docs/examples/chip-driver/*.c))

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all module tests fixtures drivers clean
all: $(LIB) $(DRIVER_SO) $(TOOL) $(JOB_SO) $(KERNEL_SO) $(KERNEL_CL) $(JOB_DATA) $(EXAMPLES)
drivers: $(DRIVER_SO)
tests: $(UNIT) $(RUNTIME) fixtures
fixtures: $(FIXTURE_SO) $(EXAMPLE_DRIVER_SO)

# ------------------------------------------------------------------ library

$(B)/lib/%.o: lib/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

# Unwinders see the end of the stack there.
$(B)/lib/src/worker/last_frame.o: ALL_CFLAGS += -fno-exceptions -fno-unwind-tables \
	-fno-asynchronous-unwind-tables -fno-optimize-sibling-calls

$(LIB).$(MAJOR): $(LIB_OBJ) lib/distworker.map
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,libdistworker.so.$(MAJOR) -Wl,--version-script=lib/distworker.map \
		-Wl,-z,defs $(LIB_OBJ) $(LIB_LIBS) -o $@
$(LIB): $(LIB).$(MAJOR)
	@ln -sf $(notdir $<) $@
$(LIB_STATIC): $(LIB_OBJ)
	@rm -f $@ && $(AR) rcs $@ $^

define driver_rule
$(B)/libdistworker-chip-$(1).so: $(patsubst %.c,$(B)/%.o,$(wildcard lib/src/chip/drivers/$(1)/*.c))
	$$(call say,LD)
	$$(Q)$$(LINK) -shared -Wl,-z,defs $$^ $$(shell grep -hs ^-l lib/src/chip/drivers/$(1)/libs) -ldl -o $$@
endef
$(foreach d,$(DRIVERS),$(eval $(call driver_rule,$(d))))

# ------------------------------------------------------------ tool and jobs

$(B)/tools/%.o: tools/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(USER_CFLAGS) -c $< -o $@
$(B)/tools/manual.o: private USER_CFLAGS += -DDW_RELEASED='"$(RELEASED)"'
LINK_TOOL = $(LINK) $(TOOL_OBJ) -L$(B) -ldistworker -ljson-c -ldl -lm
$(TOOL): $(TOOL_OBJ) $(LIB)
	$(call say,LD)
	$(Q)$(LINK_TOOL) -Wl,-rpath,'$$ORIGIN' -o $@
$(B)/jobs/%.so: tools/jobs/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -Wl,--build-id -shared $< -L$(B) -ldistworker -lz -lm -o $@
$(B)/jobs/kernels/%.so: tools/jobs/kernels/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -fvisibility=default -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/jobs/kernels/%.cl: tools/jobs/kernels/%.cl
	@mkdir -p $(@D)
	@cp $< $@
$(B)/jobs/%.gz: tools/jobs/%.gz
	@mkdir -p $(@D)
	@cp $< $@
$(B)/examples/%: docs/examples/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $@.d $< -L$(B) -ldistworker -lm -Wl,-rpath,'$$ORIGIN/..' -o $@

$(B)/examples/%.so: docs/examples/job/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -shared $< -L$(B) -ldistworker -o $@

$(B)/examples/%_cc: docs/examples/%.cc $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CXX_LINK) -MF $@.d $< -L$(B) -ldistworker -Wl,-rpath,'$$ORIGIN/..' -o $@

# ------------------------------------- manual pages, and completion for shells

# A program of this machine: of a foreign target, GENERATOR is a `distworker` of this one.
GENERATOR ?= $(TOOL)
MANUAL_SOURCES := $(wildcard tools/pages/*.py) $(wildcard lib/include/distworker/*.h) docs/distworker.rst docs/changelog.md README.md
.PHONY: pages
pages: $(B)/pages/made
$(B)/pages/made: $(TOOL) $(MANUAL_SOURCES)
	$(call say,MAN)
	@rm -rf $(@D) && mkdir -p $(@D)
	$(Q)for shell in bash zsh fish; do $(GENERATOR) completion $$shell > $(@D)/completion.$$shell || exit; done
	$(Q)for page in $$($(GENERATOR) manual --list); do \
		name=$${page%.?}; name=$${name#distworker}; $(GENERATOR) manual $${name#-} > $(@D)/$$page || exit; done
	$(Q)if [ -n "$(PYTHON_WORKS)" ]; then $(PYTHON) tools/pages/manual.py $(@D); \
		else echo "without python3: no manual pages of sections 3, 4 and 7"; fi
	@touch $@

# One HTML site of README.md, docs/, the manual pages and the examples; a link that leads nowhere is an error.
.PHONY: docs release
docs: setup-pages pages
	@$(PYTHON) tools/pages/site.py $(B)/pages $(B)/docs

# What has to be so before a version goes out; the tests are make check's.
release:
	@B=$(B) MAKE="$(MAKE)" tools/packaging/release

# ------------------------------------------------------------------- Python

# Only what builds or installs the package asks the interpreter.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
PYTHON_WORKS = $(shell $(PYTHON) -c "print(1)" 2>/dev/null)
PYTHON_INCLUDE = $(shell $(PYTHON) -c 'import os, sysconfig; path = sysconfig.get_path("include"); \
	print(path if os.path.exists(path + "/Python.h") else "")' 2>/dev/null)
PYTHONDIR ?= $(shell $(PYTHON) lib/python/build_backend.py --folder $(call quote,$(PREFIX)) 2>/dev/null)
PYTHON_FILES := $(wildcard lib/python/distworker/*.py lib/python/distworker/*.pyi) lib/python/distworker/py.typed
# $(call link_python,RPATH,OUTPUT)
link_python = $(CC) -shared -std=c11 -D_GNU_SOURCE -fPIC -pthread -fvisibility=hidden $(WARNINGS) -Ilib/include \
	-isystem $(PYTHON_INCLUDE) $(CFLAGS) $(SANITIZE) $(LDFLAGS) lib/python/src/*.c -L$(B) -ldistworker -ldl \
	$(call rpath,$(1)) -o $(2)

.PHONY: python
python: $(B)/python/distworker/_core.abi3.so $(PYTHON_FILES:lib/%=$(B)/%)
$(B)/python/distworker/_core.abi3.so: $(wildcard lib/python/src/* lib/include/distworker/*.h) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(call link_python,'$$ORIGIN/../..',$@)
$(B)/python/distworker/%: lib/python/distworker/%
	@mkdir -p $(@D)
	@cp $< $@

# -------------------------------------------------------------------- tests

$(B)/tests/unit/%: tests/unit/%.c $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(ALL_CFLAGS) -MF $@.d $< $(LIB_STATIC) $(LIB_LIBS) -lm -o $@
# It compares what the library knows of PMIx with PMIx's header, where that is.
$(B)/tests/unit/test_host_launch: private ALL_CFLAGS += \
	$(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I pmix 2>/dev/null))
$(B)/tests/runtime/%: tests/runtime/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $@.d $< -L$(B) -ldistworker $(TEST_LIBS) -lm -Wl,-rpath,'$$ORIGIN/../..' -o $@
$(patsubst %,$(B)/tests/runtime/test_%,trace trace_copies trace_tracks hosts_trace): TEST_LIBS := -ljson-c
# It reads the records that a killed root leaves.
$(B)/tests/runtime/test_trace_tracks: TEST_LIBS += $(B)/lib/src/trace/convert.o $(B)/lib/src/trace/text_out.o
$(B)/tests/runtime/fixtures/%.so: tests/runtime/fixtures/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -fvisibility=default -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/tests/runtime/fixtures/%.so: tests/runtime/fixtures/%.cc
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CXX_LINK) -MF $(@:.so=.d) -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/tests/unit/fixtures/%.so: tests/unit/fixtures/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -fvisibility=default -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/examples/libdistworker-chip-%.so: docs/examples/chip-driver/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -shared $< -o $@

# ---------------------------------------------------------------- main jobs

.PHONY: help run check check-quick hooks hooks-off kselftest check-kernels check-worlds check-fresh check-debug-kernel bench stress fuzz setup-build setup-check static fuzz-module

setup-build setup-check setup-guest setup-bench setup-packages setup-pages: setup-%:
	@tests/setup $*

# The main job: digits on L4 → 2 × L3 → 2 sim chips each, then what an idle tree costs.
RUN_ARGS ?= digits --nodes 2 --chips 2 --subs 2 --driver sim --idle-seconds 5
run: setup-build
	@$(MAKE) --no-print-directory all
	$(TOOL) run $(RUN_ARGS)

# ARCH=arm64 or riscv64: on another machine than this one, which is emulated.
FOREIGN := $(if $(ARCH),$(shell tests/vm/row --foreign $(ARCH)))
ifneq ($(FOREIGN),)
check: setup-guest
	tests/vm/row $(FOREIGN)
else
check: setup-check
	@$(MAKE) --no-print-directory WERROR=1 all tests
	@B=$(B) MAKE="$(MAKE)" tests/check
endif

# What changes most, without a guest and without sanitizers.
check-quick: setup-check
	@$(MAKE) --no-print-directory WERROR=1 all tests
	@B=$(B) MAKE="$(MAKE)" tests/check unit runtime-futex tool-seeing tool-output static-library static-structure static-format documentation

# Offered: checks of a second before each commit.
hooks:
	@mkdir -p "$$(git rev-parse --git-path hooks)"
	@ln -sfr tests/hooks/pre-commit "$$(git rev-parse --git-path hooks)/pre-commit"
	@echo "git runs tests/hooks/pre-commit before each commit; git commit --no-verify goes without, make hooks-off ends it"
hooks-off:
	@rm -f "$$(git rev-parse --git-path hooks)/pre-commit"

kselftest: setup-guest
	tests/selftests/guest

check-worlds: setup-check
	@$(MAKE) --no-print-directory all tests
	@B=$(B) tests/worlds/run

check-kernels: setup-guest
	@failed=0; tests/vm/matrix || failed=1; \
	for architecture in arm64 riscv64; do \
		test -z "$$(tests/vm/row --foreign $$architecture)" || tests/vm/row --kernel all $$architecture || failed=1; \
	done; exit $$failed

static: setup-check
	tests/static/library
	tests/static/module
	tests/static/documentation

fuzz-module: setup-guest
	tests/fuzz/run --seconds $(SECONDS)

# In minimal systems that are made for it; one of this machine's own is no matter.
check-fresh:
	@tests/vm/fresh

check-debug-kernel: setup-check
	@$(MAKE) --no-print-directory all tests
	tests/vm/debug-check

bench: setup-bench
	@$(MAKE) --no-print-directory all
	tests/bench/run

SECONDS ?= 60
stress: setup-build
	@$(MAKE) --no-print-directory all tests
	tests/stress/run $(SECONDS)

fuzz: setup-check
	tests/fuzz/parsers/run $(SECONDS)

# The module, against the headers of the running kernel or of KDIR.
module:
	$(MAKE) -C kmod

# ------------------------------------------------------------------ install

INSTALL ?= install
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
UDEVDIR ?= /lib/udev/rules.d
SYSUSERSDIR ?= /usr/lib/sysusers.d
MODULESLOADDIR ?= /usr/lib/modules-load.d
# As root, into the running system: programs that are linked with the library start at once.
UPDATE_LOADER = $(if $(DESTDIR),,test "$$(id -u)" -ne 0 || PATH=$$PATH:/sbin:/usr/sbin ldconfig)

# $(call at,PATH): the path below DESTDIR, as a word for the shell.
at = $(call quote,$(DESTDIR)$(1))
BINDIR = $(PREFIX)/bin
INCLUDEDIR = $(PREFIX)/include
COMPLETIONDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/vendor-completions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
MANDIR ?= $(PREFIX)/share/man
CMAKEDIR = $(LIBDIR)/cmake/distworker
SCHEMADIR = $(PREFIX)/share/distworker/schemas
SCHEMAS := $(wildcard tools/schemas/*.json)
# The names of the pages of section 3.
open := (
CALLS = $(shell cat lib/include/distworker/*.h | tr '\n' ' ' | grep -oE 'DW_API [^;$(open)]*[$(open)]' | grep -oE 'dw_\w+.$$' | tr -d '$(open)')
# no: programs look for the library where the loader does, as packages want it.
RPATH ?= yes
rpath = $(if $(filter no,$(RPATH)),,-Wl,-rpath,$(1))
MODULESOURCEDIR = /usr/src/distworker-$(VERSION)
INSTALLED_FOLDERS = PREFIX LIBDIR DRIVERDIR PKGCONFIGDIR MANDIR UDEVDIR SYSUSERSDIR MODULESLOADDIR

.PHONY: deb check-packages
deb: setup-packages
	@B=$(B) tools/packaging/deb
check-packages: setup-packages
	@B=$(B) tests/vm/packages --release bookworm --release trixie --module --arch arm64

.PHONY: install-python uninstall-python install install-user install-module-source uninstall uninstall-user uninstall-module-source check-folders
install: install-user install-module-source install-python

# $(call check_folder,NAME,VALUE): what is no place to write to, or to delete from, is refused.
define check_folder
	@case $(call quote,$(2)) in /*[!/]*) ;; \
		*) echo $(call quote,make: $(1) is "$(2)": it should be an absolute path other than /) >&2; exit 1 ;; esac

endef
check-folders:
	$(foreach folder,$(INSTALLED_FOLDERS),$(call check_folder,$(folder),$($(folder))))
	$(if $(DESTDIR),$(call check_folder,DESTDIR,$(DESTDIR)))

# The library looks for drivers beside itself, and where DRIVERDIR was when it was built.
install-user: check-folders all pages
	@test $(call quote,$(DRIVERDIR)) = $(call quote,$(LIBDIR)/distworker) || \
		grep -qF $(call quote,$(DRIVERDIR)) $(LIB) || \
		{ echo "make: the library was built with another DRIVERDIR: make clean, then make DRIVERDIR=..." >&2; exit 1; }
	$(INSTALL) -d $(call at,$(LIBDIR)) $(call at,$(DRIVERDIR)/jobs/kernels) $(call at,$(PKGCONFIGDIR)) \
		$(call at,$(BINDIR)) $(call at,$(INCLUDEDIR)/distworker) $(call at,$(INCLUDEDIR)/linux) \
		$(call at,$(COMPLETIONDIR)) $(call at,$(ZSHDIR)) $(call at,$(FISHDIR)) $(call at,$(CMAKEDIR)) $(call at,$(SCHEMADIR)) \
		$(foreach section,1 3 4 7,$(call at,$(MANDIR)/man$(section)))
	$(INSTALL) -m 755 $(LIB).$(MAJOR) $(call at,$(LIBDIR))
	ln -sf libdistworker.so.$(MAJOR) $(call at,$(LIBDIR)/libdistworker.so)
	$(INSTALL) -m 755 $(DRIVER_SO) $(call at,$(DRIVERDIR))
	$(INSTALL) -m 755 $(JOB_SO) $(call at,$(DRIVERDIR)/jobs)
	$(INSTALL) -m 755 $(KERNEL_SO) $(call at,$(DRIVERDIR)/jobs/kernels)
	$(INSTALL) -m 644 $(KERNEL_CL) $(call at,$(DRIVERDIR)/jobs/kernels)
	$(INSTALL) -m 644 $(JOB_DATA) tools/jobs/digits.README $(call at,$(DRIVERDIR)/jobs)
	$(INSTALL) -m 644 lib/tsan.supp $(call at,$(DRIVERDIR))
	$(INSTALL) -m 644 $(B)/pages/completion.bash $(call at,$(COMPLETIONDIR)/distworker)
	$(INSTALL) -m 644 $(B)/pages/completion.zsh $(call at,$(ZSHDIR)/_distworker)
	$(INSTALL) -m 644 $(B)/pages/completion.fish $(call at,$(FISHDIR)/distworker.fish)
	$(INSTALL) -m 644 $(SCHEMAS) $(call at,$(SCHEMADIR))
	for page in $(B)/pages/*.[1347]; do $(INSTALL) -m 644 $$page $(call at,$(MANDIR))/man$${page##*.}; done
	$(LINK_TOOL) $(call rpath,"\$$ORIGIN/$$(realpath -ms --relative-to=$(call quote,$(BINDIR)) $(call quote,$(LIBDIR)))") \
		-o $(call at,$(BINDIR)/distworker)
	chmod 755 $(call at,$(BINDIR)/distworker)
	$(INSTALL) -m 644 lib/include/distworker/*.h $(call at,$(INCLUDEDIR)/distworker)
	$(INSTALL) -m 644 kmod/uapi/linux/distworker.h $(call at,$(INCLUDEDIR)/linux)
	sed -e $(call quote,s|@PREFIX@|$(call sedquote,$(PREFIX))|; s|@LIBDIR@|$(call sedquote,$(LIBDIR))|) \
		-e $(call quote,s|@DRIVERDIR@|$(call sedquote,$(DRIVERDIR))|; s|@VERSION@|$(VERSION)|) \
		lib/distworker.pc.in > $(call at,$(PKGCONFIGDIR)/distworker.pc)
	sed "s|@PREFIX@|$$(realpath -ms --relative-to=$(call quote,$(CMAKEDIR)) $(call quote,$(PREFIX)))|" \
		lib/distworker-config.cmake.in > $(call at,$(CMAKEDIR)/distworker-config.cmake)
	sed 's|@VERSION@|$(VERSION)|' lib/distworker-config-version.cmake.in > $(call at,$(CMAKEDIR)/distworker-config-version.cmake)
	$(UPDATE_LOADER)

# For DKMS: dkms add distworker/$(VERSION) && dkms install distworker/$(VERSION)
install-module-source: check-folders
	$(INSTALL) -d $(call at,$(MODULESOURCEDIR)) $(call at,$(UDEVDIR)) $(call at,$(SYSUSERSDIR)) \
		$(call at,$(MODULESLOADDIR))
	$(INSTALL) -m 644 dkms.conf VERSION $(call at,$(MODULESOURCEDIR))
	rm -rf $(call at,$(MODULESOURCEDIR)/kmod)
	mkdir $(call at,$(MODULESOURCEDIR)/kmod)
	cp -r kmod/Kbuild kmod/Makefile $(filter-out %.mod.c,$(wildcard kmod/*.c)) kmod/*.h kmod/uapi \
		$(call at,$(MODULESOURCEDIR)/kmod)
	$(INSTALL) -m 644 kmod/*.rules $(call at,$(UDEVDIR))
	$(INSTALL) -m 644 kmod/sysusers.conf $(call at,$(SYSUSERSDIR)/distworker.conf)
	$(INSTALL) -m 644 kmod/modules-load.conf $(call at,$(MODULESLOADDIR)/distworker.conf)
	$(if $(DESTDIR),,getent group distworker >/dev/null || groupadd --system distworker)

# The Python package; nothing where there are no headers of Python. PYTHONDIR=: another folder than PREFIX's.
install-python: check-folders $(LIB)
	$(if $(and $(PYTHON_INCLUDE),$(PYTHONDIR)),$(INSTALL) -d $(call at,$(PYTHONDIR)/distworker) && \
		$(INSTALL) -m 644 $(PYTHON_FILES) $(call at,$(PYTHONDIR)/distworker) && $(call link_python,"\$$ORIGIN/$$(realpath \
		-ms --relative-to=$(call quote,$(PYTHONDIR)/distworker) $(call quote,$(LIBDIR)))",$(call \
		at,$(PYTHONDIR)/distworker/_core.abi3.so)),@echo "without python3-dev: no Python package")

uninstall-python: check-folders
	$(if $(PYTHONDIR),rm -f $(foreach file,$(notdir $(PYTHON_FILES)) _core.abi3.so,$(call at,$(PYTHONDIR)/distworker/$(file))))
	$(if $(PYTHONDIR),rm -rf $(call at,$(PYTHONDIR)/distworker/__pycache__) && if [ -d $(call at,$(PYTHONDIR)/distworker) ]; then \
		rmdir --ignore-fail-on-non-empty $(call at,$(PYTHONDIR)/distworker); fi)

uninstall: uninstall-user uninstall-module-source uninstall-python

# File by file: what others have put into these folders stays, and so do the folders then.
uninstall-user: check-folders
	rm -f $(foreach file,$(notdir $(DRIVER_SO)) tsan.supp $(JOB_SO:$(B)/%=%) $(KERNEL_SO:$(B)/%=%) \
		$(KERNEL_CL:$(B)/%=%) $(JOB_DATA:$(B)/%=%) jobs/digits.README,$(call at,$(DRIVERDIR)/$(file)))
	rm -f $(call at,$(LIBDIR)/libdistworker.so) $(call at,$(LIBDIR)/libdistworker.so.$(MAJOR)) \
		$(call at,$(PKGCONFIGDIR)/distworker.pc) $(call at,$(BINDIR)/distworker) \
		$(call at,$(COMPLETIONDIR)/distworker) $(call at,$(INCLUDEDIR)/linux/distworker.h) \
		$(call at,$(ZSHDIR)/_distworker) $(call at,$(FISHDIR)/distworker.fish) \
		$(call at,$(CMAKEDIR)/distworker-config.cmake) $(call at,$(CMAKEDIR)/distworker-config-version.cmake) \
		$(call at,$(MANDIR)/man1)/distworker.1 $(call at,$(MANDIR)/man1)/distworker-*.1 \
		$(call at,$(MANDIR)/man4/distworker.4) $(call at,$(MANDIR)/man7/distworker.7) \
		$(call at,$(MANDIR)/man7/distworker-environment.7) $(foreach name,$(CALLS),$(call at,$(MANDIR)/man3/$(name).3)) \
		$(foreach file,$(notdir $(wildcard lib/include/distworker/*.h)),$(call at,$(INCLUDEDIR)/distworker/$(file))) \
		$(foreach file,$(notdir $(SCHEMAS)),$(call at,$(SCHEMADIR)/$(file)))
	for folder in $(call at,$(DRIVERDIR)/jobs/kernels) $(call at,$(DRIVERDIR)/jobs) $(call at,$(DRIVERDIR)) \
		$(call at,$(INCLUDEDIR)/distworker) $(call at,$(CMAKEDIR)) $(call at,$(SCHEMADIR)) \
		$(call at,$(PREFIX)/share/distworker); do \
		if [ -d "$$folder" ]; then rmdir --ignore-fail-on-non-empty "$$folder"; fi; done
	$(UPDATE_LOADER)

uninstall-module-source: check-folders
	rm -rf $(call at,$(MODULESOURCEDIR))
	rm -f $(foreach file,$(notdir $(wildcard kmod/*.rules)),$(call at,$(UDEVDIR)/$(file))) \
		$(call at,$(SYSUSERSDIR)/distworker.conf) $(call at,$(MODULESLOADDIR)/distworker.conf)

clean:
	rm -rf $(B)
	cd kmod && rm -rf *.o *.ko *.mod *.mod.c .*.cmd .tmp_versions Module.symvers modules.order

help:
	@sed -n 's/^##//p' $(firstword $(MAKEFILE_LIST))

-include $(shell find $(B) -name '*.d' 2>/dev/null)
