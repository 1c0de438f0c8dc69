"""Tables fit a terminal of 80 columns, and pipes, which count as one, without losing the answer."""

import io

from rich.console import Console

from leti.cli.report import predictions_table
from leti.core.queries import PredictionItem

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"


def test_long_names_do_not_push_the_latency_out() -> None:
    unknown = ("macs: 7.78e+06 outside what it was trained on (1e+07 to 2e+08)",)
    item = PredictionItem("a" * 64, 1234.567, 1000.25, 1300.75, 0.9, "predicted", "flops_by_memory", 12, unknown, True)
    console = Console(width=80, file=io.StringIO())
    console.print(predictions_table("platform", [CELL], [item]))
    shown = console.file.getvalue()
    for words in ("1234.567 ms", "1000.250 … 1300.750", "flops_by_memory v12", "7.78e+06", "degenerate"):
        assert words in shown
    assert "".join(line[:11].strip() for line in shown.splitlines()[4:]) == CELL
