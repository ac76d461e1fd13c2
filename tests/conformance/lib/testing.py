"""How a conformance test starts, skips and fails: exit code 0, 77, or 1 with a trace."""
import argparse
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lib.cluster import Implementation  # noqa: E402

SKIPPED = 77


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def need_program(name):
    if shutil.which(name) is None:
        skip(f"there is no {name}")


def arguments(description, **choices):
    """--impl, --bin-dir and the implementation that they name, or a skip where it is not there; `choices` are
    arguments by place, each with the values that it takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, values in choices.items():
        parser.add_argument(name, choices=values)
    parser.add_argument("--impl", choices=("kvd", "etcd"), default="kvd", help="which server to test")
    parser.add_argument("--bin-dir", default="build/release/bin", help="where kvd and the helpers of the tests are")
    parser.add_argument("--work-dir", default="build/release/tests", help="where a test may keep what it downloads")
    parser.add_argument("--keep", action="store_true", help="leave data and logs of the members, as KEEP=1 does")
    args = parser.parse_args()
    if args.keep:
        os.environ["KEEP"] = "1"
    need_program("etcdctl")
    args.implementation = Implementation(args.impl, args.bin_dir)
    if not args.implementation.available():
        skip(f"there is no {args.impl} ({args.implementation.binary})")
    return args


def real_etcd():
    etcd = Implementation("etcd")
    if not etcd.available():
        skip("there is no etcd")
    return etcd


def need_helper(args, name):
    path = os.path.join(args.bin_dir, name)
    if not os.access(path, os.X_OK):
        skip(f"there is no {path}")
    return path


def step(text, _start=time.monotonic()):
    print(f"[{time.monotonic() - _start:7.2f}] {text}", flush=True)
