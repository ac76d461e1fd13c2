#!/usr/bin/env python3
"""Where the time of a running process goes: stacks from perf, folded, and drawn as a flame graph.

  flame.py record PID SECONDS FILE.svg [TITLE]   samples the process and draws
  flame.py draw FILE.svg [TITLE] < stacks        draws folded stacks ("a;b;c COUNT" lines)
  flame.py fold < perf-script-output             prints folded stacks

In the picture the width of a box is the part of the samples in which that function is on the stack, what it calls
stands above it; hovering shows name and part. Below, each thread is a box of its own. Needs perf (linux-perf).
"""
import collections
import hashlib
import html
import os
import re
import subprocess
import sys
import tempfile

WIDTH, ROW, TOP, SIDE = 1200, 16, 40, 10
LEAST = 0.0015  # boxes narrower than this part of the whole are left out
HERTZ = 997


def shortened(symbol):
    """A C++ name without its arguments and template parameters."""
    symbol = re.sub(r"\(anonymous namespace\)", "anon", symbol)
    while True:
        shorter = re.sub(r"<[^<>]*>", "", symbol)
        if shorter == symbol:
            break
        symbol = shorter
    symbol = re.sub(r"\([^()]*\)( const)?", "", symbol)
    return symbol.replace(";", ":").strip() or "?"


def fold(lines):
    """Stacks of `perf script -F comm,ip,sym` as a counter of tuples, outermost first, the thread before all."""
    stacks = collections.Counter()
    thread, frames = None, []
    for line in [*lines, "\n"]:
        line = line.rstrip("\n")
        if not line.strip():
            if thread is not None:
                stacks[(thread, *reversed(frames))] += 1
            thread, frames = None, []
        elif not line[0].isspace():
            thread = line.strip()
        else:
            parts = line.split(maxsplit=1)
            if thread is None:
                thread = line.strip()
            else:
                frames.append(shortened(parts[1]) if len(parts) > 1 else "?")
    return stacks


def unfold(lines):
    stacks = collections.Counter()
    for line in lines:
        stack, _, count = line.rstrip("\n").rpartition(" ")
        if stack:
            stacks[tuple(stack.split(";"))] += int(count)
    return stacks


class Box:
    def __init__(self):
        self.count = 0
        self.inner = {}

    def add(self, stack, count):
        self.count += count
        box = self
        for frame in stack:
            box = box.inner.setdefault(frame, Box())
            box.count += count

    def depth(self):
        return 1 + max((b.depth() for b in self.inner.values()), default=0)


def colour(name):
    shade = hashlib.sha1(name.split("::")[0].encode()).digest()
    kinds = {"kvd": (230, 120, 60), "rocksdb": (90, 150, 220), "nghttp2": (130, 190, 90)}
    for prefix, (r, g, b) in kinds.items():
        if name.startswith(prefix):
            own = hashlib.sha1(name.encode()).digest()[0] % 30
            return f"rgb({r},{g + own - 15},{b + own})"
    return f"rgb({200 + shade[0] % 40},{190 + shade[1] % 40},{150 + shade[2] % 50})"


def draw(stacks, title):
    root = Box()
    for stack, count in sorted(stacks.items()):
        root.add(stack, count)
    total = max(root.count, 1)
    height = TOP + ROW * root.depth() + SIDE
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" '
           'font-size="11">', '<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="{SIDE}" y="20" font-size="15" font-family="sans-serif">{html.escape(title)}</text>',
           f'<text x="{SIDE}" y="34" font-family="sans-serif" fill="#555">{total} samples</text>']
    scale = (WIDTH - 2 * SIDE) / total

    def place(name, box, left, level):
        if box.count / total < LEAST:
            return
        width, y = box.count * scale, height - SIDE - ROW * (level + 1)
        text = html.escape(f"{name} {box.count / total * 100:.1f} %", quote=False)
        out.append(f'<g><title>{text}</title><rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" '
                   f'fill="{colour(name)}"/>')
        letters = int(width / 6.7)
        if letters >= 4:
            shown = name if len(name) <= letters else name[:letters - 1] + "…"
            out.append(f'<text x="{left + 2:.1f}" y="{y + ROW - 4}">{html.escape(shown, quote=False)}</text>')
        out.append("</g>")
        for inner_name, inner in sorted(box.inner.items()):
            place(inner_name, inner, left, level + 1)
            left += inner.count * scale

    place("all", root, SIDE, 0)
    out.append("</svg>\n")
    return "\n".join(out)


def inclusive(stacks, most=40):
    """In which part of the samples a function is on the stack."""
    seen = collections.Counter()
    for stack, count in stacks.items():
        for frame in set(stack):
            seen[frame] += count
    total = max(sum(stacks.values()), 1)
    return [f"{count / total * 100:6.1f} %  {frame}" for frame, count in seen.most_common(most)]


def record(pid, seconds):
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "perf.data")
        subprocess.run(["perf", "record", "-e", "cpu-clock", "-F", str(HERTZ), "-g", "-p", pid, "-o", data, "--",
                        "sleep", seconds], check=True, stderr=subprocess.DEVNULL)
        return read(data)


def read(data):
    script = subprocess.run(["perf", "script", "-i", data, "-F", "comm,ip,sym"], check=True, capture_output=True,
                            text=True, errors="replace")
    return fold(script.stdout.splitlines())


def main(args):
    if args[:1] == ["record"] and len(args) in (4, 5):
        stacks = record(args[1], args[2])
        with open(args[3], "w") as file:
            file.write(draw(stacks, args[4] if len(args) == 5 else ""))
        print("\n".join(inclusive(stacks)))
    elif args[:1] == ["draw"] and len(args) in (2, 3):
        with open(args[1], "w") as file:
            file.write(draw(unfold(sys.stdin), args[2] if len(args) == 3 else ""))
    elif args == ["fold"]:
        for stack, count in sorted(fold(sys.stdin).items()):
            print(";".join(stack), count)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
