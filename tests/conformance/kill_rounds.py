"""Three members under the load of 64 clients, one of which is killed or paused in each round: no acknowledged write
is lost, the members stay equal, and writes resume soon.

KILL_ROUNDS (30 in the full run) and KILL_SEED in the environment."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import testing
from lib.cluster import Cluster
from lib.load import Load

ELECTION_TIMEOUT = 1.0
PAUSE = 2.5 * ELECTION_TIMEOUT


def one_round(cluster, load, rng, number):
    leader = cluster.leader()
    hit_leader, pause = number % 2 == 0, rng.random() < 0.4
    victim = leader if hit_leader else rng.choice([m for m in cluster.members if m is not leader])
    load.run()
    time.sleep(0.5 + rng.random())
    load.mark()
    if pause:
        victim.pause()
        time.sleep(PAUSE + rng.random())
        # Long enough to see that writes go on without the member.
        silence = load.silence()
        victim.resume()
    else:
        victim.kill()
        time.sleep(2 * ELECTION_TIMEOUT + rng.random())
        silence = load.silence()
        victim.start()
    # Writes go on while it comes back.
    time.sleep(1)
    silence = max(silence, load.silence())
    written = load.stop()
    victim.wait_healthy()
    revision = cluster.wait_equal()
    for member in cluster.members:
        load.verify(member)
    what = f"{'paused' if pause else 'killed'} the {'leader' if hit_leader else 'follower'} {victim.name}"
    testing.step(f"round {number}: {what}, silence {silence:.2f} s, {written} writes, revision {revision}")
    return silence


def main():
    args = testing.arguments(__doc__)
    program = testing.need_helper(args, "conformance_killload")
    rounds = int(os.environ.get("KILL_ROUNDS", "6"))
    seed = int(os.environ.get("KILL_SEED", str(random.randrange(2**32))))
    testing.step(f"seed {seed}, {rounds} rounds")
    rng = random.Random(seed)
    with Cluster(args.implementation, 3) as cluster, Load(program, cluster) as load:
        silences = [one_round(cluster, load, rng, number) for number in range(rounds)]
    limit = 3 * ELECTION_TIMEOUT
    late = [f"round {i}: {s:.2f} s" for i, s in enumerate(silences) if s > limit]
    assert not late, f"writes did not resume within {limit} s: {late}"


if __name__ == "__main__":
    main()
