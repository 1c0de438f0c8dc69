"""A stand-in for TensorFlow Lite's benchmark_model: runs the model with LiteRT, and says it in the tool's words.

It is pushed to a phone as ``benchmark_model`` (see :func:`sandbox.write_tool`). What it does otherwise than the tool of
today is told by ``/phone/tool.json``: an object by model (its SHA-256, or "any") of switches::

    generation  "2020": no prefixes and no percentiles; "2018": another summary as well; "compiled": the tool of the
                CompiledModel API, whose summary is another and goes to stderr
    same        all runs take equally long            scale   times are this many times longer
    forgotten   flags that it does not know           gpu     "full", "partial", "none" or "failed"
    end         "segv", "abrt", "kill", "exit", "hang" or "cut" (off without the results), ``at`` "start", "warm-up"
                or "runs"                             ending  what lines end with
    nul         NUL bytes in the output               times   how many processes this holds for
    writes      what it writes to which files before its runs: a phone that warms up meanwhile
"""

import hashlib
import json
import os
import resource
import signal
import statistics
import sys
import time

import packages  # noqa: F401 - made when the tool is written: where Python finds LiteRT
from operator_tables import report_profile
from stat_line import Stat

SWITCHES = "/phone/tool.json"

FLAGS = {
    "graph": "",
    "num_threads": "-1",
    "num_runs": "50",
    "min_secs": "1",
    "max_secs": "150",
    "warmup_runs": "1",
    "warmup_min_secs": "0.5",
    "run_delay": "-1",
    "run_frequency": "-1",
    "use_xnnpack": "false",
    "use_gpu": "false",
    "gpu_backend": "",
    "gpu_precision_loss_allowed": "true",
    "use_nnapi": "false",
    "require_full_delegation": "false",
    "enable_op_profiling": "false",
    "op_profiling_output_mode": "stdout",
    "op_profiling_output_file": "",
    "profiling_output_csv_file": "",
    "max_profiling_buffer_entries": "1024",
    "report_peak_memory_footprint": "false",
    "memory_footprint_check_interval_ms": "50",
    "verbose": "false",
    "help": "false",
}
COMPILED_FLAGS = {"use_cpu": "true", "use_npu": "false", "use_profiler": "false", "dispatch_library_path": ""}


class Failed(Exception):
    """The tool reports an error and ends with 1."""


class Tool:
    """One process of the tool: its flags, its switches, its voice."""

    def __init__(self, arguments):
        self.flags = dict(FLAGS)
        self.given = {}
        self.left = []
        self.switches = {}
        for argument in arguments:
            name, _, value = argument.removeprefix("--").partition("=")
            self.given[name] = value if "=" in argument else "true"
        self.switches = switches_for(self.given.get("graph", ""))
        if self.generation == "compiled":
            self.flags |= COMPILED_FLAGS
        for name in self.switches.get("forgotten", ()):
            self.flags.pop(name, None)
        for name, value in self.given.items():
            if name in self.flags:
                self.flags[name] = value
            else:
                self.left.append(f"--{name}={value}")

    @property
    def generation(self):
        return self.switches.get("generation", "now")

    def value(self, name):
        """Return a flag's value; one that is not known has the usual one."""
        return self.flags.get(name, FLAGS[name])

    def flag(self, name):
        return self.value(name) in ("true", "1")

    def say(self, text, level="INFO", stream=None):
        prefix = "" if self.generation in ("2020", "2018") else f"{level}: "
        if self.switches.get("nul"):
            text = text.replace(" ", " \0", 1)
        stream = stream or (sys.stderr if level in ("ERROR", "FATAL") else sys.stdout)
        stream.write(f"{prefix}{text}" + self.switches.get("ending", "\n"))
        stream.flush()

    def moment(self, name):
        """End here in the way that is wanted."""
        if self.switches.get("at", "start") != name:
            return
        end = self.switches.get("end")
        if end in ("segv", "abrt", "kill"):
            os.kill(os.getpid(), getattr(signal, f"SIG{end.upper()}"))
        elif end == "exit":
            raise SystemExit(3)
        elif end == "cut":
            raise SystemExit(0)
        elif end == "hang":
            while True:
                time.sleep(60)


def switches_for(model):
    try:
        with open(SWITCHES) as file:
            table = json.load(file)
    except (OSError, ValueError):
        return {}
    try:
        with open(model, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError:
        digest = ""
    found = {**table.get("any", {}), **table.get(digest, {})}
    if "times" in found:
        counter = f"/phone/tool-{digest}.count"
        seen = os.path.getsize(counter) if os.path.exists(counter) else 0
        if seen >= found["times"]:
            return {}
        with open(counter, "a") as file:
            file.write("x")
    return found


def usage(tool):
    tool_name = sys.argv[0]
    sys.stderr.write(f"usage: {tool_name}\nFlags:\n")
    for name, value in tool.flags.items():
        kind = "bool" if value in ("true", "false") else "int32" if value.lstrip("-").isdigit() else "string"
        need = "required" if name == "graph" else "optional"
        sys.stderr.write(f"\t--{name}={value}".ljust(50) + f"\t{kind}\t{need}\t{name.replace('_', ' ')}\n")
    raise Failed


def load(tool):
    """Return an interpreter with its inputs set; say what the tool says meanwhile."""
    path = tool.value("graph")
    if not path:
        tool.say("Please specify the name of your TF Lite input file with --graph", "ERROR")
        raise Failed
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        tool.say(f"Failed to initialize model loader with path {path}", "ERROR")
        raise Failed from None
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = tool.given.get("use_xnnpack") == "false"
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    threads = max(1, int(tool.value("num_threads")))
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads, experimental_op_resolver_type=resolver)
    except ValueError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        tool.say(f"Failed to load model {path}", "ERROR")
        raise Failed from None
    tool.say(f"Loaded model {path}")
    delegate(tool)
    try:
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"ERROR: {error}\n")
        tool.say("Failed to allocate tensors!", "ERROR")
        raise Failed from None
    if tool.given.get("use_xnnpack") == "true":
        kernels = sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
        applied(tool, "XNNPACK", "full" if kernels == 1 else "partial" if kernels else "none", kernels)
    tool.say(f"The input model file size (MB): {len(content) / 1e6:.6g}")
    random = np.random.default_rng(0)
    for tensor in interpreter.get_input_details():
        dtype = np.dtype(tensor["dtype"])
        values = random.random(tensor["shape"]) if dtype.kind == "f" else random.integers(0, 127, tensor["shape"])
        interpreter.set_tensor(tensor["index"], values.astype(dtype))
    return interpreter


def delegate(tool):
    """Say how the GPU delegate fares; this phone has none of its own."""
    if tool.flag("use_gpu"):
        applied(tool, "GPU", tool.switches.get("gpu", "failed"), 2)


def applied(tool, name, extent, kernels):
    if extent == "failed":
        tool.say(f"Failed to apply {name} delegate.", "ERROR")
        raise Failed
    if extent != "full" and tool.flag("require_full_delegation"):
        tool.say("Disallowed CPU fallback detected.", "ERROR")
        raise Failed
    if extent == "none":
        tool.say(f"Though {name} delegate is explicitly applied, the model graph will not be executed by the delegate.")
    elif extent == "partial":
        by = f"partially executed by the delegate w/ {kernels} delegate kernels."
        tool.say(f"Explicitly applied {name} delegate, and the model graph will be {by}")
    else:
        by = "completely executed by the delegate."
        tool.say(f"Explicitly applied {name} delegate, and the model graph will be {by}")


def run(tool, invoke, least, least_s, most_s):
    """Run as often and as long as is wanted; return the times."""
    tool.say(
        f"Running benchmark for at least {least} iterations and at least {least_s:g} seconds"
        f" but terminate if exceeding {most_s:g} seconds."
    )
    times = []
    start = time.perf_counter()
    while (len(times) < least or time.perf_counter() < start + least_s) and time.perf_counter() <= start + most_s:
        before = time.perf_counter_ns()
        invoke()
        times.append(max(1, (time.perf_counter_ns() - before) * tool.switches.get("scale", 1) // 1000))
        if tool.switches.get("same"):
            times[-1] = times[0]
    stat = Stat(times, percentiles=tool.generation not in ("2020", "2018"))
    tool.say(stat.line())
    return stat


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments):
    tool = Tool(arguments)
    if tool.flag("help"):
        usage(tool)
    tool.say("STARTING!")
    if tool.left:
        tool.say(f"Unconsumed cmdline flags: {' '.join(tool.left)}", "WARN")
    tool.say("Log parameter values verbosely: [0]")
    for name, text in (("num_runs", "Min num runs"), ("num_threads", "Num threads"), ("graph", "Graph")):
        if name in tool.given:
            tool.say(f"{text}: [{tool.value(name)}]")
    tool.moment("start")
    before_mb = peak_mb()
    start = time.perf_counter_ns()
    interpreter = load(tool)
    init_us = (time.perf_counter_ns() - start) // 1000
    init_mb = peak_mb() - before_mb
    tool.say(f"Initialized session in {init_us / 1000:g}ms.")
    tool.moment("warm-up")
    most_s = float(tool.value("max_secs"))
    warm = run(tool, interpreter.invoke, int(tool.value("warmup_runs")), float(tool.value("warmup_min_secs")), most_s)
    for path, text in tool.switches.get("writes", {}).items():
        with open(path, "w") as file:
            file.write(f"{text}\n")
    tool.moment("runs")
    runs = run(tool, interpreter.invoke, int(tool.value("num_runs")), float(tool.value("min_secs")), most_s)
    summary(tool, init_us, warm, runs, init_mb, peak_mb() - before_mb)
    if tool.flag("enable_op_profiling"):
        report_profile(tool)


def summary(tool, init_us, warm, runs, init_mb, overall_mb):
    """Say the results once more, in the words of the tool's generation."""
    if tool.generation == "compiled":
        for text in (
            "========== BENCHMARK RESULTS ==========",
            f"Model initialization: {init_us / 1000:.2f} ms",
            f"Warmup (first):       {warm.times[0] / 1000:.2f} ms",
            f"Warmup (avg):         {warm.mean / 1000:.2f} ms ({len(warm.times)} runs)",
            f"Inference (avg):      {runs.mean / 1000:.2f} ms ({len(runs.times)} runs)",
            f"Inference (min):      {min(runs.times) / 1000:.2f} ms",
            f"Inference (max):      {max(runs.times) / 1000:.2f} ms",
            f"Inference (std):      {statistics.pstdev(runs.times) / 1000:.2f}",
            f"Init footprint:       {init_mb:.2f} MB",
            f"Overall footprint:    {overall_mb:.2f} MB",
            "======================================",
        ):
            tool.say(text, stream=sys.stderr)
        return
    timings = f"Init: {init_us}, First inference: {warm.times[0]}, Warmup (avg): {warm.mean:.6g}"
    if tool.generation == "2018":
        tool.say(
            f"Average inference timings in us: Warmup: {warm.mean:.6g}, Init: {init_us}, Inference: {runs.mean:.6g}"
        )
        return
    tool.say(f"Inference timings in us: {timings}, Inference (avg): {runs.mean:.6g}")
    tool.say(
        "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual"
        " memory footprint of the model at runtime. Take the information at your discretion."
    )
    delta = f"init={init_mb:.6g} overall={overall_mb:.6g}"
    if tool.generation == "2020":
        tool.say(f"Peak memory footprint (MB): {delta}")
        return
    tool.say(f"Memory footprint delta from the start of the tool (MB): {delta}")
    if tool.flag("report_peak_memory_footprint"):
        tool.say(f"Overall peak memory footprint (MB) via periodic monitoring: {peak_mb():.6g}")
        tool.say("Memory status at the end of exeution:")
        tool.say(f"- VmRSS              : {peak_mb() * 1024:.0f} KB")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        main(sys.argv[1:])
    except Failed:
        if "--help" not in sys.argv:
            sys.stderr.write("ERROR: Benchmarking failed.\n")
        sys.exit(1)
