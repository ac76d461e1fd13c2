"""Members are killed, or paused for longer than an election takes, one, two or all at a time."""
import time

from lib.cluster import Cluster
from scene import ELECTION_TIMEOUT, MEMBER_ARGS, Scene, step



def pick(cluster, rng):
    """Mostly one member, and the leader half of the time; sometimes two, or all."""
    count = rng.choices((1, 2, 3), (7, 2, 1))[0]
    victims = rng.sample(cluster.members, count)
    if count == 1 and rng.random() < 0.5:
        victims = [cluster.leader()]
    return victims


def loop(tools, implementation, name, seconds, strike, heal):
    rng = tools.random(name)
    rounds = 0
    with Cluster(implementation, 3, MEMBER_ARGS) as cluster, Scene(tools, cluster, name) as scene:
        scene.ask("run")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(rng.uniform(0.2, 1.5))
            victims = pick(cluster, rng)
            for member in victims:
                strike(member)
            time.sleep(rng.uniform(0.1, 1) if rng.random() < 0.3 else rng.uniform(1.5, 3.5) * ELECTION_TIMEOUT)
            for member in rng.sample(victims, len(victims)):
                heal(member)
            scene.wait_for_writes()
            rounds += 1
        step(f"{name}: {rounds} rounds")
        scene.finish()


def kill(tools, implementation):
    """SIGKILL: what a process had in memory is gone, what it had written is not."""
    loop(tools, implementation, "kill", 5 if tools.short else 150, lambda m: m.kill(), lambda m: m.start())


def pause(tools, implementation):
    """SIGSTOP: a member that wakes up must not believe that it still leads."""
    loop(tools, implementation, "pause", 4 if tools.short else 120, lambda m: m.pause(), lambda m: m.resume())
