"""Tables of operators: columns by their heads, sections told apart, delegates taken apart."""

from __future__ import annotations

import pytest

from leti.core.errors import MeasurementFailed
from leti.device_agents.android.operator_profile import parse_profile

TITLE = "============================== {} =============================="
HEAD = "node type, first, avg_ms, %, cdf%, mem KB, times called, name"
OLD_HEAD = "node type, start, first, avg_ms, %, cdf%, mem KB, times called, name"


def table(title: str, head: str, *rows: str) -> str:
    return "\n".join([TITLE.format(title), head, *rows, ""])


INITIALISATION = "Profiling Info for Benchmark Initialization:\n" + table(
    "Run Order", HEAD, "AllocateTensors, 5.061, 5.061, 100%, 100%, 1029, 1, AllocateTensors/0"
)
REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
TYPES = table(
    "Summary by node type",
    "node type, count, avg_ms, avg %, cdf %, mem KB, times called",
    "CONV_2D, 2, 9, 9%, 9%, 0, 2",
)


def test_the_regular_runs_are_taken_in_their_order() -> None:
    rows = ("CONV_2D, 0.1, 0.25, 50%, 50%, 0, 1, [a\tb]:0", "ADD, 0.1, 0.125, 25%, 75%, 0, 1, [c]:1")
    text = "\n".join(
        [
            INITIALISATION,
            REGULAR,
            table("Run Order", HEAD, *rows),
            table("Top by Computation Time", HEAD, *rows[::-1]),
            TYPES,
        ]
    )
    found = parse_profile(text)
    assert [(each.name, each.unit, each.times_us) for each in found] == [
        ("CONV_2D", "builtin", (250.0,)),
        ("ADD", "builtin", (125.0,)),
    ]


def test_an_older_tool_has_a_column_more() -> None:
    rows = ("CONV_2D, 0, 0.11, 0.093, 44%, 44%, 0, 1, [x]:0", "ELU, 0.0931277, 0.034, 0.03, 14%, 59%, 0, 1, [y]:1")
    found = parse_profile(REGULAR + table("Run Order", OLD_HEAD, *rows))
    assert [each.times_us[0] for each in found] == pytest.approx([93.0, 30.0])


def test_a_table_for_reading_is_read_too() -> None:
    head = "\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]"
    row = "\t                 CONV_2D\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t        1\t[a, b]:0"
    (found,) = parse_profile("INFO: " + REGULAR + "\n".join([TITLE.format("Run Order"), head, row, ""]))
    assert (found.name, found.unit, found.times_us) == ("CONV_2D", "builtin", (60957.0,))


def test_types_may_hold_commas_and_calls_are_counted() -> None:
    row = "Convolution (NHWC, F32) DWConv, 0.428, 0.05, 4%, 8%, 0, 13, Delegate/Convolution (NHWC\t F32) DWConv:1"
    (found,) = parse_profile(REGULAR + table("Run Order", HEAD, row))
    assert found.name == "Convolution (NHWC, F32) DWConv"
    assert found.unit == "xnnpack"
    assert found.times_us == pytest.approx((650.0,))


INSIDE = table(
    "Run Order",
    HEAD,
    "Convolution (NHWC, F32) GEMM, 0.3, 0.3, 60%, 60%, 0, 1, Delegate/Convolution:0",
    "Softmax (NC, F32), 0.1, 0.1, 20%, 80%, 0, 1, Delegate/Softmax:1",
)
OUTSIDE = table(
    "Run Order",
    HEAD,
    "PAD, 0.05, 0.05, 9%, 9%, 0, 1, [p]:0",
    "TfLiteXNNPackDelegate, 0.4, 0.4, 80%, 89%, 0, 1, [s]:9",
    "CAST, 0.02, 0.02, 4%, 93%, 0, 1, [c]:3",
)


def test_what_a_delegate_ran_stands_in_its_place_and_is_counted_once() -> None:
    found = parse_profile(f"{REGULAR}{OUTSIDE}\nDelegate internal: \n{INSIDE}")
    assert [(each.name, each.unit) for each in found] == [
        ("PAD", "builtin"),
        ("Convolution (NHWC, F32) GEMM", "xnnpack"),
        ("Softmax (NC, F32)", "xnnpack"),
        ("CAST", "builtin"),
    ]
    assert sum(each.times_us[0] for each in found) == pytest.approx(470.0)


@pytest.mark.parametrize(("node", "unit"), [("TfLiteGpuDelegateV2", "gpu"), ("TfLiteNnapiDelegate", "nnapi")])
def test_a_delegate_that_tells_nothing_of_itself_is_one_operator(node: str, unit: str) -> None:
    (found,) = parse_profile(REGULAR + table("Run Order", HEAD, f"{node}, 0.4, 0.4, 100%, 100%, 0, 1, [s]:9"))
    assert (found.name, found.unit, found.times_us) == (node, unit, (400.0,))


def test_subgraphs_are_taken_too() -> None:
    one = table("Run Order", HEAD, "WHILE, 0.4, 0.4, 100%, 100%, 0, 1, [s]:0")
    two = table("Run Order", HEAD, "ADD, 0.1, 0.1, 100%, 100%, 0, 3, [t]:0")
    text = f"{REGULAR}Primary graph (name: main) profile:\n{one}\nSubgraph (index: 1, name: body) profile:\n{two}"
    assert [each.name for each in parse_profile(text)] == ["WHILE", "ADD"]


@pytest.mark.parametrize("text", ["", INITIALISATION, REGULAR, REGULAR + table("Run Order", HEAD, "CONV_2D, x, y")])
def test_a_text_without_a_table_is_an_error(text: str) -> None:
    with pytest.raises(MeasurementFailed) as raised:
        parse_profile(text)
    assert raised.value.details["fault"] == "unreadable"


def test_a_time_that_is_no_number_is_no_operator() -> None:
    rows = ("CONV_2D, 0.1, nan%, 50%, 50%, 0, 1, [a]:0", "ADD, 0.1, 0.125, nan%, 75%, 0, 1, [c]:1")
    found = parse_profile(REGULAR + table("Run Order", HEAD, *rows))
    assert [(each.name, each.times_us) for each in found] == [("ADD", (125.0,))]
