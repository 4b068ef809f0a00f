# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""What the module does, in two guests with Debian's kernel.

counted: one CPU under -icount, where a nanosecond of guest time is an instruction.
pair: two CPUs that run at once, for what needs both sides to run: calls per task, deaths. Its times are those of an
emulator; they only mean something beside each other.
"""
import os
import shutil
import subprocess

COUNTED = """
# Medians of programs that print "name value" once per run: as "label.name value".
repeat() {{ label=$1; shift; for k in $(seq {repeats}); do "$@" | sed "s/^/$label./"; done; }}
bench={B}/bench
$bench/guest --repeats {repeats} | awk '{{ print "guest." $1, $2 }}'
for provider in kernel futex; do
	export DW_PROVIDER=$provider
	echo "mailbox.$provider" $($bench/raw -r 1 -p $provider mailbox-1cpu | awk '{{ print $2 * 1000 }}')
	repeat trip_$provider $bench/pipeline trip --tasks 500
	repeat burst_$provider $bench/pipeline burst --tasks 20000 --warm 5000
done
"""

PAIR = """
bench={B}/bench
all() {{
	once death_$1 $bench/death $2 --deaths 100
	once own_$1 $bench/death $2 --deaths 3 --mib 1024
	once shared_$1 $bench/death $2 --deaths 3 --mib 1024 --shared 1
}}
once() {{ label=$1; shift; "$@" | sed "s/^/$label./"; }}
all pidfd pidfd
for provider in kernel futex; do
	export DW_PROVIDER=$provider
	all $provider task
	for k in $(seq {repeats}); do
		once burst_$provider $bench/pipeline burst --tasks 100000 --warm 50000
	done
done
"""


def kernel_build(kernel):
    done = subprocess.run(["tests/vm/kernel", kernel, "build"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no kernel headers"])[-1])
    return done.stdout.strip()


def build_module(B, kernel="6.1"):
    """A copy is built, so that other builds of kmod/ are left alone."""
    copy = os.path.abspath(f"{B}/bench/kmod")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree("kmod", copy, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.mod*", "modules.order",
                                                               "Module.symvers"))
    done = subprocess.run(["make", "-C", copy, f"KDIR={kernel_build(kernel)}"], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise RuntimeError("the module does not build: " + done.stderr.strip()[-300:])
    return f"{copy}/distworker.ko"


def run(B, script, options, repeats):
    module = build_module(B)
    path = os.path.abspath(f"{B}/bench/guest.sh")
    with open(path, "w") as file:
        file.write(script.format(B=B, repeats=repeats))
    command = ["tests/vm/run", *options, "--module", module]
    for added in [*(f"{B}/bench/{name}" for name in ("guest", "raw", "pipeline", "death")),
                  f"{B}/libdistworker.so.0", path]:
        command += ["--add", added]
    command += ["--", "env", f"LD_LIBRARY_PATH={os.path.abspath(B)}", "sh", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env=dict(os.environ, LD_LIBRARY_PATH=os.path.abspath(B)))
    if done.returncode:
        raise RuntimeError("the guest failed: " + (done.stdout + done.stderr).strip()[-300:])
    yield from samples_of(done.stdout)


def samples_of(text):
    """The k-th yield has the k-th sample of every name."""
    samples = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 2 and "." in parts[0]:
            samples.setdefault(parts[0].replace(".", "_"), []).append(float(parts[1]))
    for k in range(max(map(len, samples.values()), default=0)):
        yield {name: values[k] for name, values in samples.items() if k < len(values)}


def counted(B, quick):
    yield from run(B, COUNTED, ["--icount", "--memory", "2048", "--timeout", "600"], 2 if quick else 5)


def pair(B, quick):
    yield from run(B, PAIR, ["--cpus", "2", "--memory", "3072", "--timeout", "400"], 2 if quick else 5)
