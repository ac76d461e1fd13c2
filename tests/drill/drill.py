"""Drills on real processes: members are killed, paused, cut off, filled up and lose their power, under the load of
clients whose history is recorded and then checked: nothing acknowledged is lost, all is linearizable, watches miss
nothing, and the members end up equal.

    drill.py [--short] [--bin-dir build/release/bin] [--seed N] [DRILL...]

What a drill needs and is not allowed here is said in one line, and it is skipped."""
import argparse
import os
import random
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "conformance")]

import crashes  # noqa: E402
import full_disk  # noqa: E402
import network  # noqa: E402
import power_loss  # noqa: E402
from lib.cluster import Implementation, die_with_parent  # noqa: E402
from lib.testing import SKIPPED, need_helper, need_program, skip  # noqa: E402
from scene import Tools, step  # noqa: E402

# Name: what to run, and the namespaces that it needs.
DRILLS = {
    "kill": (crashes.kill, ""),
    "pause": (crashes.pause, ""),
    "full_disk": (full_disk.full_disk, "mount"),
    "network": (network.network, "mount,net"),
    "power_loss": (power_loss.power_loss, ""),
}
TRIAL = {
    "mount": "mount -t tmpfs none /mnt",
    "mount,net": "mount -t tmpfs none /run && ip netns add a && ip tuntap add dev t mode tun",
}
INSIDE = "KVD_DRILL_INSIDE"


def unshared(namespaces):
    """The command that runs another in namespaces of its own, or None where that is not allowed."""
    flags = ["--" + name for name in namespaces.split(",")]
    for command in (["unshare", *flags], ["unshare", "--user", "--map-root-user", *flags]):
        try:
            trial = subprocess.run([*command, "sh", "-c", TRIAL[namespaces]], capture_output=True, timeout=20)
        except OSError:
            return None
        if trial.returncode == 0:
            return command
    return None


def run_inside(args, name, namespaces):
    command = unshared(namespaces)
    if command is None:
        step(f"{name}: skipped: no {' and '.join(namespaces.split(','))} namespaces here")
        return
    command += [sys.executable, os.path.abspath(__file__), "--bin-dir", args.bin_dir, "--seed", str(args.seed), name]
    if args.short:
        command.append("--short")
    result = subprocess.run(command, env={**os.environ, INSIDE: "1"}, preexec_fn=die_with_parent, check=False)
    if result.returncode not in (0, SKIPPED):
        sys.exit(result.returncode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="all of them in less than a minute")
    parser.add_argument("--bin-dir", default="build/release/bin")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=", ".join(DRILLS))
    args = parser.parse_args()
    unknown = [name for name in args.drills if name not in DRILLS]
    if unknown:
        parser.error(f"no such drill: {', '.join(unknown)}")
    need_program("etcdctl")
    implementation = Implementation("kvd", args.bin_dir)
    if not implementation.available():
        skip(f"there is no {implementation.binary}")
    for program in ("drill_clients", "kvd-check-history"):
        need_helper(args, program)
    tools = Tools(args.bin_dir, args.seed, args.short)
    inside = os.environ.get(INSIDE)
    if not inside:
        step(f"seed {args.seed}")
    started = time.monotonic()
    for name in args.drills or DRILLS:
        run, namespaces = DRILLS[name]
        if namespaces and not inside:
            run_inside(args, name, namespaces)
        else:
            run(tools, implementation)
    if not inside:
        step(f"all drills are well, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
