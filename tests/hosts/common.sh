# SPDX-License-Identifier: LGPL-2.1-only OR MIT
#
# Sourced by the rooms of tests/hosts: two hosts on this machine, a (10.77.0.1) and b (10.77.0.2),
# with network and host names of their own; the file system and the CPUs are one.
#
#   enter SCRIPT SECONDS PROGRAMS -- WORD...   outside: runs `SCRIPT --inside FOLDER WORD...` as
#                                              process 1 of namespaces made for it, and exits with
#                                              its status. Its end ends every process in them.
#   two_hosts                                  inside, on host a: makes host b
#   on_b COMMAND...                            inside: on host b

unavailable() {
	echo "$1" >&2
	exit 77
}

enter() {
	local script=$1 seconds=$2 program folder
	shift 2
	PATH=$PATH:/usr/sbin:/sbin
	[ "$(id -u)" -eq 0 ] || unavailable "other hosts are namespaces here, which need root"
	for program in ip unshare nsenter $1; do
		command -v "$program" >/dev/null || unavailable "$program is not installed"
	done
	unshare --mount --net --uts --pid --fork true 2>/dev/null || unavailable "namespaces are refused"
	shift 2
	folder=$(mktemp -d /tmp/dw-hosts-XXXXXX)
	# shellcheck disable=SC2064 # the folder is known now
	trap "rm -rf '$folder'" EXIT
	chmod 755 "$folder"
	timeout --foreground -k 5 "$seconds" \
		unshare --mount --net --uts --pid --fork --kill-child --mount-proc \
		"$script" --inside "$folder" "$@"
	exit
}

# failed WHY FILE...: with what was logged.
failed() {
	echo "$1" >&2
	shift
	tail -n 15 "$@" >&2
	exit 70
}

# until_true TRIES COMMAND...: for programs that do not report when they are ready.
until_true() {
	local tries=$1
	shift
	until "$@" >/dev/null 2>&1; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

on_b() { nsenter --target "$b" --uts --net --mount -- "$@"; }

b_is_apart() {
	[ "$(readlink "/proc/$b/ns/net")" != "$(readlink /proc/1/ns/net)" ] && [ "$(cat "/proc/$b/comm")" = sleep ]
}

two_hosts() {
	hostname a
	ip link set lo up
	unshare --uts --net --mount sleep infinity </dev/null >/dev/null 2>&1 &
	b=$!
	until_true 100 b_is_apart || failed "there are no namespaces for host b"
	on_b hostname b &&
		ip link add dw0 type veth peer name dw1 && ip link set dw1 netns "$b" &&
		ip addr add 10.77.0.1/24 dev dw0 && ip link set dw0 up && on_b ip link set lo up &&
		on_b ip addr add 10.77.0.2/24 dev dw1 && on_b ip link set dw1 up ||
		failed "there is no network between the hosts"
}
