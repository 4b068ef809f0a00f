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

# apt_install PACKAGE...: fails with one sentence that names the packages.
apt_install() {
	local log
	log=$(mktemp)
	say "installing $* (apt-get)"
	if as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
	   { as_root apt-get update >>"$log" 2>&1 &&
	     as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; }
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

# with_lock NAME: hold the lock of that part of the cache until this shell ends (file descriptor 9).
with_lock() {
	mkdir -p "$DW_CACHE"
	exec 9>"$DW_CACHE/$1.lock"
	flock 9
}
