#!/usr/bin/env python3
"""kvd beside etcd: the same work on both, in alternating rounds, on this machine.

  run.py [--full | --scenarios NAME,...] [--rounds N] [--scale X] [--out DIRECTORY] [--bin-dir DIRECTORY]
         [--only kvd|etcd] [--commit ID]

Each scenario starts one cluster of one system at a time on loopback, with real fsync and a data directory of its own,
which goes when it ends; in odd rounds etcd comes first. Without arguments a selection of about ten minutes runs, with
--full everything (about an hour, and 35 GB of disk). Results: DIRECTORY/<scenario>.json, table.md and plot.svg, where
what other runs have left for other scenarios stays (default: bench/results).
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import report  # noqa: E402
from scenarios import SCENARIOS, Failed, Session  # noqa: E402
from lib.cluster import Implementation  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# Scenario and rounds: about ten minutes.
SELECTION = [("hot", 5), ("list", 2), ("watch", 2), ("during", 1), ("million", 1), ("failover", 2), ("idle", 1)]
FULL = [("hot", 5), ("values", 5), ("mix", 5), ("list", 5), ("watch", 5), ("lease", 5), ("during", 5),
        ("failover", 5), ("idle", 3), ("million", 5), ("ten-million", 1), ("large", 1)]


def sync_times_us(directory, writes=100):
    """What it takes to make 4 KiB durable: the median of some appends."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(writes):
            os.write(file.fileno(), os.urandom(4096))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)


def machine():
    cpu = "unknown"
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": memory, "kernel": platform.release(), "sync_p50_us": []}


def output(*command, cwd=None):
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    return result.stdout.strip() if result.returncode == 0 else ""


def versions(implementations):
    said = {}
    for implementation in implementations:
        lines = output(implementation.binary, "--version").splitlines()
        # kvd names the etcd that it stands for first, and then itself.
        own = [line for line in lines if line.startswith("kvd Version")] or lines[:1]
        said[implementation.name] = own[0].replace("etcd Version:", "etcd").replace("kvd Version:", "kvd")
    return said


def commit():
    revision = output("git", "rev-parse", "--short=10", "HEAD", cwd=ROOT)
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", "src", "bench", ":!bench/results",
                     cwd=ROOT)
    return (revision or "unknown") + ("+changes" if changed else "")


def rounded(measure):
    return {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in measure.items()}


def run_once(name, implementation, args):
    scenario = SCENARIOS[name]
    with Session(os.path.join(args.bin_dir, "kvbench"), implementation, scenario.members, scenario.quota) as session:
        scenario.run(session, args.scale)
        return {measure: rounded(figures) for measure, figures in session.measures.items()}


def run_scenario(name, rounds, implementations, args):
    result = {
        "scenario": name, "what": (SCENARIOS[name].run.__doc__ or "").strip(), "command": args.command,
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commit": args.commit or commit(), "machine": machine(),
        "versions": versions(implementations), "rounds": [],
    }
    wanted = [i for i in implementations if i.name in SCENARIOS[name].systems]
    for number in range(1, rounds + 1):
        print(f"{name}: round {number} of {rounds}", flush=True)
        sync_us = float(f"{sync_times_us(tempfile.gettempdir()):.4g}")
        result["machine"]["sync_p50_us"].append(sync_us)
        this = {}
        for implementation in (wanted if number % 2 == 0 else wanted[::-1]):
            this[implementation.name] = run_once(name, implementation, args)
            this[implementation.name]["machine"] = {"sync_p50_us": sync_us}
        result["rounds"].append(this)
        # After each round, so that a run that is cut short leaves what it has.
        with open(os.path.join(args.out, name + ".json"), "w") as file:
            json.dump(result, file, indent=1, ensure_ascii=False)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--scenarios", default="", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1, help="how long windows are, against their usual length")
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results"))
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build", "release", "bin"))
    parser.add_argument("--only", choices=("kvd", "etcd"))
    parser.add_argument("--commit", help="what kvd was built from, where that is not this tree")
    args = parser.parse_args()
    # What another needs to do the same: not where things lie on this machine.
    kept = {"--scenarios": args.scenarios, "--rounds": args.rounds, "--scale": args.scale if args.scale != 1 else None}
    words = [word for name, value in kept.items() if value for word in (name, str(value))]
    args.command = shlex.join(["bench/cluster/run.py", *(["--full"] if args.full else []), *words])
    return args


def main():
    args = arguments()
    implementations = [Implementation(n, args.bin_dir) for n in ("kvd", "etcd") if args.only in (None, n)]
    for implementation in implementations:
        if not implementation.available():
            sys.exit(f"run.py: there is no {implementation.name} ({implementation.binary})")
    plan = FULL if args.full else SELECTION
    if args.scenarios:
        plan = [(name, 1) for name in args.scenarios.split(",")]
        unknown = [name for name, _ in plan if name not in SCENARIOS]
        if unknown:
            sys.exit(f"run.py: no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    os.makedirs(args.out, exist_ok=True)
    failed = []
    for name, rounds in plan:
        try:
            run_scenario(name, args.rounds or rounds, implementations, args)
        except (Failed, AssertionError, subprocess.TimeoutExpired) as error:
            print(f"run.py: {name}: {error}", file=sys.stderr)
            failed.append(name)
    print("\n".join(report.summary(report.write(args.out))))
    print(f"written: {os.path.relpath(args.out)}/table.md, plot.svg and a JSON file for each scenario")
    if failed:
        sys.exit(f"run.py: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
