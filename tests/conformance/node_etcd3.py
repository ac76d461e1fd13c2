"""A program on npm's etcd3 (node/program.js)."""
import filecmp
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster, clean_environment, die_with_parent

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")


def install(directory):
    """Brings the packages that the lock file names into `directory`, once."""
    os.makedirs(directory, exist_ok=True)
    lock = os.path.join(HERE, "package-lock.json")
    done = os.path.join(directory, "installed-lock.json")
    if os.path.exists(done) and filecmp.cmp(done, lock, shallow=False):
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), directory)
    try:
        result = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=directory,
                                capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        testing.skip("npm did not answer within 180 s")
    if result.returncode != 0:
        testing.skip(f"npm could not install etcd3: {result.stderr.strip().splitlines()[-1:]}")
    shutil.copy(lock, done)


def main():
    args = testing.arguments(__doc__)
    testing.need_program("node")
    testing.need_program("npm")
    directory = os.path.join(os.path.abspath(args.work_dir), "node")
    install(directory)
    for size in (1, 3):
        with Cluster(args.implementation, size) as cluster:
            hosts = [cluster.leader().endpoint] + ([cluster.follower().endpoint] if size > 1 else [])
            subprocess.run(["node", os.path.join(HERE, "program.js"), *hosts], cwd=directory, check=True, timeout=200,
                           env=clean_environment(), preexec_fn=die_with_parent)
            testing.step(f"{args.impl}, {size} members")


if __name__ == "__main__":
    main()
