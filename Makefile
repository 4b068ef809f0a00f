# SPDX-License-Identifier: LGPL-2.1-only OR MIT
#
# Everything that is built lies under $(B).
#
## make               library, drivers, tool, jobs, examples
## make run           the main job, with all set-up
## make check         all tests, with all set-up (about 20 minutes on 2 cores)
## make module        the kernel module (KDIR=: other headers than the running kernel's)
## make install       DESTDIR= PREFIX= ; both of the next
## make install-user  library, headers, .pc, drivers, tool (without root: PREFIX=$HOME/...)
## make install-module-source   the module's sources for DKMS, with its group and udev rule
## make uninstall     DESTDIR= PREFIX= ; takes away what install has put there (uninstall-user: without the module's part)
## make kselftest     the module's selftests, in a guest
## make check-kernels the same on every kernel that tests/vm/kernel lists (DISTWORKER_HANDOVERS=1000000: long hunts)
## make check-debug-kernel   everything on kernels with KASAN, lockdep, KCSAN …
## make static        cppcheck, clang-tidy; checkpatch, sparse, W=1, coccicheck; the documentation of the module
## make fuzz-module   SECONDS=60: fuzzing of the module in a guest
## make stress        SECONDS=60: random kills under load
## make fuzz          SECONDS=60: libFuzzer on each parser, so long each
## make bench         side by side with StarPU, libgomp, futex, eventfd, pipe
## make clean

VERSION := $(shell cat VERSION)
MAJOR := $(firstword $(subst ., ,$(VERSION)))
B ?= build
CC ?= gcc

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DRIVERDIR ?= $(LIBDIR)/distworker

# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' '$(1)' '$@')

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
# Instrumented code confuses these two analyses.
WARNINGS += $(if $(SANITIZE),-Wno-format-truncation -Wno-maybe-uninitialized)
CFLAGS ?= -O2 -g
# -ffp-contract=off: a result has the same bits on every machine.
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -fPIC -pthread -ffp-contract=off -fvisibility=hidden \
	$(WARNINGS) -Ilib/include -Ikmod/uapi -Ilib/src -DDW_BUILDING_LIBRARY \
	-DDW_VERSION='"$(VERSION)"' -DDW_DRIVER_DIR='"$(DRIVERDIR)"' -MMD -MP $(CFLAGS) $(SANITIZE)
LINK := $(CC) -pthread $(CFLAGS) $(SANITIZE) $(LDFLAGS)
USER_CFLAGS := $(filter-out -DDW_BUILDING_LIBRARY,$(ALL_CFLAGS))

LIB_SRC := $(wildcard $(foreach layer,base task mailbox memory depend callable engine trace worker chip,\
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
TOOL_OBJ := $(patsubst %.c,$(B)/%.o,$(wildcard tools/*.c))
JOB_SO := $(patsubst tools/jobs/%.c,$(B)/jobs/%.so,$(wildcard tools/jobs/*.c))
KERNEL_SO := $(patsubst tools/jobs/kernels/%.c,$(B)/jobs/kernels/%.so,$(wildcard tools/jobs/kernels/*.c))
KERNEL_CL := $(patsubst tools/jobs/kernels/%.cl,$(B)/jobs/kernels/%.cl,$(wildcard tools/jobs/kernels/*.cl))
JOB_DATA := $(B)/jobs/digits.csv.gz
EXAMPLES := $(patsubst docs/examples/%.c,$(B)/examples/%,$(wildcard docs/examples/*.c))

UNIT := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c))
RUNTIME := $(patsubst %.c,$(B)/%,$(wildcard tests/runtime/test_*.c))
FIXTURE_SO := $(patsubst %.c,$(B)/%.so,$(wildcard tests/runtime/fixtures/*.c tests/unit/fixtures/*.c))
EXAMPLE_DRIVER_SO := $(patsubst docs/examples/chip-driver/%.c,$(B)/examples/libdistworker-chip-%.so,\
	$(wildcard docs/examples/chip-driver/*.c))

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all module tests drivers clean
all: $(LIB) $(DRIVER_SO) $(TOOL) $(JOB_SO) $(KERNEL_SO) $(KERNEL_CL) $(JOB_DATA) $(EXAMPLES)
drivers: $(DRIVER_SO)
tests: $(UNIT) $(RUNTIME) $(FIXTURE_SO) $(EXAMPLE_DRIVER_SO)

# ------------------------------------------------------------------ library

$(B)/lib/%.o: lib/%.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@

$(LIB).$(MAJOR): $(LIB_OBJ) lib/distworker.map
	$(call say,LD)
	$(Q)$(LINK) -shared -Wl,-soname,libdistworker.so.$(MAJOR) -Wl,--version-script=lib/distworker.map \
		-Wl,-z,defs $(LIB_OBJ) $(LIB_LIBS) -o $@
$(LIB): $(LIB).$(MAJOR)
	@ln -sf $(notdir $<) $@
$(LIB_STATIC): $(LIB_OBJ)
	@rm -f $@ && ar rcs $@ $^

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
$(TOOL): $(TOOL_OBJ) $(LIB)
	$(call say,LD)
	$(Q)$(LINK) $(TOOL_OBJ) -L$(B) -ldistworker -ljson-c -ldl -lm -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib' -o $@
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

# -------------------------------------------------------------------- tests

$(B)/tests/unit/%: tests/unit/%.c $(LIB_STATIC)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(ALL_CFLAGS) -MF $@.d $< $(LIB_STATIC) $(LIB_LIBS) -lm -o $@
$(B)/tests/runtime/%: tests/runtime/%.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $@.d $< -L$(B) -ldistworker $(TEST_LIBS) -lm -Wl,-rpath,'$$ORIGIN/../..' -o $@
$(B)/tests/runtime/test_trace: TEST_LIBS := -ljson-c
$(B)/tests/runtime/fixtures/%.so: tests/runtime/fixtures/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -fvisibility=default -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/tests/unit/fixtures/%.so: tests/unit/fixtures/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -fvisibility=default -Wl,--build-id -Wl,-Bsymbolic -shared $< -o $@
$(B)/examples/libdistworker-chip-%.so: docs/examples/chip-driver/%.c
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(LINK) $(USER_CFLAGS) -MF $(@:.so=.d) -shared $< -o $@

# ---------------------------------------------------------------- main jobs

.PHONY: help run check kselftest check-kernels check-debug-kernel bench stress fuzz setup-build setup-check static fuzz-module

setup-build setup-check setup-guest setup-bench: setup-%:
	@tests/setup $*

# The main job: digits on L4 → 2 × L3 → 2 sim chips each, then what an idle tree costs.
RUN_ARGS ?= digits --nodes 2 --chips 2 --subs 2 --driver sim --idle-seconds 5
run: setup-build
	@$(MAKE) --no-print-directory all
	$(TOOL) run $(RUN_ARGS)

check: setup-check
	@$(MAKE) --no-print-directory all tests
	@B=$(B) MAKE="$(MAKE)" tests/check

kselftest: setup-guest
	tests/selftests/guest

check-kernels: setup-guest
	tests/vm/matrix

static: setup-check
	tests/static/library
	tests/static/module
	tests/static/documentation

fuzz-module: setup-guest
	tests/fuzz/run --seconds $(SECONDS)

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
DKMS_SOURCE := $(DESTDIR)/usr/src/distworker-$(VERSION)

.PHONY: install install-user install-module-source uninstall uninstall-user uninstall-module-source
install: install-user install-module-source

install-user: all
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(DRIVERDIR) $(DESTDIR)$(PKGCONFIGDIR) \
		$(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/distworker \
		$(DESTDIR)$(PREFIX)/include/linux $(DESTDIR)$(DRIVERDIR)/jobs/kernels
	$(INSTALL) -m 755 $(LIB).$(MAJOR) $(DESTDIR)$(LIBDIR)
	ln -sf libdistworker.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libdistworker.so
	$(INSTALL) -m 755 $(DRIVER_SO) $(DESTDIR)$(DRIVERDIR)
	$(INSTALL) -m 755 $(JOB_SO) $(DESTDIR)$(DRIVERDIR)/jobs
	$(INSTALL) -m 755 $(KERNEL_SO) $(DESTDIR)$(DRIVERDIR)/jobs/kernels
	$(INSTALL) -m 644 $(KERNEL_CL) $(DESTDIR)$(DRIVERDIR)/jobs/kernels
	$(INSTALL) -m 644 $(JOB_DATA) tools/jobs/digits.README $(DESTDIR)$(DRIVERDIR)/jobs
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(INSTALL) -m 644 tools/completion.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/distworker
	$(INSTALL) -m 755 $(TOOL) $(DESTDIR)$(PREFIX)/bin
	$(INSTALL) -m 644 lib/include/distworker/*.h $(DESTDIR)$(PREFIX)/include/distworker
	$(INSTALL) -m 644 kmod/uapi/linux/distworker.h $(DESTDIR)$(PREFIX)/include/linux
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@DRIVERDIR@|$(DRIVERDIR)|; s|@VERSION@|$(VERSION)|' \
		lib/distworker.pc.in > $(DESTDIR)$(PKGCONFIGDIR)/distworker.pc
	$(UPDATE_LOADER)

# For DKMS: dkms add distworker/$(VERSION) && dkms install distworker/$(VERSION)
install-module-source:
	$(INSTALL) -d $(DKMS_SOURCE) $(DESTDIR)$(UDEVDIR) $(DESTDIR)$(SYSUSERSDIR) \
		$(DESTDIR)$(MODULESLOADDIR)
	$(INSTALL) -m 644 dkms.conf VERSION $(DKMS_SOURCE)
	rm -rf $(DKMS_SOURCE)/kmod && mkdir $(DKMS_SOURCE)/kmod
	cd kmod && cp -r Kbuild Makefile $(filter-out %.mod.c,$(notdir $(wildcard kmod/*.c))) *.h uapi \
		$(abspath $(DKMS_SOURCE))/kmod
	$(INSTALL) -m 644 kmod/*.rules $(DESTDIR)$(UDEVDIR)
	$(INSTALL) -m 644 kmod/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/distworker.conf
	$(INSTALL) -m 644 kmod/modules-load.conf $(DESTDIR)$(MODULESLOADDIR)/distworker.conf
	$(if $(DESTDIR),,getent group distworker >/dev/null || groupadd --system distworker)

uninstall: uninstall-user uninstall-module-source

uninstall-user:
	rm -rf $(DESTDIR)$(DRIVERDIR) $(DESTDIR)$(PREFIX)/include/distworker
	rm -f $(DESTDIR)$(LIBDIR)/libdistworker.so* $(DESTDIR)$(PKGCONFIGDIR)/distworker.pc \
		$(DESTDIR)$(PREFIX)/bin/distworker $(DESTDIR)$(PREFIX)/include/linux/distworker.h \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/distworker
	$(UPDATE_LOADER)

uninstall-module-source:
	rm -rf $(DKMS_SOURCE)
	rm -f $(DESTDIR)$(UDEVDIR)/*-distworker.rules $(DESTDIR)$(SYSUSERSDIR)/distworker.conf \
		$(DESTDIR)$(MODULESLOADDIR)/distworker.conf

clean:
	rm -rf $(B)
	cd kmod && rm -rf *.o *.ko *.mod *.mod.c .*.cmd .tmp_versions Module.symvers modules.order

help:
	@sed -n 's/^##//p' $(firstword $(MAKEFILE_LIST))

-include $(shell find $(B) -name '*.d' 2>/dev/null)
