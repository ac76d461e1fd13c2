"""Links between members that are cut, one way or both, flap, delay, reorder and lose.

Runs in mount and network namespaces of its own."""
import time

from lib.cluster import Cluster, Member
from scene import ELECTION_TIMEOUT, MEMBER_ARGS, Scene, step
from wire import CUT, HERE, Rule, Wire, address

FIRST_HOST = 10


class RemoteMember(Member):
    """A member in a network namespace of its own."""

    def __init__(self, cluster, name, host, wire):
        super().__init__(cluster, name)
        self.host = host
        self.wire = wire

    @property
    def client_url(self):
        return f"http://{address(self.host)}:{self.client_port}"

    @property
    def peer_url(self):
        return f"http://{address(self.host)}:{self.peer_port}"

    @property
    def endpoint(self):
        return f"{address(self.host)}:{self.client_port}"

    def command(self):
        return [*self.wire.prefix(self.host), *super().command()]


def both_ways(a, b, rule):
    return {(a, b): rule, (b, a): rule}


def around(host, hosts, rule):
    """All links of one host."""
    rules = {}
    for other in hosts:
        if other != host:
            rules.update(both_ways(host, other, rule))
    return rules


def all_links(hosts, rule):
    return {(a, b): rule for a in hosts for b in hosts if a != b}


class Trouble:
    """Each kind returns its name after it has set rules, for as long as it lasts."""

    def __init__(self, cluster, wire, rng, limit):
        self.cluster = cluster
        self.wire = wire
        self.rng = rng
        self.limit = limit
        self.members = [member.host for member in cluster.members]
        self.all = [HERE, *self.members]

    def last(self):
        time.sleep(min(self.limit, self.rng.uniform(0.5, 5) * ELECTION_TIMEOUT))

    def somebody(self):
        return self.cluster.leader().host if self.rng.random() < 0.6 else self.rng.choice(self.members)

    def alone(self):
        self.wire.set(around(self.somebody(), self.members, CUT))
        self.last()
        return "a member alone, with its clients"

    def gone(self):
        self.wire.set(around(self.somebody(), self.all, CUT))
        self.last()
        return "a member without anybody"

    def one_way(self):
        host = self.somebody()
        deaf = self.rng.random() < 0.5
        self.wire.set({((o, host) if deaf else (host, o)): CUT for o in self.members if o != host})
        self.last()
        return "a member that is deaf" if deaf else "a member that is dumb"

    def bridge(self):
        a, b = self.rng.sample(self.members, 2)
        self.wire.set(both_ways(a, b, CUT))
        self.last()
        return "two members that only the third one hears"

    def flapping(self):
        rules = around(self.somebody(), self.members, CUT)
        until = time.monotonic() + min(self.limit, 4)
        while time.monotonic() < until:
            self.wire.set(rules)
            time.sleep(self.rng.uniform(0.05, 0.8))
            self.wire.set({})
            time.sleep(self.rng.uniform(0.05, 0.5))
        return "flapping links"

    def slow(self):
        delay = self.rng.choice(((0.01, 0.03), (0.05, 0.15), (0.2, 0.4)))
        self.wire.set(all_links(self.members, Rule(delay=delay)))
        self.last()
        return f"delays of {delay[0] * 1000:.0f} to {delay[1] * 1000:.0f} ms"

    def lossy(self):
        loss = self.rng.choice((0.02, 0.1, 0.3))
        self.wire.set(all_links(self.all, Rule(loss=loss, delay=(0, 0.01))))
        self.last()
        return f"{loss * 100:.0f} % loss, reordered"

    def silence(self):
        self.wire.set(all_links(self.members, CUT))
        self.last()
        return "no link at all"

    def one(self):
        kinds = (self.alone, self.gone, self.one_way, self.bridge, self.flapping, self.slow, self.lossy, self.silence)
        return self.rng.choice(kinds)()


def network(tools, implementation):
    rng = tools.random("network")
    hosts = [FIRST_HOST + i for i in range(3)]
    cluster = Cluster(implementation, 3, MEMBER_ARGS)
    with Wire(hosts, tools.seed) as wire:
        cluster.found([RemoteMember(cluster, f"m{i}", host, wire) for i, host in enumerate(hosts)])
        with cluster, Scene(tools, cluster, "network", clients=6) as scene:
            trouble = Trouble(cluster, wire, rng, 1.5 if tools.short else 5)
            scene.ask("run")
            seconds = 4 if tools.short else 170
            deadline = time.monotonic() + seconds
            seen = {}
            while time.monotonic() < deadline:
                time.sleep(rng.uniform(0.2, 1))
                what = trouble.one()
                seen[what] = seen.get(what, 0) + 1
                wire.set({})
                scene.wait_for_writes(30)
            step("network: " + ", ".join(f"{what} ({count})" for what, count in sorted(seen.items())))
            scene.finish()
