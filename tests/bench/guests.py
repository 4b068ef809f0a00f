# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""What the module does, in three guests with Debian's kernels.

counted: one CPU under -icount, where a nanosecond of guest time is an instruction and idle time takes none of ours.
newer: as counted, of the bare calls alone, with a kernel that has io_uring's futexes.
pair: two CPUs that run at once, for what needs both sides to run: calls per task, deaths. Its times are those of an
emulator; they only mean something beside each other.
"""
import os
import shutil
import subprocess


class Absent(RuntimeError):
    """A tool is not installed: nothing is measured, which is no failure."""


class Failed(str):
    """Takes the place of samples: the reason why a run gave none."""


# once LABEL COMMAND: what it prints as "LABEL.name value", or that it failed.
ONCE = """
once() {
	label=$1
	shift
	if "$@" >/tmp/out 2>/tmp/err; then
		sed "s/^/$label./" /tmp/out
	else
		echo "failed $label status $? $(tail -n 1 /tmp/err)"
	fi
}
bench=@B@/bench
export DW_CHIP_PATH=@TOP@/@B@:@TOP@/@B@/bench BENCH_NULL_DRIVER=null BENCH_IMAGE=@TOP@/@B@/bench/vector_add.so
"""

COUNTED = ONCE + """
mailbox() { "$bench/raw" -r 1 -n 10000 -p "$1" mailbox-1cpu >/tmp/raw && awk '{ print "trip", $2 * 1000 }' /tmp/raw; }
once guest "$bench/guest" --repeats @REPEATS@
for k in $(seq @REPEATS@); do
	once sparse_bare "$bench/sparse" futex --tasks 500
	for provider in kernel futex; do
		export DW_PROVIDER=$provider
		once mailbox_$provider mailbox $provider
		once trip_$provider "$bench/pipeline" trip --tasks 500
		once burst_$provider "$bench/pipeline" burst --tasks 20000 --warm 5000
		once calls_$provider "$bench/pipeline" burst --tasks 20000 --warm 5000 --calls 1
		once sparse_$provider "$bench/sparse" task --tasks 500
		once idle_$provider "$bench/nested" idle --seconds 10
		once chain_$provider "$bench/nested" chips --children 4 --tasks 2000
	done
done
"""

NEWER = ONCE + """
once guest "$bench/guest" --repeats @REPEATS@
"""

PAIR = ONCE + """
deaths() {
	once death_$1 "$bench/death" $2 --deaths 20
	once death8_$1 "$bench/death" $2 --deaths 5 --siblings 8
	once death16_$1 "$bench/death" $2 --deaths 5 --siblings 16
	once own_$1 "$bench/death" $2 --deaths 1 --mib 1024
	once shared_$1 "$bench/death" $2 --deaths 1 --mib 1024 --shared 1
}
for k in $(seq @REPEATS@); do
	deaths pidfd pidfd
	for provider in kernel futex; do
		export DW_PROVIDER=$provider
		deaths $provider task
		once burst_$provider "$bench/pipeline" burst --tasks 100000 --warm 50000 --calls 1
	done
done
"""


def build_module(B, kernel):
    """A copy is built, so that other builds of kmod/ are left alone. With that kernel's own compiler."""
    copy = os.path.abspath(f"{B}/bench/kmod-{kernel}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree("kmod", copy, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.mod*", "modules.order",
                                                               "Module.symvers"))
    done = subprocess.run(["tests/vm/kernel", "--build", kernel, copy], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("the module does not build: " + (done.stdout + done.stderr).strip()[-300:])
    return f"{copy}/distworker.ko"


def run(B, script, options, repeats, kernel=None):
    if kernel is None:
        kernel = subprocess.run(["tests/vm/kernel", "--own"], capture_output=True, text=True, check=False).stdout.strip()
    module = build_module(B, kernel)
    path = os.path.abspath(f"{B}/bench/guest.sh")
    with open(path, "w") as file:
        file.write(script.replace("@B@", B).replace("@TOP@", os.getcwd()).replace("@REPEATS@", str(repeats)))
    command = ["tests/vm/run", "--kernel", kernel, *options, "--module", module]
    programs = ("guest", "raw", "pipeline", "death", "nested", "sparse", "vector_add.so",
                "libdistworker-chip-null.so")
    for added in [*(f"{B}/bench/{name}" for name in programs), f"{B}/libdistworker.so.0",
                  f"{B}/libdistworker-chip-sim.so", path]:
        command += ["--add", added]
    command += ["--", "env", f"LD_LIBRARY_PATH={os.path.abspath(B)}", "sh", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env=dict(os.environ, LD_LIBRARY_PATH=os.path.abspath(B)))
    yield from samples_of(done.stdout)
    if done.returncode:
        raise RuntimeError("the guest failed: " + (done.stdout + done.stderr).strip()[-300:])


def samples_of(text):
    """All samples of every "label.name", and which labels failed."""
    samples = {}
    for line in text.splitlines():
        parts = line.split()
        if parts[:1] == ["failed"] and len(parts) > 1:
            yield {parts[1]: Failed(" ".join(parts[2:]))}
        elif len(parts) == 2 and "." in parts[0]:
            samples.setdefault(parts[0].replace(".", "_"), []).append(float(parts[1]))
    yield samples


def counted(B, repeats):
    yield from run(B, COUNTED, ["--icount", "--memory", "2048", "--timeout", "600"], repeats)


def newer(B, repeats):
    yield from run(B, NEWER, ["--icount", "--memory", "1024", "--timeout", "600"], repeats, "6.12")


def pair(B, repeats):
    yield from run(B, PAIR, ["--cpus", "2", "--memory", "3072", "--timeout", "600"], repeats)
