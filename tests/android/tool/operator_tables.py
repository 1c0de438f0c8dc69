"""The tables that the tool makes of a profile: what LiteRT's own profiler tells, kernel by kernel, laid out as ever.

What a delegate runs is one node in the table of the graph, and has tables of its own after it. In CSV the names'
commas become tabs, the types' commas do not.
"""

import statistics
import sys

from stat_line import Stat

OLD_COLUMNS = ("start",)
CSV_COLUMNS = ("first", "avg_ms", "%", "cdf%", "mem KB", "times called")


def report_profile(tool):
    from leti.device_agents.desktop.litert_profile import profile

    with open(tool.value("graph"), "rb") as file:
        model = file.read()
    delegate = "builtin" if tool.given.get("use_xnnpack") == "false" else "xnnpack"
    kernels = profile(model, delegate=delegate, threads=max(1, int(tool.value("num_threads"))), runs=10)
    inner, outer = [], []
    for i, kernel in enumerate(kernels):
        if kernel.unit == "builtin":
            outer.append((kernel.name, f"[{kernel.name}]:{i}", kernel.times_us))
        else:
            inner.append((kernel.name, f"Delegate/{kernel.name}:{i}", kernel.times_us))
    if inner:
        whole = [sum(times) for times in zip(*(times for _, _, times in inner), strict=True)]
        outer.insert(0, ("TfLiteXNNPackDelegate", "[features, Identity]:0", whole))
    csv_file = tool.value("profiling_output_csv_file") or tool.value("op_profiling_output_file")
    csv = bool(tool.value("profiling_output_csv_file")) or tool.value("op_profiling_output_mode") == "csv"
    old = tool.generation in ("2020", "2018")
    steps = {"ModifyGraphWithDelegate": 1500, "AllocateTensors": 20}
    init = [(name, f"{name}/0", [time_us]) for name, time_us in steps.items()]
    text = "Profiling Info for Benchmark Initialization:\n" + tables(init, csv, old) + "\n"
    text += "Operator-wise Profiling Info for Regular Benchmark Runs:\n" + tables(outer, csv, old)
    if inner:
        text += "\nDelegate internal: \n" + tables(inner, csv, old)
    if csv_file:
        with open(csv_file, "w") as file:
            file.write(text)
    else:
        sys.stdout.write(text)


def tables(rows, csv, old):
    """Return the tables of one profile: in run order, by time, by node type, and their summary.

    Its averages are medians: what disturbs one run does not show in them.
    """
    means = [statistics.median(times) for _, _, times in rows]
    total = sum(means) or 1.0
    text = ""
    by_time = sorted(range(len(rows)), key=lambda i: -means[i])
    for title, order in (("Run Order", range(len(rows))), ("Top by Computation Time", by_time)):
        text += f"{'=' * 30} {title} {'=' * 30}\n" + header(csv, old)
        done = 0.0
        for i in order:
            start = sum(means[:i]) / 1000
            done += means[i]
            values = [rows[i][2][0] / 1000, means[i] / 1000, 100 * means[i] / total, 100 * done / total]
            name = rows[i][1] if old or not csv else rows[i][1].replace(",", "\t")
            text += row(rows[i][0], [start, *values] if old else values, name, csv)
        text += "\n"
    text += f"Number of nodes executed: {len(rows)}\n{'=' * 30} Summary by node type {'=' * 30}\n"
    text += types(rows, means, total, csv)
    runs = [sum(times) for times in zip(*(times for _, _, times in rows), strict=True)]
    stat = Stat(runs, percentiles=False).line()
    return text + f"\nTimings (microseconds): {stat}\nMemory (bytes): count=0\n{len(rows)} nodes observed\n\n"


def header(csv, old):
    columns = (*(OLD_COLUMNS if old else ()), *CSV_COLUMNS)
    if csv:
        return ", ".join(("node type", *columns, "name")) + "\n"
    names = ["avg ms" if column == "avg_ms" else column for column in columns]
    return f"\t{'[node type]':>24}" + "".join(f"\t{f'[{name}]':>9}" for name in names) + "\t[Name]\n"


def row(kind, values, name, csv):
    *times, share, sum_share = values
    if csv:
        texts = [*(f"{value:g}" for value in times), f"{share:g}%", f"{sum_share:g}%", "0", "1"]
        return ", ".join((kind, *texts, name)) + "\n"
    texts = [*(f"{value:.3f}" for value in times), f"{share:.3f}%", f"{sum_share:.3f}%", "0.000", "1"]
    return f"\t{kind:>24}" + "".join(f"\t{text:>9}" for text in texts) + f"\t{name}\n"


def types(rows, means, total, csv):
    kinds = {}
    for (kind, _, _), mean in zip(rows, means, strict=True):
        count, time_us = kinds.get(kind, (0, 0.0))
        kinds[kind] = (count + 1, time_us + mean)
    columns = ("count", "avg_ms", "avg %", "cdf %", "mem KB", "times called")
    lines = [
        ("node type", *columns) if csv else ("[Node type]", *(f"[{column.replace('_', ' ')}]" for column in columns))
    ]
    done = 0.0
    for kind, (count, mean) in sorted(kinds.items(), key=lambda item: -item[1][1]):
        done += mean
        shares = (f"{100 * mean / total:g}%", f"{100 * done / total:g}%")
        lines.append((kind, str(count), f"{mean / 1000:g}", *shares, "0", str(count)))
    if csv:
        return "".join(", ".join(line) + "\n" for line in lines)
    return "".join(f"\t{line[0]:>24}" + "".join(f"\t{cell:>9}" for cell in line[1:]) + "\n" for line in lines)
