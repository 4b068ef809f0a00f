# SPDX-License-Identifier: LGPL-2.1-only OR MIT
# shellcheck shell=bash
#
# common.sh: what the scripts of tests/vm share. Sourced, never run.
#
# Owns the place of the cache, the way to say "this failed, because", and the way to get a missing tool: from the
# machine's own apt, as root or through sudo, and else by naming the packages. Nothing here knows a host name.

# Everything that is downloaded or built lies here and may be removed at any time.
DW_CACHE=${DW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/distworker}

# More options for QEMU: a stub for gdb (docs/contributing.md).
# shellcheck disable=SC2034
DW_QEMU=${DW_QEMU:-}

# Exit codes of tests/vm/run that are not the command's own; README.md lists them.
# shellcheck disable=SC2034
readonly EXIT_KERNEL=120 EXIT_GUEST=121 EXIT_SETUP=122 EXIT_USAGE=123 EXIT_TIMEOUT=124

# The architecture NAME in Debian's words; NAME may be the kernel's word for it, uname's, or a compiler's target.
architecture() {
	case $1 in
	amd64 | x86 | x86_64*) echo amd64 ;;
	arm64 | aarch64*) echo arm64 ;;
	riscv | riscv64*) echo riscv64 ;;
	*) die "no architecture '$1'; known are: amd64 arm64 riscv64" ;;
	esac
}

# This machine's architecture: the compiler's target, which need not be the kernel's (a 32-bit system, a container).
machine_architecture() {
	architecture "$(gcc -dumpmachine 2>/dev/null || dpkg --print-architecture 2>/dev/null || uname -m)"
}

# The architecture that the tests are for: ARCH, or this machine's.
target_architecture() {
	if [ -n "${ARCH-}" ]; then
		architecture "$ARCH"
	else
		machine_architecture
	fi
}

# architecture_word WORD [ARCHITECTURE]: how others name the target; triplet: gcc and the folders of libraries;
# file: the program of that name; kernel: its Makefile; qemu: the program QEMU; package: Debian's package of it.
architecture_word() {
	local name=${2:-$(target_architecture)}
	case $1-$name in
	triplet-amd64) echo x86_64-linux-gnu ;;
	triplet-arm64) echo aarch64-linux-gnu ;;
	triplet-riscv64) echo riscv64-linux-gnu ;;
	file-amd64) echo x86-64 ;;
	file-arm64) echo aarch64 ;;
	file-riscv64) echo RISC-V ;;
	kernel-amd64) echo x86 ;;
	kernel-arm64) echo arm64 ;;
	kernel-riscv64) echo riscv ;;
	qemu-amd64) echo qemu-system-x86_64 ;;
	qemu-arm64) echo qemu-system-aarch64 ;;
	qemu-riscv64) echo qemu-system-riscv64 ;;
	package-amd64) echo qemu-system-x86 ;;
	package-arm64) echo qemu-system-arm ;;
	package-riscv64) echo qemu-system-misc ;;
	esac
}

# Whether the target is another than this machine: cross compilers, in a chroot (tests/vm/chroot).
is_foreign() { [ "$(target_architecture)" != "$(machine_architecture)" ]; }

# The release whose chroot builds programs for the target and runs QEMU: this machine's own, or the first that has it.
target_release() {
	case $(target_architecture)-$(own_kernel) in
	riscv64-* | *-6.12) echo trixie ;;
	*) echo bookworm ;;
	esac
}

# in_target COMMAND...: with the target's compilers, libraries and QEMU: in its chroot, where this work tree, the folder $B
# and the cache have the same names. A target that is this machine needs none.
in_target() {
	local top binds=() words=() word triplet
	top=$(realpath "${BASH_SOURCE[0]%/*}/../..")
	if ! is_foreign || [ -n "${DW_IN_TARGET-}" ]; then
		(cd "$top" && "$@")
		return
	fi
	for word in "$top" "$DW_CACHE" ${B:+"$B"}; do
		mkdir -p "$word"
		binds+=(--bind "$word:$word")
	done
	triplet=$(architecture_word triplet)
	for word in B UNIT_SLOW UNIT_UPTIME DISTWORKER_HANDOVERS DW_QEMU; do
		[ -z "${!word-}" ] || words+=("$word=${!word}")
	done
	# shellcheck disable=SC2016 # the $ is the inner shell's
	"$top/tests/vm/chroot" --shared "${binds[@]}" "$(target_release)-$(target_architecture)" env "${words[@]}" \
		DW_IN_TARGET=yes "DW_CACHE=$DW_CACHE" "ARCH=$(target_architecture)" "CROSS_COMPILE=$triplet-" \
		"CC=$triplet-gcc" "CXX=$triplet-g++" "AR=$triplet-ar" sh -c 'cd "$1" && shift && exec "$@"' sh "$top" "$@"
}

# The kernel of this machine's own release (tests/vm/kernel); "" where it is none of Debian's that the table has.
own_kernel() {
	# shellcheck disable=SC1091 # not of this project
	case $(. /etc/os-release 2>/dev/null && echo "${ID-}-${VERSION_CODENAME-}") in
	debian-bookworm) echo 6.1 ;;
	debian-trixie) echo 6.12 ;;
	esac
}

# need_own_kernel: the same, or the end.
need_own_kernel() {
	local name
	name=$(own_kernel)
	[ -n "$name" ] || die "tests/vm/kernel has no kernel for this machine's release: Debian 12 or 13 is needed"
	echo "$name"
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit "$EXIT_USAGE"; }

# as_root COMMAND...: run it as root, or fail without asking for a password.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		return 1
	fi
}

# apt_install PACKAGE...: fails with one sentence that names the packages. Nothing is removed for them: gcc-multilib would
# take away cross compilers, without a word.
apt_install() {
	local log
	log=$(mktemp)
	say "installing $* (apt-get)"
	if as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-remove --no-install-recommends "$@" >"$log" 2>&1 ||
	   { as_root apt-get update >>"$log" 2>&1 &&
	     as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-remove --no-install-recommends "$@" >>"$log" 2>&1; }
	then
		rm -f "$log"
		return 0
	fi
	tail -n 5 "$log" >&2
	rm -f "$log"
	die "missing packages: $*; install them as root: apt-get install $*"
}

# need_tools TOOL:PACKAGE...: install the packages of those tools that are not there.
need_tools() {
	local pair missing=()
	for pair; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# apt_download FOLDER PACKAGE...: the .deb files of the packages, for any user; sets nothing up.
apt_download() {
	local folder=$1 log options=()
	shift
	[ "$(id -u)" -ne 0 ] || options=(-o APT::Sandbox::User=root)
	log=$(mktemp)
	if (cd "$folder" && apt-get "${options[@]}" download "$@") >"$log" 2>&1 ||
	   { as_root apt-get update >>"$log" 2>&1 &&
	     (cd "$folder" && apt-get "${options[@]}" download "$@") >>"$log" 2>&1; }
	then
		rm -f "$log"
		return 0
	fi
	tail -n 5 "$log" >&2
	rm -f "$log"
	die "cannot download $*: is apt configured and are its lists there (apt-get update)?"
}

# archive LABEL: the address of that archive of Debian in this machine's apt sources.
archive() {
	# shellcheck disable=SC2016 # the $ is apt's
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
		awk -F'|' -v label="$1" '$1 == "Debian" && $2 == label { print $3; exit }'
}

# archive_sources SUITE: lines of a sources.list; those of a suite-backports are its base's with one more.
archive_sources() {
	local base=${1%-backports} main security
	main=$(archive Debian)
	security=$(archive Debian-Security)
	[ -n "$main" ] || die "this machine's apt has no Debian archive, or its lists are missing (apt-get update)"
	echo "deb $main $base main"
	[ "$base" = "$1" ] || echo "deb $main $1 main"
	if [ -n "$security" ] && [ "$base" != sid ]; then
		echo "deb $security $base-security main"
	fi
}

# with_lock NAME [--shared]: hold the lock of that part of the cache until this shell ends (file descriptor 9).
with_lock() {
	mkdir -p "$DW_CACHE"
	exec 9>"$DW_CACHE/$1.lock"
	flock ${2:+"$2"} 9
}
