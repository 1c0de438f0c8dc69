"""The line of statistics that the tool prints of some runs."""

import math
import statistics

QUANTILES = (("p5", 0.05), ("median", 0.5), ("p95", 0.95))


class Stat:
    """Times in µs, and the line that the tool makes of them."""

    def __init__(self, times, percentiles):
        self.times = times
        self.percentiles = percentiles

    @property
    def mean(self):
        return math.fsum(self.times) / len(self.times)

    def line(self):
        times, first, last = self.times, self.times[0], self.times[-1]
        if min(times) == max(times):
            text = f"count={len(times)} curr={last:.6g}(all same)"
        else:
            deviation = int(statistics.pstdev(times))
            text = f"count={len(times)} first={first:g} curr={last:g} min={min(times):g} max={max(times):g}"
            text += f" avg={self.mean:g} std={deviation}"
        if self.percentiles:
            ordered = sorted(times)
            at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in QUANTILES}
            text += "".join(f" {name}={value:g}" for name, value in at.items())
        return text
