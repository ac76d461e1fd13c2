"""The lines of the budget: what each compares, and whether it holds.

A measure is the dict of figures of one round of one system; `get` below reads figure NAME of measure MEASURE.
"""
import statistics


def ratio(measure, figure, etcd_measure=None):
    """kvd's figure over etcd's in the same round."""
    def pair(kvd, etcd):
        other = etcd.get(etcd_measure or measure)
        if measure not in kvd or other is None or not other.get(figure):
            return None
        return kvd[measure][figure] / other[figure]
    return pair


def own(measure, figure):
    """kvd's figure alone."""
    return lambda kvd, etcd: kvd[measure][figure] if measure in kvd else None


class Line:
    """One comparison. `value(kvd, etcd)` of each round; the median must be on the right side of `goal`."""

    def __init__(self, work, what, scenario, value, goal, at_least, unit="×", shown=None):
        self.work = work
        self.what = what
        self.scenario = scenario
        self.value = value
        self.goal = goal
        self.at_least = at_least
        self.unit = unit
        self.shown = shown  # (measure, figure): printed for both systems

    def values(self, rounds):
        found = (self.value(r.get("kvd", {}), r.get("etcd", {})) for r in rounds)
        return [v for v in found if v is not None]

    def holds(self, rounds):
        values = self.values(rounds)
        if not values:
            return None
        median = statistics.median(values)
        return median >= self.goal if self.at_least else median <= self.goal


def at_least(work, what, scenario, value, goal, **more):
    return Line(work, what, scenario, value, goal, True, **more)


def at_most(work, what, scenario, value, goal, **more):
    return Line(work, what, scenario, value, goal, False, **more)


def bound_of_single_put(kvd, etcd):
    """A put of one client over two sync times and two round trips; the round trip is that of a read that asks nobody,
    the sync time that of the machine's disk in the same round."""
    if "put_1_client" not in kvd or "machine" not in kvd:
        return None
    bound = 2 * kvd["machine"]["sync_p50_us"] + 2 * kvd["get_1_client"]["p50_us"]
    return kvd["put_1_client"]["p50_us"] / bound


PUT = "put, 3 members, 256 B, 256 in flight"
SINGLE = "put, 1 client, fsync on"
LINEARIZABLE = "linearizable read"
SERIALIZABLE = "serializable read"
LIST = "list 100 k keys"
WATCH = "watch, 10 k watchers"
BESIDE = "p99 of puts beside"
MEMORY = "memory, 1 M keys × 256 B"
RESTART = "restart"
FAILOVER = "leader killed → first acknowledged write"

LINES = [
    at_least(PUT, "throughput", "hot", ratio("put_256_in_flight", "ops_per_second"), 6,
             shown=("put_256_in_flight", "ops_per_second")),
    at_most(PUT, "CPU of the cluster per put", "hot", own("put_256_in_flight", "cpu_us_per_op"), 20, unit=" µs",
            shown=("put_256_in_flight", "cpu_us_per_op")),
    at_most(SINGLE, "median latency", "hot", ratio("put_1_client", "p50_us"), 0.6, shown=("put_1_client", "p50_us")),
    at_most(SINGLE, "against 2 sync times + 2 round trips", "hot", bound_of_single_put, 1),
    at_least(LINEARIZABLE, "throughput", "hot", ratio("get_linearizable", "ops_per_second"), 10,
             shown=("get_linearizable", "ops_per_second")),
    at_most(LINEARIZABLE, "CPU of the cluster per read", "hot", own("get_linearizable", "cpu_us_per_op"), 8, unit=" µs",
            shown=("get_linearizable", "cpu_us_per_op")),
    at_least(SERIALIZABLE, "throughput", "hot", ratio("get_serializable", "ops_per_second"), 15,
             shown=("get_serializable", "ops_per_second")),
    at_most(SERIALIZABLE, "CPU of the cluster per read", "hot", own("get_serializable", "cpu_us_per_op"), 5, unit=" µs",
            shown=("get_serializable", "cpu_us_per_op")),
    at_least(LIST, "unary, bytes/s", "list", ratio("list_unary", "mib_per_second"), 5,
             shown=("list_unary", "mib_per_second")),
    at_least(LIST, "pages of 500, bytes/s", "list", ratio("list_paged", "mib_per_second"), 5,
             shown=("list_paged", "mib_per_second")),
    at_least(LIST, "streamed, bytes/s (etcd: unary)", "list", ratio("list_stream", "mib_per_second", "list_unary"), 5,
             shown=("list_stream", "mib_per_second")),
    at_most(LIST, "16 unary lists that nobody reads, memory", "list", own("slow_readers", "more_mib"), 64, unit=" MiB",
            shown=("slow_readers", "more_mib")),
    at_most(LIST, "16 streamed lists that nobody reads, memory", "list", own("slow_readers_stream", "more_mib"), 64,
            unit=" MiB", shown=("slow_readers_stream", "more_mib")),
    at_least(WATCH, "1 k events/s to 100 watchers each: events per CPU second", "watch",
             ratio("watch_100_keys", "events_per_cpu_second"), 10, shown=("watch_100_keys", "events_per_cpu_second")),
    at_least(WATCH, "all on one key: events per CPU second", "watch", ratio("watch_one_key", "events_per_cpu_second"),
             10, shown=("watch_one_key", "events_per_cpu_second")),
    at_most(WATCH, "1 k events/s to 100 watchers each: p99 of delivery", "watch", ratio("watch_100_keys", "p99_us"),
            0.3, shown=("watch_100_keys", "p99_us")),
    at_most(WATCH, "1 k events/s to 1 watcher each: p99 of delivery", "watch", ratio("watch_10k_keys", "p99_us"), 0.3,
            shown=("watch_10k_keys", "p99_us")),
    at_most(BESIDE, "compaction, against rest", "during", own("put_beside_compact", "p99_ratio"), 1.5,
            shown=("put_beside_compact", "p99_ratio")),
    at_most(BESIDE, "lists of 100 k keys, against rest", "during", own("put_beside_list", "p99_ratio"), 1.5,
            shown=("put_beside_list", "p99_ratio")),
    at_most(MEMORY, "resident after the load", "million", ratio("fill_1m", "resident_mib"), 0.4,
            shown=("fill_1m", "resident_mib")),
    at_most(MEMORY, "resident after a restart", "million", ratio("restart_1m", "resident_mib"), 0.4,
            shown=("restart_1m", "resident_mib")),
    at_most(RESTART, "1 M keys", "million", ratio("restart_1m", "ready_ms"), 0.3, shown=("restart_1m", "ready_ms")),
    at_most(RESTART, "1 M keys, after SIGKILL", "million", ratio("restart_1m_killed", "ready_ms"), 0.3,
            shown=("restart_1m_killed", "ready_ms")),
    at_most(RESTART, "10 M keys", "ten-million", ratio("restart_10m", "ready_ms"), 0.3,
            shown=("restart_10m", "ready_ms")),
    at_most(FAILOVER, "time", "failover", ratio("failover_gap", "gap_ms"), 1, shown=("failover_gap", "gap_ms")),
]
