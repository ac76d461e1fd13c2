"""From the results of scenarios to a Markdown table and a plot.

  report.py DIRECTORY    reads DIRECTORY/*.json, writes DIRECTORY/table.md and DIRECTORY/plot.svg
"""
import glob
import json
import math
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import budget  # noqa: E402


def load(directory):
    results = {}
    for path in sorted(glob.glob(os.path.join(directory, "*.json"))):
        with open(path) as file:
            result = json.load(file)
        results[result["scenario"]] = result
    return results


def number(value):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values):
    """Median, and the least and greatest in brackets."""
    if not values:
        return "–"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{number(min(values))}–{number(max(values))}]"


def figures(rounds, system, measure, figure):
    return [r[system][measure][figure] for r in rounds
            if figure in r.get(system, {}).get(measure, {})]


def verdict(line, rounds):
    holds = line.holds(rounds)
    return "not measured" if holds is None else "holds" if holds else "**does not hold**"


def budget_rows(results):
    for line in budget.LINES:
        result = results.get(line.scenario, {})
        rounds = result.get("rounds", [])
        columns = ["–", "–"]
        if line.shown:
            columns = [spread(figures(rounds, system, *line.shown)) for system in ("etcd", "kvd")]
        values = line.values(rounds)
        value = spread(values) + (line.unit if values else "")
        goal = f"{'≥' if line.at_least else '≤'} {line.goal:g}{line.unit}"
        yield [f"{line.work}: {line.what}", *columns, value, goal, verdict(line, rounds), str(len(values)),
               result.get("commit", "–")]


def measure_rows(results):
    """Every measure of every scenario."""
    for result in results.values():
        rounds = result["rounds"]
        names = []
        for r in rounds:
            for system in ("kvd", "etcd"):
                names += [n for n in r.get(system, {}) if n not in names and n != "machine"]
        for name in names:
            for system in ("etcd", "kvd"):
                def column(figure):
                    return spread(figures(rounds, system, name, figure))
                if not any(name in r.get(system, {}) for r in rounds):
                    continue
                yield [name, system, column("ops_per_second"), column("p50_us"), column("p99_us"), column("p999_us"),
                       column("cpu_us_per_op"), column("peak_mib"), column("written_bytes_per_op")]


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def conditions(results):
    lines = []
    for result in results.values():
        machine = result["machine"]
        lines.append(f"- {result['scenario']}: {len(result['rounds'])} round(s), commit {result['commit']}, "
                     f"{result['time']}, sync {spread(machine['sync_p50_us'])} µs; `{result['command']}`")
    first = next(iter(results.values()))
    lines.insert(0, f"{first['machine']['cpu']}, {first['machine']['cores']} cores, "
                    f"{first['machine']['memory_gib']:.0f} GiB, Linux {first['machine']['kernel']}; "
                    f"{first['versions']['kvd']}, {first['versions']['etcd']}.\n")
    return "\n".join(lines) + "\n"


def table(results):
    text = "# kvd beside etcd\n\nMedians [least–greatest] over the rounds; ratios pair by pair.\n\n"
    text += conditions(results) + "\n## The budget\n\n"
    text += markdown(["work", "etcd", "kvd", "compared", "goal", "", "rounds", "commit"], budget_rows(results))
    text += "\n## Every measure\n\nLatencies and CPU (summed over the members) in µs.\n\n"
    text += markdown(["measure", "", "ops/s", "p50", "p99", "p99.9", "CPU/op", "peak MiB", "bytes written/op"],
                     measure_rows(results))
    return text


# The plot: one bar for each line of the budget that compares the two, on a logarithmic axis, with the goal marked.

ROW, LABEL, WIDTH, TOP = 22, 430, 520, 50


def plot(results):
    rows = []
    for line in budget.LINES:
        values = line.values(results.get(line.scenario, {}).get("rounds", []))
        if values:
            # How many times better than the goal: above 1 holds, whichever side is good.
            median = statistics.median(values)
            rows.append((line, median, median / line.goal if line.at_least else line.goal / max(median, 1e-9)))
    low, high = 0.1, 100

    def x(value):
        clipped = min(max(value, low), high)
        return LABEL + WIDTH * (math.log(clipped) - math.log(low)) / (math.log(high) - math.log(low))

    height = TOP + ROW * len(rows) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 110}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="10" y="20" font-size="15">kvd beside etcd: each line of the budget against its goal</text>',
           f'<text x="10" y="38" fill="#555">1 = the goal; to the right is better</text>']
    for tick in (0.1, 0.3, 1, 3, 10, 30, 100):
        colour = "#333333" if tick == 1 else "#dddddd"
        out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 4}" x2="{x(tick):.1f}" y2="{height - 24}" stroke="{colour}"/>')
        out.append(f'<text x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for i, (line, median, score) in enumerate(rows):
        y = TOP + i * ROW
        left, right = sorted((x(1), x(score)))
        colour = "#2b8a3e" if score >= 1 else "#c92a2a"
        label = f"{line.work}: {line.what}".replace("&", "&amp;").replace("<", "&lt;")
        label = label if len(label) < 74 else label[:72] + "…"
        out.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end" font-size="11">{label}</text>')
        out.append(f'<rect x="{left:.1f}" y="{y + 3}" width="{max(right - left, 1):.1f}" height="{ROW - 7}" '
                   f'fill="{colour}"/>')
        out.append(f'<text x="{max(right, x(1)) + 5:.1f}" y="{y + 15}">{number(median)}{line.unit}</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def write(directory):
    results = load(directory)
    with open(os.path.join(directory, "table.md"), "w") as file:
        file.write(table(results))
    with open(os.path.join(directory, "plot.svg"), "w") as file:
        file.write(plot(results))
    return results


def summary(results):
    """The budget as plain lines, for a terminal."""
    for line in budget.LINES:
        rounds = results.get(line.scenario, {}).get("rounds", [])
        values = line.values(rounds)
        yield f"{verdict(line, rounds).strip('*'):15}  {spread(values) + line.unit if values else '–':28} " \
              f"goal {'≥' if line.at_least else '≤'} {line.goal:g}{line.unit:5} {line.work}: {line.what}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(summary(write(sys.argv[1]))))
