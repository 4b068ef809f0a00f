# SPDX-License-Identifier: LGPL-2.1-only OR MIT
"""The rows of the table: which measure is the value, what stands beside it, what the target is.

Keys are "measure.metric" (measures.py). A ratio is made of medians of one run.
"""
from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass
class Row:
    name: str
    value: str
    unit: str
    target: str = ""
    peers: dict = field(default_factory=dict)
    ratio: Optional[Callable] = None    # of Results
    met: Optional[Callable] = None      # of Results and the ratio
    uses: list = field(default_factory=list)


def over(value, *others, best=None):
    """value / other; of several others the best one (max or min) that was measured."""
    def ratio(results):
        # METG says -1 where it was not reached.
        known = [results.median(o) for o in others if (results.median(o) or 0) > 0]
        return results.median(value) / (best or max)(known) if known and results.median(value) >= 0 else None
    return ratio


def versus(name, value, unit, other, limit, peers=None, at_least=False, text=None):
    """A row whose target is a ratio to one other measure."""
    target = text or f"{'≥' if at_least else '≤'} {limit:g} x"
    return Row(name, value, unit, target, peers or {}, over(value, other),
               lambda _, r: r is not None and (r >= limit if at_least else r <= limit), [other])


def at_most(name, value, unit, limit, peers=None, ratio=None):
    return Row(name, value, unit, f"≤ {limit:g} {unit}", peers or {}, ratio,
               lambda results, _: results.median(value) <= limit)


def plain(name, value, unit, peers=None, ratio=None):
    return Row(name, value, unit, "", peers or {}, ratio)


def worst_of_20(results, _):
    return min(results.samples["busy1.tasks_per_s"]) >= 0.2 * results.median("burst1.tasks_per_s")


STARPU_BURST = {"starpu 1": "starpu_burst1.tasks_per_s", "starpu 2": "starpu_burst2.tasks_per_s"}
GUEST_WAYS = {way: f"guest.guest_trip_{way}" for way in ("yield", "futex", "waitv", "eventfd", "pipe", "socket")}
NEWER_WAYS = {name: f"newer.guest_trip_{way}" for name, way in (("yield", "yield"), ("futex", "futex"),
              ("futex_waitv", "waitv"), ("io_uring", "uring"), ("eventfd", "eventfd"))}
WORKED = "children that had tasks"


def death_rows():
    """Of all deaths of all runs."""
    made = []
    for label, name in (("plain", "death"), ("shared", "death, 1 GiB shared"), ("own", "death, 1 GiB own")):
        key, bare = f"death_task_{label}.death_ms", f"death_pidfd_{label}.death_ms"
        made.append(at_most(f"{name}, median", key, "ms", 1, {"pidfd": bare}, over(key, bare)))
        made.append(at_most(f"{name}, p99", f"{key}@p99", "ms", 5, {"pidfd": f"{bare}@p99"},
                            over(f"{key}@p99", f"{bare}@p99")))
    for n in (8, 16):
        bare = f"death_pidfd_{n}.death_ms"
        made.append(versus(f"death, {n} busy siblings", f"death_task_{n}.death_ms", "ms", bare, 1.2, {"pidfd": bare}))
    return made


def guest_death_rows():
    """Times of an emulator: the host's targets do not hold for them."""
    return [plain(f"guest: {name}, kernel provider", f"pair.{key}_kernel_death_ms", "ms",
                  {"futex provider": f"pair.{key}_futex_death_ms", "pidfd": f"pair.{key}_pidfd_death_ms"},
                  over(f"pair.{key}_kernel_death_ms", f"pair.{key}_pidfd_death_ms"))
            for key, name in (("death", "death"), ("death8", "death, 8 busy siblings"), ("own", "death, 1 GiB own"),
                              ("shared", "death, 1 GiB shared"))] + [
        versus("guest: death, 16 busy siblings, kernel provider", "pair.death16_kernel_death_ms", "ms",
               "pair.death16_pidfd_death_ms", 1.2,
               {"futex provider": "pair.death16_futex_death_ms", "pidfd": "pair.death16_pidfd_death_ms"}, text="≤ 1.2 x pidfd")]


def guest_trip_rows():
    """The module's calls by hand, and the library's mailbox over them: the same targets."""
    made = []
    for key, name, floor in (("module", "the module's calls", 1.9), ("library", "the library's mailbox", 1.85)):
        value = f"guest.guest_trip_{key}"
        made += [versus(f"guest: blocked trip, {name}, to {text}", value, "instructions", f"guest.guest_trip_{other}",
                        limit, GUEST_WAYS if other == "futex" else None, text=f"≤ {limit} x {text}")
                 for other, limit, text in (("futex", 0.70, "futex"), ("eventfd", 0.85, "eventfd"),
                                            ("yield", floor, "the floor"))]
    return made


def newer_rows():
    """With a kernel that has io_uring's futexes: N wakes and a wait in one call."""
    wakes = {name: f"newer.guest_wake32_{way}" for name, way in (("32 futex wakes", "futex"), ("io_uring, one call", "uring"))}
    return [*[plain(f"guest 6.12: blocked trip, {name}", f"newer.guest_trip_{key}", "instructions", NEWER_WAYS,
                    over(f"newer.guest_trip_{key}", "newer.guest_trip_futex"))
              for key, name in (("module", "the module's calls"), ("library", "the library's mailbox"))],
            Row("guest 6.12: wake 32 sleepers", "newer.guest_wake32_module", "instructions",
                "≤ 0.9 x the best of futex and io_uring", {**wakes, "32 at one futex": "newer.guest_wake32_crowd"},
                over("newer.guest_wake32_module", *wakes.values(), best=min), lambda _, r: r <= 0.9, list(wakes.values()))]


def chain_row():
    """Over four chips, where each task waits for the one before it on another: no trip through the parent."""
    return Row("guest: chain over 4 chips, kernel provider", "guest.chain_kernel_us_per_task", "k instr/task",
               "≤ 0.6 x the library's blocked trip", {"futex provider": "guest.chain_futex_us_per_task"},
               lambda results: (1000 * results.median("guest.chain_kernel_us_per_task") /
                                results.median("guest.guest_trip_library")),
               lambda _, r: r <= 0.6, ["guest.guest_trip_library"])


def parent_share(results):
    return sum(results.median(f"instructions_replay.{step}") for step in ("dispatch", "completion", "rest"))


def digits_rows():
    """The default tree beside two loops side by side, which do the job twice; all have the same weights."""
    def same_weights(results):
        return len({bits for n in ("tree", "loop1", "loop2") for bits in results.of(f"digits_{n}.weights")}) == 1

    def row(name, key, limit):
        tree, one, two = (f"digits_{n}.{key}" for n in ("tree", "loop1", "loop2"))
        return Row(f"digits, default tree, {name}", tree, "ms", f"≤ {limit} x half of two loops, same weights",
                   {"one loop": one, "two loops": two},
                   lambda results: 2 * results.median(tree) / results.median(two),
                   lambda results, r: r <= limit and same_weights(results), [one, two])

    return [row("time", "ms", 1.25), row("CPU", "cpu_ms", 1.15)]


def hosts_rows():
    def trip(busy):
        remote, tcp, local = f"hosts_remote{busy}.median_us", f"hosts_tcp{busy}.median_us", f"hosts_local{busy}.median_us"
        peers = {"TCP": tcp, "local": local, "Open MPI": "hosts_mpi.median_us", "StarPU-MPI": "hosts_starpu.median_us"}
        return Row(f"another host: no-op{', beside busy processes' if busy else ''}", remote, "µs",
                   "≤ 1.3 x (TCP + 2 local)", {key: peers[key] for key in list(peers)[:2 if busy else 4]},
                   lambda results: results.median(remote) / (results.median(tcp) + 2 * results.median(local)),
                   lambda _, r: r <= 1.3, [tcp, local])

    return [trip(""), trip("_busy"),
            versus("another host: 1 MiB there and back", "hosts_remote_mib.gib_per_s", "GiB/s", "hosts_tcp_mib.gib_per_s", 0.7,
                   {"TCP": "hosts_tcp_mib.gib_per_s"}, True, "≥ 0.7 x TCP"),
            plain("another host: 1 MiB there and back, time", "hosts_remote_mib.median_us", "µs",
                  {"TCP": "hosts_tcp_mib.median_us", "over UCX's TCP": "hosts_ucx_mib.median_us",
                   "Open MPI": "hosts_mpi_mib.median_us", "StarPU-MPI": "hosts_starpu_mib.median_us"}),
            Row("another host: idle tree over two, context switches in 10 s", "hosts_idle.switches", "switches", "0", {}, None,
                lambda results, _: max(results.samples["hosts_idle.switches"]) == 0),
            *[versus(f"another host: digits over {n}", f"hosts_digits{n}.seconds", "s", f"local_digits{n}.seconds", 1.3,
                     {"as many nodes here": f"local_digits{n}.seconds"}, text="≤ 1.3 x one host") for n in (1, 2, 4)]]


def both(name, value, unit, ratio=None):
    """Of the kernel provider, the futex provider beside it."""
    return plain(name, value, unit, {"futex provider": value.replace("_kernel", "_futex")}, ratio)


ROWS = [
    Row("burst, 1 child", "burst1.tasks_per_s", "tasks/s", "≥ 5 x StarPU",
        {**STARPU_BURST, "libgomp 2": "omp_burst2.tasks_per_s", "oneTBB 2": "tbb_burst2.tasks_per_s",
         "mailbox M/s": "raw_burst1.value"},
        over("burst1.tasks_per_s", "starpu_burst1.tasks_per_s", "starpu_burst2.tasks_per_s"),
        lambda _, r: r >= 5, ["starpu_burst1.tasks_per_s"]),
    versus("burst, 8 children", "burst8.tasks_per_s", "tasks/s", "burst1.tasks_per_s", 0.7,
           {"starpu 8": "starpu_burst8.tasks_per_s", WORKED: "burst8.children_with_tasks"}, True, "≥ 0.7 x 1 child"),
    versus("burst, 16 children", "burst16.tasks_per_s", "tasks/s", "burst1.tasks_per_s", 0.7,
           {WORKED: "burst16.children_with_tasks"}, True, "≥ 0.7 x 1 child"),
    versus("burst directed in turn to 16 chips", "directed16.us_per_task", "µs/task", "directed1.us_per_task", 3,
           {"1 chip": "directed1.us_per_task", WORKED: "directed16.children_with_tasks"}, text="≤ 3 x 1 chip"),
    Row("burst with DW_TRACE", "burst1_traced.us_per_task", "µs/task", "≤ 1 µs more", {"without": "burst1.us_per_task"},
        lambda results: results.median("burst1_traced.us_per_task") - results.median("burst1.us_per_task"),
        lambda _, r: r <= 1, ["burst1.us_per_task"]),
    plain("burst, CPU per task", "burst1.cpu_us_per_task", "µs"),
    plain("burst, CPU per task, 16 children", "burst16.cpu_us_per_task", "µs"),
    Row("chain, 1 child", "chain1.us_per_task", "µs/task", "≤ 1.5 x libgomp, ≤ 0.6 µs",
        {"libgomp 1": "omp_chain1.us_per_task", "libgomp 2": "omp_chain2.us_per_task",
         "starpu 1": "starpu_chain1.us_per_task", "oneTBB 2": "tbb_chain2.us_per_task"},
        over("chain1.us_per_task", "omp_chain2.us_per_task"),
        lambda results, r: r <= 1.5 and results.median("chain1.us_per_task") <= 0.6, ["omp_chain2.us_per_task"]),
    plain("chain, 4 children, any", "chain4.us_per_task", "µs/task"),
    versus("chain over 4 chips, directed", "chips4.us_per_task", "µs/task", "raw_chain4.value", 1,
           {"mailbox": "raw_chain4.value"}, text="≤ 1 x the mailbox"),
    versus("chain over 4 Workers, directed", "workers4.us_per_task", "µs/task", "raw_chain4.value", 1.3,
           {"mailbox": "raw_chain4.value"}, text="≤ 1.3 x the mailbox"),
    at_most("round trip, median", "trip.median_us", "µs", 2, {"starpu": "starpu_trip1.median_us"}),
    # The bare loops know their means only.
    at_most("round trip, mean", "trip.mean_us", "µs", 2,
            {"spin": "raw_spin.value", "mailbox": "raw_mailbox.value",
             "futex": "raw_futex.value", "eventfd": "raw_eventfd.value", "pipe": "raw_pipe.value",
             "socket": "raw_socket.value", "Open MPI": "mpi_shared.mean_us", "ZeroMQ, processes": "zeromq.mean_us",
             "ZeroMQ, threads": "zeromq_threads.mean_us", "multiprocessing, pipe": "multiprocessing.mean_us",
             "its pool": "multiprocessing.pool_us"}, over("trip.mean_us", "raw_mailbox.value")),
    plain("round trip, p99", "trip.p99_us", "µs", {"starpu": "starpu_trip1.p99_us"}),
    versus("round trip, one CPU, mean", "trip1cpu.mean_us", "µs", "raw_futex_1cpu.value", 1.3,
           {"futex": "raw_futex_1cpu.value"}, text="≤ 1.3 x futex"),
    at_most("submit call, 2 in 1 out", "submit.us_per_call", "µs", 0.25, {"starpu": "starpu_submit1.us_per_call"}),
    plain("submit call, CPU time", "submit.cpu_us_per_call", "µs"),
    at_most("system calls per task (strace)", "calls.per_task", "calls", 0.05),
    plain("system calls per task, parent's counters", "burst1.parent_calls_per_task", "calls"),
    plain("system calls per task, child's sleeps", "burst1.child_sleeps_per_task", "calls"),
    *[plain(f"instructions per task, {step}", f"instructions_burst.{step}", "instructions")
      for step in ("submit", "dispatch", "child", "completion", "rest", "without_wait")],
    *[plain(f"instructions, 2 in 1 out, {step}", f"instructions_submit.{step}", "instructions")
      for step in ("submit", "dispatch", "completion", "rest", "without_wait")],
    versus("replay of no-ops, 1 child", "replay.tasks_per_s", "tasks/s", "burst1.tasks_per_s", 2,
           {"burst": "burst1.tasks_per_s", "libgomp 2": "omp_burst2.tasks_per_s"}, True, "≥ 2 x the burst"),
    at_most("instructions, replay, submit", "instructions_replay.submit", "instructions", 150),
    Row("instructions, replay, dispatch, completion and rest", "instructions_replay.dispatch", "instructions",
        "together ≤ 700", {key: f"instructions_replay.{key}" for key in ("completion", "rest", "without_wait")}, parent_share,
        lambda _, r: r <= 700, ["instructions_replay.completion"]),
    at_most("instructions, replay of 2 in 1 out, submit", "instructions_resubmit.submit", "instructions", 200),
    plain("instructions, replay of 2 in 1 out, without_wait", "instructions_resubmit.without_wait", "instructions"),
    at_most("sim vector add, block_dim 1", "chip1.median_us", "µs", 100),
    plain("sim vector add, block_dim 1, streamed", "chip1.streamed_us", "µs/task"),
    plain("sim vector add, block_dim 3", "chip3.median_us", "µs"),
    plain("sim vector add, block_dim 3, streamed", "chip3.streamed_us", "µs/task"),
    Row("idle tree, context switches in 10 s", "idle.switches", "switches", "0", {}, None,
        lambda results, _: max(results.samples["idle.switches"]) == 0),
    Row("idle tree, CPU", "idle.cpu_percent", "%", "0.0", {}, None,
        lambda results, _: max(results.samples["idle.cpu_percent"]) < 0.05),
    versus("sparse load, CPU per task", "sparse_task.cpu_us", "µs", "sparse_futex.cpu_us", 1.5,
           {"futex": "sparse_futex.cpu_us"}, text="≤ 1.5 x futex"),
    versus("sparse load, latency", "sparse_task.latency_us", "µs", "sparse_futex.latency_us", 1.15,
           {"futex": "sparse_futex.latency_us"}, text="≤ 1.15 x futex"),
    Row("beside busy processes, median", "busy1.tasks_per_s", "tasks/s", "≥ 0.4 x quiet", {},
        over("busy1.tasks_per_s", "burst1.tasks_per_s"), lambda _, r: r >= 0.4, ["burst1.tasks_per_s"]),
    Row("beside busy processes, worst of 20", "busy1.tasks_per_s", "tasks/s", "min ≥ 0.2 x quiet", {},
        lambda results: min(results.samples["busy1.tasks_per_s"]) / results.median("burst1.tasks_per_s"),
        worst_of_20, ["burst1.tasks_per_s"]),
    *death_rows(),
    versus("growth, 10^7 tasks", "grow7.us_per_task", "µs/task", "grow5.us_per_task", 1.1,
           {"10^5": "grow5.us_per_task"}, text="≤ 1.1 x 10^5 tasks"),
    plain("growth, 10^7 tasks, submitter's CPU", "grow7.submitter_cpu_us", "µs/task",
          {"10^5": "grow5.submitter_cpu_us"}, over("grow7.submitter_cpu_us", "grow5.submitter_cpu_us")),
    Row("growth, memory of all processes after 10^7", "grow7.rss_mib", "MiB", "flat", {"10^6": "grow6.rss_mib"},
        over("grow7.rss_mib", "grow6.rss_mib"), lambda _, r: r <= 1.05, ["grow6.rss_mib"]),
    Row("growth, memory of all processes over 10^4 runs", "runs.grown_kib", "KiB", "flat", {}, None,
        lambda results, _: results.median("runs.grown_kib") <= 64),
    Row("growth, 256 children", "burst256.us_per_task", "µs/task", "≤ 1.5 x 8 children",
        {"8": "burst8.us_per_task", WORKED: "burst256.children_with_tasks"},
        over("burst256.us_per_task", "burst8.us_per_task"), lambda _, r: r <= 1.5, ["burst8.us_per_task"]),
    plain("growth, 4 levels, per level", "tree4.us_per_level", "µs", {"2 levels": "tree2.us_per_level"},
          over("tree4.us_per_level", "tree2.us_per_level")),
    plain("a run of one task", "runs.us_per_run", "µs"),
    *[versus(f"METG, {n} {'child' if n == 1 else 'children'}", f"metg{n}.metg_us", "µs",
             f"metg_starpu{min(n, 2)}.metg_us", 0.5,
             {"starpu": f"metg_starpu{min(n, 2)}.metg_us", "oneTBB": f"tbb_metg{min(n, 2)}.metg_us"},
             text="≤ 0.5 x StarPU") for n in (1, 2, 8)],
    *[versus(f"Cholesky 2048, tile {n}", f"cholesky{n}.ms", "ms", f"cholesky_starpu{n}.ms", 0.85,
             {"starpu 2": f"cholesky_starpu{n}.ms"}, text="≤ 0.85 x StarPU") for n in (64, 128)],
    *[plain(f"digits, {n} chips", f"digits{n}.seconds", "s") for n in (1, 2, 4)],
    *digits_rows(),
    *hosts_rows(),
    # The module, in the guest, by instructions.
    *guest_trip_rows(),
    versus("guest: wake 32 sleepers", "guest.guest_wake32_module", "instructions", "guest.guest_wake32_futex", 0.5,
           {"32 futex wakes": "guest.guest_wake32_futex", "one futex call": "guest.guest_wake32_crowd"},
           text="≤ 0.5 x futex"),
    *newer_rows(),
    chain_row(),
    versus("guest: burst, kernel provider", "guest.burst_kernel_us_per_task", "k instr/task",
           "guest.burst_futex_us_per_task", 1.1, {"futex provider": "guest.burst_futex_us_per_task"},
           text="≤ 1.1 x futex provider"),
    # On one CPU somebody has to sleep for the other to run.
    both("guest: burst on one CPU, all calls per task", "guest.calls_kernel_calls_per_task", "calls"),
    both("guest: burst on one CPU, calls per task, parent", "guest.burst_kernel_parent_calls_per_task", "calls"),
    both("guest: burst on one CPU, sleeps per task, child", "guest.burst_kernel_child_sleeps_per_task", "calls"),
    at_most("guest: burst, all calls per task", "pair.burst_kernel_calls_per_task", "calls", 0.05,
            {"futex provider": "pair.burst_futex_calls_per_task"}),
    both("guest: burst, calls per task, parent", "pair.burst_kernel_parent_calls_per_task", "calls"),
    both("guest: burst, sleeps per task, child", "pair.burst_kernel_child_sleeps_per_task", "calls"),
    plain("guest: wait policy, mailbox trip", "guest.mailbox_kernel_trip", "instructions",
          {"without module": "guest.mailbox_futex_trip"},
          over("guest.mailbox_kernel_trip", "guest.mailbox_futex_trip")),
    plain("guest: wait policy, task trip", "guest.trip_kernel_median_us", "k instr",
          {"without module": "guest.trip_futex_median_us"},
          over("guest.trip_kernel_median_us", "guest.trip_futex_median_us")),
    Row("guest: idle tree, context switches in 10 s", "guest.idle_kernel_switches", "switches", "0",
        {"futex provider": "guest.idle_futex_switches"}, None,
        lambda results, _: max(results.samples["guest.idle_kernel_switches"]) == 0),
    *[versus(f"guest: sparse load, {name}", f"guest.sparse_kernel_{key}", "k instr", f"guest.sparse_bare_{key}", limit,
             {"futex provider": f"guest.sparse_futex_{key}", "futex": f"guest.sparse_bare_{key}"},
             text=f"≤ {limit} x futex")
      for key, name, limit in (("cpu_us", "CPU per task", 1.5), ("latency_us", "latency", 1.2))],
    *guest_death_rows(),
]
