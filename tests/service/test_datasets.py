"""Datasets as files: exported, imported into an empty service, and trained on there with the same results."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import tempfile

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")
pytest.importorskip("xgboost", reason="needs the extra boosting")
pytest.importorskip("pyarrow", reason="needs the extra arrow")

import anyio
import pyarrow
from pyarrow import parquet
from starlette.requests import ClientDisconnect

from leti.core.codec import from_json
from leti.core.datasets import DatasetInfo, DatasetRowPage
from leti.core.farm import CampaignRequest, Sample
from leti.core.measurement import OperatorTime
from leti.core.spec import NetworkSpec
from leti.core.tasks import Task
from leti.core.training import TrainingRequest
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors.profiles.runtime_names import kernels_of, litert_kernels
from leti.service.artifacts import ArtifactStore
from leti.service.routes.datasets import FileResponse

DATABASES = ("sqlite", "postgresql")
MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}
NETWORKS = 46
KINDS = ("linear", "lookup_table", "xgboost", "kernel_sum")


def send(house, content, form="parquet", media_type=None):
    headers = {"content-type": media_type or MEDIA_TYPES[form]}
    return house.client.post("/v1/datasets", params={"format": form}, content=content, headers=headers)


def imported(house, content, form="parquet"):
    """Have a file imported, and return the task that did it."""
    answer = send(house, content, form)
    assert answer.status_code == 202, answer.text
    assert house.run_tasks() == 1
    return from_json(Task, house.get(f"/tasks/{answer.json()['id']}").json())


def exported(house, dataset_id, form="parquet"):
    answer = house.client.get(f"/v1/datasets/{dataset_id}/items", headers={"accept": MEDIA_TYPES[form]})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(MEDIA_TYPES[form])
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.content


def profile_of(graph):
    """A profile in LiteRT's words."""
    return tuple(
        OperatorTime(f"{name} (NHWC, F32)", "xnnpack", (1.3 + sum(graph.ops[i].macs for i in kernel) / 1e4,) * 3)
        for kernel, names in zip(kernels_of(graph), litert_kernels(graph), strict=True)
        for name in names
    )


def upload(house, graph):
    """Upload a network as a file, and return its fingerprint."""
    binary = {"content-type": "application/octet-stream"}
    answer = house.client.post("/v1/uploads", params={"format": "tflite"}, content=export_model(graph), headers=binary)
    assert answer.status_code == 201, answer.text
    assert house.run_tasks() == 1
    return house.get(f"/uploads/{answer.json()['id']}").json()["fingerprint"]


def judged(report):
    """What a training found, without the time that it took."""
    return {
        info.kind: (info.cross_validation_mdape, dataclasses.replace(info.metrics, fit_s=0.0, us_per_prediction=0.0))
        for info in report.predictors
    }


@pytest.fixture(scope="module")
def measured(shared):
    """A house with networks measured, some profiled, some repeated, two without a spec; and a training."""
    shared.files = [upload(shared, lower(spec)) for spec in get_space("nasbench201").sample(2, 77, shared.small)]
    samples = (Sample("nasbench201", NETWORKS, 0, shared.small),)
    fields = {"repeats": 2, "repeat_share": 0.3, "profile": True}
    request = CampaignRequest("first", shared.platform_id, samples, tuple(shared.files), **fields)
    assert shared.post("/campaigns", request).status_code == 201
    while (lease := shared.lease(64)) is not None:
        for job in lease.jobs:
            (graph,) = shared.store.networks.graphs([job.fingerprint])
            times = profile_of(graph) if job.profile and int(job.fingerprint, 16) % 3 else ()
            assert shared.report(lease, job, operator_times=times).status == "stored"
    shared.trained = shared.train(*KINDS)
    return shared


@pytest.fixture(scope="module")
def files(measured):
    return {form: exported(measured, measured.trained.dataset_id, form) for form in MEDIA_TYPES}


# --- there and back --------------------------------------------------------------------------------------------------


def test_retrained_elsewhere_it_gives_the_same_metrics(measured, files, house):
    form = "parquet" if house.settings.database_url else "csv"
    task = imported(house, files[form], form)
    assert task.state == "done", task.problem
    info = from_json(DatasetInfo, task.report)
    there = from_json(DatasetInfo, measured.get(f"/datasets/{measured.trained.dataset_id}").json())
    assert (info.networks_train, info.networks_holdout) == (there.networks_train, there.networks_holdout) == (36, 12)
    assert (info.origin.dataset_id, info.origin.created_at, info.origin.format) == (there.id, there.created_at, form)
    assert info.repeatability == there.repeatability is not None
    assert house.rows("SELECT count(*) FROM measurements") == [(0,)]
    (platform,) = house.get("/platforms").json()
    assert (platform["id"], platform["networks_measured"], platform["reference_latency_ms"]) == (
        measured.platform_id,
        0,
        None,
    )
    again = house.train(*KINDS, dataset_id=info.id)
    assert judged(again) == judged(measured.trained)
    assert again.repeatability == measured.trained.repeatability
    assert again.dataset_id == info.id
    assert [one["id"] for one in house.get("/datasets").json()["items"]] == [info.id]
    served = next(one.kind for one in again.predictors if one.active)
    assert served == next(one.kind for one in measured.trained.predictors if one.active)
    again = imported(house, files[form], form)
    assert from_json(DatasetInfo, again.report) == info
    assert ArtifactStore.open(house.settings).list("datasets") == []
    exported_again = {other: exported(house, info.id, other) for other in MEDIA_TYPES}
    assert table_of(exported_again["parquet"]) == table_of(files["parquet"])


@pytest.mark.sqlite
def test_profiles_count_and_what_is_measured_later_does_not(measured):
    """The look-up table learns from what was kept at the time: without, it would be another one."""
    dataset_id = measured.trained.dataset_id
    rows = measured.rows(f"SELECT count(operator_times), count(*) FROM dataset_items WHERE dataset_id = {dataset_id}")
    assert 0 < rows[0][0] < rows[0][1] == NETWORKS + 2
    measured.add_campaign("later", count=12, seed=5)
    measured.measure_all()
    again = measured.train("lookup_table", dataset_id=dataset_id, activate=False)
    assert judged(again)["lookup_table"] == judged(measured.trained)["lookup_table"]
    assert exported(measured, dataset_id, "parquet") == exported(measured, dataset_id, "parquet")


@pytest.mark.sqlite
def test_both_forms_say_the_same_exactly(measured, files, house):
    table = table_of(files["parquet"])
    rows = list(csv.DictReader(io.StringIO(files["csv"].decode())))
    assert len(rows) == NETWORKS + 2
    assert json.loads(rows[0]["dataset"]) == json.loads(parquet_header(files["parquet"]))
    assert not any(row.pop("dataset") for row in rows[1:])
    for name in ("ratio", "spread", "latency_ms", "count"):
        assert [float(row[name]) for row in rows] == [row[name] for row in table]
    for name in set(table[0]) - {"ratio", "spread", "latency_ms", "count"}:
        assert [row[name] for row in rows] == [row[name] for row in table]
    dataset_id = measured.trained.dataset_id
    page = from_json(DatasetRowPage, measured.get(f"/datasets/{dataset_id}/items", limit=40).json())
    rest = from_json(DatasetRowPage, measured.get(f"/datasets/{dataset_id}/items", cursor=page.next).json())
    assert rest.next is None
    found = [*page.items, *rest.items]
    assert [row.latency_ms for row in found] == [row["latency_ms"] for row in table]
    assert {row.fingerprint for row in found if row.spec is None} == set(measured.files)
    assert all((row.graph is None) != (row.spec is None) for row in found)
    pandas = pytest.importorskip("pandas", reason="a reader alone needs it")
    assert list(pandas.read_csv(io.BytesIO(files["csv"]))["fingerprint"]) == [row["fingerprint"] for row in table]


@pytest.mark.sqlite
def test_what_was_held_out_elsewhere_stays_held_out(measured, files, house):
    imported(house, files["parquet"])
    house.add_campaign(count=NETWORKS)  # of the networks of the dataset, with the same seed
    house.measure_all()
    platform = house.get(f"/platforms/{house.platform_id}").json()
    assert platform["reference_version"] == 2  # the first one is the dataset's, and not the platform's own
    report = house.train("flops", holdout_share=0.05, activate=False)
    held = "SELECT fingerprint FROM dataset_items WHERE part = 'test' AND dataset_id = {}"
    there = {name for (name,) in measured.rows(held.format(measured.trained.dataset_id))} - set(measured.files)
    assert {name for (name,) in house.rows(held.format(report.dataset_id))} == there


@pytest.mark.sqlite
def test_it_is_trained_on_where_it_belongs_alone(measured, house_on, problem_of):
    other = dataclasses.replace(measured.platform, threads=2)
    house = house_on(other)
    house.add_platform()
    request = TrainingRequest(house.platform_id, ("flops",), dataset_id=1)
    problem_of(house.post("/predictors", request), 404, "not-found")
    few = changed(measured, lambda rows: rows[:6])
    assert imported(house, few).state == "done"
    assert problem_of(house.post("/predictors", request), 409, "conflict")["field"] == "dataset_id"
    request = TrainingRequest(measured.platform_id, ("flops",), dataset_id=1)
    assert problem_of(house.post("/predictors", request), 409, "too-few-measurements")["field"] == "dataset_id"


# --- bad files -------------------------------------------------------------------------------------------------------


def table_of(content):
    return parquet.read_table(io.BytesIO(content)).to_pylist()


def parquet_header(content):
    return parquet.read_schema(io.BytesIO(content)).metadata[b"leti.dataset"].decode()


def changed(measured, change, form="parquet", **fields):
    """A dataset's file whose rows were changed; the header counts them anew, and says ``fields``."""
    content = exported(measured, measured.trained.dataset_id)
    table = parquet.read_table(io.BytesIO(content))
    header = json.loads(parquet_header(content))
    rows = change(table.to_pylist())
    parts = [row["part"] for row in rows]
    header |= {"networks_train": parts.count("train"), "networks_holdout": parts.count("test")} | fields
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*table.column_names, "dataset"])
        writer.writeheader()
        writer.writerows([row | {"dataset": "" if i else json.dumps(header)} for i, row in enumerate(rows)])
        return text.getvalue().encode()
    schema = table.schema.with_metadata({"leti.dataset": json.dumps(header)})
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()


def with_cell(i, **cells):
    def change(rows):
        rows[i] |= cells
        return rows

    return change


def twice(rows):
    return [*rows, rows[0]]


def on_both_sides(rows):
    """Have a twin of a network of another fingerprint, in the same class, on the other side."""
    spec = next(json.loads(row["spec"]) for row in rows if row["spec"])
    group = next(row["group"] for row in rows if row["spec"])
    row = next(row for row in rows if row["group"] == group)
    twin_spec = {**spec, "config": {**spec["config"], "classes": spec["config"]["classes"] + 1}}
    twin = lower(NetworkSpec.from_json(twin_spec, "spec")).fingerprint()
    part = "test" if row["part"] == "train" else "train"
    return [*rows, row | {"spec": json.dumps(twin_spec), "fingerprint": twin, "part": part}]


def swapped(rows):
    rows[0]["fingerprint"], rows[1]["fingerprint"] = rows[1]["fingerprint"], rows[0]["fingerprint"]
    return rows


def wrong_graph(rows):
    row = next(row for row in rows if row["graph"])
    graph = json.loads(row["graph"])
    graph["ops"][0]["macs"] += 1
    row["graph"] = json.dumps(graph)
    return rows


def same(rows):
    return rows


BAD = [
    (with_cell(0, ratio="NaN"), {}, "rows[0].ratio"),
    (with_cell(3, ratio=-1.0), {}, "rows[3].ratio"),
    (with_cell(3, latency_ms=1.0), {}, "rows[3].latency_ms"),
    (with_cell(3, count=0), {}, "rows[3].count"),
    (with_cell(3, part="both"), {}, "rows[3].part"),
    (with_cell(3, group="another"), {}, "rows[3].group"),
    (with_cell(3, precision="float16"), {}, "rows[3].precision"),
    (with_cell(3, spec="{"), {}, "rows[3].spec"),
    (with_cell(3, spec="[" * 100_000), {}, "rows[3].spec"),
    (with_cell(3, spec='{"space": "nowhere"}'), {}, "rows[3].spec"),
    (with_cell(3, spec="", graph=""), {}, "rows[3].spec"),
    (with_cell(3, operator_times='[{"name": "a", "unit": "b", "times_us": []}]'), {}, "rows[3].operator_times[0]"),
    (swapped, {}, "rows[0].fingerprint"),
    (wrong_graph, {}, ".graph.ops[0].macs"),
    (twice, {}, f"rows[{NETWORKS + 2}].fingerprint"),
    (on_both_sides, {}, f"rows[{NETWORKS + 2}].group"),
    (same, {"networks_train": 1}, "rows"),
    (same, {"reference": "0" * 64}, "dataset.reference"),
    (same, {"reference_latency_ms": 0}, "dataset.reference_latency_ms"),
    (same, {"platform": {}}, "dataset.platform"),
    (same, {"more": 1}, "dataset.more"),
    (same, {"file_version": 2}, "dataset.file_version"),
]


@pytest.mark.sqlite
def test_what_does_not_fit_is_refused_by_row_and_column(measured, house):
    for change, fields, field in BAD:
        task = imported(house, changed(measured, change, "csv", **fields), "csv")
        assert task.state == "failed", (change, fields)
        assert field in task.problem.field, (task.problem, change, fields)
        assert task.problem.detail
    for table in ("datasets", "dataset_items", "platforms", "measurements", "reference_latencies"):
        assert house.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    assert ArtifactStore.open(house.settings).list("datasets") == []


@pytest.mark.sqlite
def test_files_that_are_damaged_or_none_are_refused(measured, files, house, problem_of):
    good, text = files["parquet"], files["csv"].decode()
    lines = text.splitlines(keepends=True)
    not_a_number = changed(measured, with_cell(0, ratio=float("nan")))
    bad = {
        "parquet": [
            good[:-200],
            good[: len(good) // 2],
            b"PAR1" * 50,
            text.encode(),
            _other_schema(good),
            not_a_number,
        ],
        "csv": [
            text[: len(text) // 2].encode(),
            "".join(lines[:-1]).encode(),
            "".join([lines[0], *lines[2:]]).encode(),
            lines[0].encode(),
            text.replace("ratio", "rate", 1).encode(),
            (text + "one,two\n").encode(),
            good,
            b"\xff\xfe",
        ],
    }
    for form, contents in bad.items():
        for content in contents:
            task = imported(house, content, form)
            assert task.state == "failed", (form, content[:80])
            assert task.problem.type in ("urn:leti:problem:invalid-input", "urn:leti:problem:too-large"), task.problem
            assert task.problem.field, task.problem
    assert house.rows("SELECT count(*) FROM datasets") == [(0,)]
    problem_of(send(house, b""), 422, "invalid-input")
    problem_of(send(house, good, media_type="text/html"), 415)
    problem_of(house.client.post("/v1/datasets?format=xlsx", content=good), 422, "invalid-input")
    problem_of(house.get("/datasets/9/items"), 404, "not-found")


def _other_schema(content):
    table = parquet.read_table(io.BytesIO(content))
    column = pyarrow.array([str(value) for value in table["ratio"].to_pylist()])
    sink = io.BytesIO()
    parquet.write_table(table.set_column(table.schema.get_field_index("ratio"), "ratio", column), sink)
    return sink.getvalue()


@pytest.mark.sqlite
def test_limits_hold_for_rows_cells_and_what_is_packed(measured, house):
    row = table_of(exported(measured, measured.trained.dataset_id))[0]
    bombs = {
        "rows": (changed(measured, lambda rows: [row] * 300), {"max_dataset_networks": 200}),
        "operator_times": (changed(measured, with_cell(0, operator_times=" " * (5 * 2**20))), {}),
        "(body)": (
            changed(measured, lambda rows: [row | {"group": " " * 2**20}] * 60),
            {"max_dataset_bytes": 20 * 2**20},
        ),
    }
    for field, (content, limits) in bombs.items():
        assert len(content) < 2 * 2**20
        house.settings = dataclasses.replace(house.settings, **limits)
        task = imported(house, content)
        assert task.problem is not None
        assert (task.problem.type, task.problem.field) == ("urn:leti:problem:too-large", field), task.problem
    house.settings = dataclasses.replace(house.settings, max_dataset_networks=4)
    task = imported(house, exported(measured, measured.trained.dataset_id, "csv"), "csv")
    assert (task.problem.type, task.problem.field) == ("urn:leti:problem:too-large", "rows")


@pytest.mark.sqlite
def test_pages_and_files_are_not_mixed_up(measured, problem_of):
    path = f"/v1/datasets/{measured.trained.dataset_id}/items"
    for parameters in ({"limit": 3}, {"cursor": "0" * 64}):
        answer = measured.client.get(path, params=parameters, headers={"accept": "text/csv"})
        assert problem_of(answer, 422)["field"] in parameters
    problem_of(measured.client.get(path, headers={"accept": "text/html"}), 406, "not-acceptable")


def test_a_file_that_nobody_takes_is_closed():
    async def gone(message):
        raise OSError("the connection is lost")

    async def waiting():
        raise AssertionError("nothing is read")

    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(b"rows")
    response = FileResponse(file, {}, "text/csv")
    with pytest.raises(ClientDisconnect):
        anyio.run(response, {"type": "http", "method": "GET", "asgi": {"spec_version": "2.4"}}, waiting, gone)
    assert file.closed
