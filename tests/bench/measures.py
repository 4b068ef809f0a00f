# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""What tests/bench/run runs: one program per measure, and the special ones.

MEASURES: name → command; each run prints or yields metrics, once per repeat.
SPECIAL: name → function(B, repeats) that yields metrics: guests, strace, callgrind.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Callable, Optional

import guests


@dataclass
class Measure:
    command: list
    repeats: int = 0                # 0: as many as all
    environment: dict = field(default_factory=dict)
    parse: Optional[Callable] = None


def program(text, **more):
    words = text.split()
    return Measure([f"@B@/bench/{words[0]}", *words[1:]], **more)


def starpu(text, workers, **more):
    return program(text, environment={"STARPU_NCPU": str(workers)}, **more)


def omp(text, threads):
    return program(text, environment={"OMP_NUM_THREADS": str(threads)})


def parse_raw(text):
    found = re.search(r"^\S+\s+([\d.]+)", text, re.M)
    return {"value": [float(found.group(1))]}


def raw(name):
    return Measure(["@B@/bench/raw", "-r", "1", "-p", "futex", name], parse=parse_raw)


def parse_job(text):
    return {"seconds": [json.loads(text)["seconds"]]}


def parse_tree(text):
    job = json.loads(text)
    return {"ms": [1000 * job["seconds"]], "cpu_ms": [1000 * job["busy"]["cpu_seconds"]],
            "weights": [int(job["results"]["weights"], 16)]}


def loops(count):
    return program(f"digits @B@/jobs/kernels/digits.so tools/jobs/digits.csv.gz --loops {count}")


def digits(chips):
    return Measure(["@B@/distworker", "run", "digits", "--nodes", "1", "--chips", str(chips), "--subs", "2",
                    "--driver", "sim", "--json", "-q"], parse=parse_job)


TRACE = os.path.abspath(os.path.join(os.environ.get("B", "build"), "bench", "trace.json"))

# Two processes of one host, which talk as two hosts would.
MPIRUN = ["mpirun", "--oversubscribe", "--mca", "btl", "tcp,self", "-n"]
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def mpi(text, **more):
    words = text.split()
    return Measure([*MPIRUN, "2", f"@B@/bench/{words[0]}", *words[1:]], environment={**MPI, **more})


def digits_on(nodes, launcher=()):
    return Measure([*launcher, "@B@/distworker", "run", "digits", *([] if launcher else ["--nodes", str(nodes)]),
                    "--chips", "2", "--subs", "2", "--driver", "sim", "--user", "root", "--json", "-q"],
                   environment=MPI if launcher else {}, parse=parse_job)


def death(ways, **more):
    return {f"death_{way}_{label}": program(f"death {way} {options}", **more)
            for way in ("task", "pidfd") for label, options in ways.items()}


MEASURES = {
    # Throughput and latency.
    "burst1": program("pipeline burst"),
    "burst1_traced": program("pipeline burst", environment={"DW_TRACE": TRACE}),
    "burst8": program("pipeline burst --children 8"),
    "burst16": program("pipeline burst --children 16"),
    "burst256": program("pipeline burst --children 256"),
    "chain1": program("pipeline chain --tasks 300000"),
    "chain4": program("pipeline chain --tasks 100000 --children 4"),
    "chips4": program("nested chips --children 4 --tasks 5000"),
    "workers4": program("nested workers --children 4 --tasks 5000"),
    "directed1": program("nested burst --children 1"),
    "directed16": program("nested burst --children 16"),
    "trip": program("pipeline trip"),
    "trip1cpu": program("pipeline trip --cpus 1"),
    "submit": program("pipeline submit"),
    "replay": program("pipeline replay"),
    "resubmit": program("pipeline resubmit"),
    "chip1": program("chip --block-dim 1"),
    "chip3": program("chip --block-dim 3"),
    # Peers.
    "starpu_burst1": starpu("starpu burst", 1),
    "starpu_burst2": starpu("starpu burst", 2),
    "starpu_burst8": starpu("starpu burst --tasks 50000", 8),
    "starpu_chain1": starpu("starpu chain", 1),
    "starpu_trip1": starpu("starpu trip --tasks 5000", 1),
    "starpu_submit1": starpu("starpu submit --tasks 30000", 1),
    "omp_burst2": omp("omp burst", 2),
    "omp_chain1": omp("omp chain", 1),
    "omp_chain2": omp("omp chain", 2),
    "raw_spin": raw("spin"),
    "raw_futex": raw("futex"),
    "raw_eventfd": raw("eventfd"),
    "raw_pipe": raw("pipe"),
    "raw_socket": raw("socket"),
    "raw_futex_1cpu": raw("futex-1cpu"),
    "raw_mailbox": raw("mailbox"),
    "raw_chain4": raw("chain4"),
    "raw_burst1": raw("burst1"),
    **{f"tbb_{mode}{n}": program(f"tbb {mode} --threads {n}")
       for mode, n in (("burst", 2), ("chain", 2), ("metg", 1), ("metg", 2))},
    "zeromq": program("zeromq ipc"),
    "zeromq_threads": program("zeromq inproc"),
    "mpi_shared": Measure(["mpirun", "--oversubscribe", "-n", "2", "@B@/bench/mpi"], environment=MPI),
    "multiprocessing": Measure(["python3", "tests/bench/multiprocessing_trip.py"]),
    # Beside others, and when there is little to do.
    "busy1": program("pipeline burst --busy 2 --tasks 500000", repeats=20),
    "idle": program("nested idle --seconds 10"),
    "sparse_task": program("sparse task"),
    "sparse_futex": program("sparse futex"),
    # Growth.
    "grow5": program("pipeline growth --tasks 100000"),
    "grow6": program("pipeline growth --tasks 1000000"),
    "grow7": program("pipeline growth --tasks 10000000"),
    "runs": program("pipeline runs --tasks 10000"),
    "tree2": program("nested tree --levels 2"),
    "tree4": program("nested tree --levels 4"),
    # Work.
    "metg1": program("metg --children 1"),
    "metg2": program("metg --children 2"),
    "metg8": program("metg --children 8"),
    "metg_starpu1": starpu("metg_starpu", 1),
    "metg_starpu2": starpu("metg_starpu", 2),
    "cholesky64": program("cholesky --side 64"),
    "cholesky128": program("cholesky --side 128"),
    "cholesky_starpu64": starpu("cholesky_starpu --side 64", 2),
    "cholesky_starpu128": starpu("cholesky_starpu --side 128", 2),
    "digits1": digits(1),
    "digits2": digits(2),
    "digits4": digits(4),
    "digits_tree": Measure(["@B@/distworker", "run", "digits", "--driver", "sim", "--json", "-q"], parse=parse_tree),
    "digits_loop1": loops(1),
    "digits_loop2": loops(2),
    # Other hosts.
    "hosts_tcp": program("hosts tcp"),
    "hosts_local": program("hosts local"),
    "hosts_remote": program("hosts remote"),
    "hosts_mpi": mpi("mpi"),
    "hosts_starpu": mpi("starpu_mpi --count 200", STARPU_NCPU="1", STARPU_SILENT="1"),
    "hosts_tcp_busy": program("hosts tcp --busy 2 --count 2000"),
    "hosts_local_busy": program("hosts local --busy 2 --count 2000"),
    "hosts_remote_busy": program("hosts remote --busy 2 --count 2000"),
    "hosts_tcp_mib": program("hosts tcp --bytes 1048576 --count 500"),
    "hosts_remote_mib": program("hosts remote --bytes 1048576 --count 500"),
    "hosts_ucx_mib": program("hosts remote --bytes 1048576 --count 500",
                             environment={"DW_NET": "ucx", "UCX_TLS": "tcp,self"}),
    "hosts_mpi_mib": mpi("mpi --bytes 1048576 --count 500"),
    "hosts_starpu_mib": mpi("starpu_mpi --bytes 1048576 --count 200", STARPU_NCPU="1", STARPU_SILENT="1"),
    "hosts_idle": program("hosts idle --seconds 10"),
    **{f"hosts_digits{n}": digits_on(n, [*MPIRUN, str(n + 1)]) for n in (1, 2, 4)},
    **{f"local_digits{n}": digits_on(n) for n in (1, 2, 4)},
    # Death. All deaths of all runs make one pool; the last group is slow.
    **death({"plain": "--deaths 40"}),
    **death({"8": "--deaths 40 --siblings 8", "16": "--deaths 40 --siblings 16"}),
    **death({"shared": "--deaths 5 --mib 1024 --shared 1", "own": "--deaths 5 --mib 1024"}),
}

# ------------------------------------------------------------------ counting

def strace_calls(B, tasks, folder):
    path = f"{folder}/strace"
    subprocess.run(["strace", "-c", "-f", "-o", path, f"{B}/bench/pipeline", "burst", "--tasks", str(tasks)],
                   check=True, capture_output=True, env=dict(os.environ, DW_PROVIDER="futex"))
    with open(path) as file:
        for line in file:
            parts = line.split()
            if parts and parts[-1] == "total":
                return int(parts[3]) if len(parts) >= 5 else int(parts[2])
    raise RuntimeError("strace printed no total")


def system_calls(B, repeats):
    """System calls of all processes, per task: the difference between a longer burst and a shorter one."""
    if not shutil.which("strace"):
        raise guests.Absent("strace is not installed")
    few, many = 200000, 1200000
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            more = strace_calls(B, many, folder) - strace_calls(B, few, folder)
            yield {"per_task": more / (many - few)}


# Which step of a task's life a function belongs to.
STEPS = {
    "submit": r"^(dw_submit|dw_replay|post_next|post_some|post_all|graph_task_again|payload_again|add_from_before|add_none|submit_|orch_|edges_|add_edge|payload_make|task_new|graph_task_new|graph_enter|tensor_|note$|"
              r"callable_hold|dw_args|args_|wire_[^d]|arena_contains|process_serial|scope_[^p]|map_|range_|edge_)",
    "dispatch": r"^(schedule_|chain$|dispatch|post$|ring_post|ring_added|ring_publish|rings_publish|ring_update|"
                r"ring_request|engine_work|hub_acquire|hub_publish|hub_fail_epoch|hub_wake|hub_mark|hub_request|notify_hub|"
                r"estimate_of|balance|pick|revoke_|task_try|straggler|attend|ask_for|request_|any_waiting|lock_|"
                r"engine_unlock|waiters_|memcpy|__memcpy|memset|__memset)",
    "completion": r"^(ring_next|progress_harvest|graph_hub_harvest|hub_harvest|hub_next|graph_completed|graph_settle|"
                  r"graph_free_task|handle_|task_free|payload_free|callable_put|callable_release|release_|"
                  r"estimate_learn|group_|scope_put)",
    "child": r"^(serve|run_task|call_|endpoint_|resolve|frame_args|callable_get|callable_held|running_|status_works|"
             r"status_|sub_nothing|wire_decode|now_ns|child_|publish_done|publish_|read_|check_notify)",
    "wait": r"^(spin|hub_wait|hub_completions|foreground|spin_briefly|passed|classify|spin_time|wait_|futex|syscall|event_|"
            r"parent_wrote|drive|run_drain|spin_)",
}


def self_costs(path):
    """Instructions by function of one callgrind file, callees not included."""
    costs, names, current, skip = {}, {}, None, False
    with open(path, errors="replace") as file:
        for line in file:
            if line.startswith("fn="):
                found = re.match(r"fn=\((\d+)\)(?: (.*))?", line)
                if found.group(2):
                    names[found.group(1)] = found.group(2).strip()
                current = names.get(found.group(1), "?")
            elif line.startswith("cfn="):
                found = re.match(r"cfn=\((\d+)\)(?: (.*))?", line)
                if found.group(2):
                    names[found.group(1)] = found.group(2).strip()
            elif line.startswith("calls="):
                skip = True
            elif line[:1] in "0123456789+-*" and current:
                if not skip:
                    costs[current] = costs.get(current, 0) + int(line.split()[1])
                skip = False
    return costs


def callgrind_run(mode, B, tasks, folder, warm=2000):
    for old in glob.glob(f"{folder}/out*"):
        os.unlink(old)
    subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={folder}/out.%p",
                    "--fair-sched=yes", f"{B}/bench/pipeline", mode, "--tasks", str(tasks), "--warm", str(warm)],
                   check=True, capture_output=True, env=dict(os.environ, BENCH_THREADS="1", DW_PROVIDER="futex"))
    total = {}
    for path in glob.glob(f"{folder}/out*"):
        for name, cost in self_costs(path).items():
            total[name] = total.get(name, 0) + cost
    return total


def instructions(mode, B):
    few, many = 10000, 30000
    # Of a graph that is replayed the warm-up is a run that records it, and a replay.
    warm = 20000 if mode in ("replay", "resubmit") else 2000
    if warm > few:
        few, many = warm, 3 * warm
    with tempfile.TemporaryDirectory() as folder:
        before = callgrind_run(mode, B, few, folder, warm)
        after = callgrind_run(mode, B, many, folder, warm)
    per_task = {name: (cost - before.get(name, 0)) / (many - few) for name, cost in after.items()}
    # The warm-up of `submit` mode is three equal runs.
    scale = 3 if mode == "submit" else 1
    steps = dict.fromkeys([*STEPS, "rest"], 0.0)
    for name, cost in per_task.items():
        step = next((s for s, pattern in STEPS.items() if re.match(pattern, name)), "rest")
        steps[step] += cost / scale
    steps["without_wait"] = sum(cost for step, cost in steps.items() if step != "wait")
    if os.environ.get("BENCH_FUNCTIONS"):
        for name, cost in sorted(per_task.items(), key=lambda item: -item[1])[:45]:
            step = next((s for s, pattern in STEPS.items() if re.match(pattern, name)), "rest")
            print(f"# {mode}: {cost / scale:9.1f} {step:<10} {name}")
    return steps


def callgrind(mode):
    """Per task, by step. Children are threads: valgrind does not know pidfd_open."""
    def measure(B, repeats):
        if not shutil.which("valgrind"):
            raise guests.Absent("valgrind is not installed")
        # Three at most: it is slow, and only what depends on how threads take turns (dispatch) varies.
        for _ in range(min(repeats, 3)):
            yield instructions(mode, B)
    return measure


SPECIAL = {
    "calls": system_calls,
    "instructions_burst": callgrind("burst"),
    "instructions_submit": callgrind("submit"),
    "instructions_replay": callgrind("replay"),
    "instructions_resubmit": callgrind("resubmit"),
    "guest": guests.counted,
    "newer": guests.newer,
    "pair": guests.pair,
}
