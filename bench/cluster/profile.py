#!/usr/bin/env python3
"""Where the time of a put and of a read goes: flame graphs of the leader of three kvd members under load.

  profile.py [--out DIRECTORY] [--bin-dir DIRECTORY] [WORKLOAD...]    default: put get-linearizable get-serializable

Writes DIRECTORY/flame-<workload>.svg (default: bench/results) and prints in which part of the samples each function is
on the stack. Needs perf (linux-perf).
"""
import argparse
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..")]
import flame  # noqa: E402
from scenarios import Session  # noqa: E402
from lib.cluster import Implementation, die_with_parent  # noqa: E402

ROOT = os.path.join(HERE, "..", "..")
SECONDS = 4
WORKLOADS = {
    "put": ["put", "--keys", 10_000],
    "put-1-client": ["put", "--keys", 10_000, "--connections", 1, "--streams", 1],
    "get-linearizable": ["get", "--keys", 10_000],
    "get-serializable": ["get", "--keys", 10_000, "--serializable"],
    "list": ["list", "--keys", 10_000],
    "watch": ["watch", "--keys", 1],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results"))
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build", "release", "bin"))
    parser.add_argument("--lines", type=int, default=45)
    parser.add_argument("workloads", nargs="*", default=["put", "get-linearizable", "get-serializable"])
    args = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("profile.py: there is no perf; scripts/install-deps.sh profile installs it")
    os.makedirs(args.out, exist_ok=True)
    with Session(os.path.join(args.bin_dir, "kvbench"), Implementation("kvd", args.bin_dir), 3) as session:
        session.run("fill", "--keys", 10_000)
        for name in args.workloads:
            words = session.words(*WORKLOADS[name], "--seconds", SECONDS + 1, "--warmup", "0.5")
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as load:
                stacks = flame.record(str(session.cluster.leader().process.pid), str(SECONDS))
                print(name, load.communicate(timeout=60)[0])
            with open(os.path.join(args.out, f"flame-{name}.svg"), "w") as file:
                file.write(flame.draw(stacks, f"kvd, leader of three: {' '.join(map(str, WORKLOADS[name]))}"))
            print("\n".join(flame.inclusive(stacks, args.lines)))


if __name__ == "__main__":
    main()
