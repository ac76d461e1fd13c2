"""A network of a few hosts, each a network namespace with one tun device, joined by a process that passes their
packets on, or loses, delays and reorders them. Works where the kernel has no netem.

Needs mount and network namespaces of the caller's own, and a /run of its own."""
import ctypes
import fcntl
import heapq
import multiprocessing
import os
import random
import select
import struct
import subprocess
import time

from lib.cluster import die_with_parent

NET = "10.77.0."
HERE = 1  # the host number of the namespace that the test runs in
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def address(host):
    return f"{NET}{host}"


def enter(path):
    fd = os.open(path, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {path}")
    os.close(fd)


def open_tun(path):
    """A device in the namespace at `path`, opened from here."""
    enter(path)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
    return fd


class Rule:
    """Of one direction between two hosts."""

    def __init__(self, loss=0.0, delay=(0.0, 0.0)):
        self.loss = loss
        self.delay = delay


CUT = Rule(loss=1.0)


class Wire:
    """with Wire(hosts) as wire: processes start with wire.prefix(host)."""

    def __init__(self, hosts, seed):
        self.hosts = list(hosts)
        self.seed = seed
        self.rules = {}

    def __enter__(self):
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        ip("link", "set", "lo", "up")
        for host in self.hosts:
            ip("netns", "add", f"h{host}")
        self.pipe, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self._run, args=(there,), daemon=True)
        self.process.start()
        assert self.pipe.poll(20) and self.pipe.recv() == "ready", "the wire does not start"
        for host in [HERE, *self.hosts]:
            inside = ["-n", f"h{host}"] if host != HERE else []
            ip(*inside, "addr", "add", f"{address(host)}/24", "dev", "wire")
            ip(*inside, "link", "set", "wire", "up")
            ip(*inside, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join(10)

    def prefix(self, host):
        return ["nsenter", f"--net=/run/netns/h{host}"]

    def set(self, rules):
        """Rules by (from, to); every other direction passes all."""
        self.rules = rules
        self.pipe.send(rules)

    def _run(self, pipe):
        die_with_parent()
        home = "/proc/self/ns/net"
        fds = {HERE: open_tun(home)}
        back = os.open(home, os.O_RDONLY)
        for host in self.hosts:
            fds[host] = open_tun(f"/run/netns/h{host}")
        ctypes.CDLL(None).setns(back, CLONE_NEWNET)
        pipe.send("ready")
        Router(fds, pipe, random.Random(self.seed)).run()


class Router:
    def __init__(self, fds, pipe, rng):
        self.fds = fds
        self.pipe = pipe
        self.rng = rng
        self.rules = {}
        self.delayed = []
        self.order = 0

    def run(self):
        poll = select.poll()
        for fd in self.fds.values():
            poll.register(fd, select.POLLIN)
        poll.register(self.pipe.fileno(), select.POLLIN)
        by_fd = {fd: host for host, fd in self.fds.items()}
        while True:
            timeout = None
            if self.delayed:
                timeout = max(0, (self.delayed[0][0] - time.monotonic()) * 1000)
            for fd, _ in poll.poll(timeout):
                if fd == self.pipe.fileno():
                    self.rules = self.pipe.recv()
                else:
                    self.read(fd, by_fd[fd])
            now = time.monotonic()
            while self.delayed and self.delayed[0][0] <= now:
                _, _, to, packet = heapq.heappop(self.delayed)
                self.write(to, packet)

    def read(self, fd, source):
        for _ in range(64):
            try:
                packet = os.read(fd, 65536)
            except OSError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue
            to = packet[19]
            rule = self.rules.get((source, to))
            if to not in self.fds or (rule and self.rng.random() < rule.loss):
                continue
            if rule and rule.delay[1] > 0:
                self.order += 1
                due = time.monotonic() + self.rng.uniform(*rule.delay)
                heapq.heappush(self.delayed, (due, self.order, to, packet))
            else:
                self.write(to, packet)

    def write(self, to, packet):
        try:
            os.write(self.fds[to], packet)
        except OSError:
            pass  # a device that is down, or full: lost
