"""Compressed forms of networks in campaigns: drawn, measured, kept with their base, and never parted from it."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from alembic import command

from leti.core.codec import from_json, to_json
from leti.core.farm import CampaignRequest, Sample
from leti.core.patches import CompressedSample, Patch
from leti.generator.compressing.patching import patched
from leti.generator.compressing.sampling import compressed
from leti.generator.importers import import_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.database import alembic_config

DATABASES = ("sqlite", "postgresql")


def specs(house, count=2):
    return get_space("nasbench201").sample(count, 5, house.small)


def create(house, *samples, name="compressed", **fields):
    request = CampaignRequest(name, house.platform_id, repeats=1, compressed=samples, **fields)
    return house.post("/campaigns", request)


def measured(house):
    """Return the networks of all jobs."""
    names = [row[0] for row in house.rows("SELECT DISTINCT fingerprint FROM jobs ORDER BY fingerprint")]
    return [house.get(f"/networks/{name}").json() for name in names]


def test_a_campaign_measures_compressed_forms_that_are_kept_with_their_bases(house):
    house.add_platform()
    bases = specs(house)
    samples = [CompressedSample(spec.to_json(), 5, seed) for seed, spec in enumerate(bases)]
    answer = create(house, *samples)
    assert (answer.status_code, answer.json()["networks"]) == (201, 10), answer.text
    assert create(house, *samples).status_code == 200
    found = measured(house)
    assert len(found) == 10
    graphs = {lower(spec).fingerprint(): lower(spec) for spec in bases}
    for network in found:
        assert (network["source"], network["space"], network["spec"]) == ("patch", "", None)
        base = house.get(f"/networks/{network['base']}").json()
        assert network["isomorphism_class"] == base["isomorphism_class"]
        form = patched(graphs[network["base"]], from_json(Patch, network["patch"])).graph
        assert (form.fingerprint(), form.macs) == (network["fingerprint"], network["macs"])
    model = house.get(f"/networks/{found[0]['fingerprint']}/model").content
    assert import_model(model).graph.fingerprint() == found[0]["fingerprint"]


def test_no_split_parts_a_compressed_network_from_its_base(house):
    bases = specs(house, 10)
    house.add_campaign("bases", 0, networks=tuple(spec.to_json() for spec in bases))
    answer = create(house, *(CompressedSample(spec.to_json(), 3) for spec in bases))
    assert answer.status_code == 201, answer.text
    assert house.measure_all() == 40
    house.train("flops", holdout_share=0.3)
    rows = house.rows('SELECT "group", part FROM dataset_items')
    assert len(rows) == 40
    space = get_space("nasbench201")
    assert {group for group, _ in rows} == {f"nasbench201:{space.isomorphism_class(spec)}" for spec in bases}
    assert len(set(rows)) == 10  # one part each
    assert {part for _, part in rows} == {"train", "test"}


@pytest.mark.sqlite
def test_a_file_of_a_dataset_with_compressed_networks_is_read_again(house):
    house.add_platform()
    assert create(house, *(CompressedSample(spec.to_json(), 3) for spec in specs(house, 12))).status_code == 201
    house.measure_all()
    house.train("flops", holdout_share=0.3)
    (info,) = house.get("/datasets").json()["items"]
    headers = {"accept": "text/csv", "content-type": "text/csv"}
    content = house.client.get(f"/v1/datasets/{info['id']}/items", headers=headers).content
    answer = house.client.post("/v1/datasets", params={"format": "csv"}, content=content, headers=headers)
    assert answer.status_code == 202, answer.text
    assert house.run_tasks() == 1
    task = house.get(f"/tasks/{answer.json()['id']}").json()
    assert (task["state"], task["report"]["networks_train"]) == ("done", info["networks_train"]), task


@pytest.mark.sqlite
def test_forms_are_in_the_precision_of_the_platform(house_on, house):
    int8 = house_on(dataclasses.replace(house.platform, model_precision="full_integer"))
    int8.add_platform()
    (spec,) = specs(int8, 1)
    assert create(int8, CompressedSample(spec.to_json(), 6, 1)).status_code == 201
    for network in measured(int8):
        assert (network["precision"], network["patch"]["precision"]) == ("full_integer", "full_integer")
        assert network["base"] == lower(spec).fingerprint()
        form = patched(lower(spec), from_json(Patch, network["patch"])).graph
        assert form.fingerprint() == network["fingerprint"]


@pytest.mark.sqlite
def test_a_form_by_its_fingerprint_is_a_form_in_another_precision(house_on, house):
    house.add_platform()
    (spec,) = specs(house, 1)
    assert create(house, CompressedSample(spec.to_json(), 1)).status_code == 201
    (plain,) = measured(house)
    int8 = house_on(dataclasses.replace(house.platform, model_precision="full_integer"))
    int8.add_platform()
    assert create(int8, networks=(plain["fingerprint"],)).status_code == 201
    (other,) = [network for network in measured(int8) if network != plain]
    assert other["patch"] == {**plain["patch"], "precision": "full_integer"}
    assert all(other[said] == plain[said] for said in ("base", "isomorphism_class", "source", "macs"))


def test_where_forms_are_not_known_they_are_graphs(house):
    house.add_platform()
    (spec,) = specs(house, 1)
    assert create(house, CompressedSample(spec.to_json(), 2)).status_code == 201
    database = house.store._database
    with database.writing() as connection:
        command.downgrade(alembic_config(connection), "0014")
    assert {row[0] for row in house.rows("SELECT source FROM networks WHERE space = ''")} == {"graph"}
    database.upgrade()
    assert {(network["source"], network["base"], network["patch"]) for network in measured(house)} == {
        ("graph", None, None)
    }


def test_a_graph_that_is_compressed_gives_its_forms_its_class_also_once_it_gets_a_spec(house):
    house.add_platform()
    (spec,) = specs(house, 1)
    graph = dataclasses.replace(lower(spec), encoding=None)
    assert create(house, CompressedSample({"graph": to_json(graph)}, 2)).status_code == 201
    assert {network["isomorphism_class"] for network in measured(house)} == {graph.fingerprint()}
    house.post("/networks", {"networks": [spec.to_json()]})
    expected = get_space("nasbench201").isomorphism_class(spec)
    assert {network["isomorphism_class"] for network in measured(house)} == {expected}


@pytest.mark.sqlite
def test_a_graph_that_turns_out_to_be_compressed_is_known_as_that(house):
    house.add_platform()
    (spec,) = specs(house, 1)
    form = patched(lower(spec), compressed(lower(spec), 3, 0)[1]).graph
    assert create(house, networks=({"graph": to_json(form)},), name="bare").status_code == 201
    assert [(network["source"], network["base"]) for network in measured(house)] == [("graph", None)]
    assert create(house, CompressedSample(spec.to_json(), 3)).status_code == 201
    found = {(network["source"], network["base"]) for network in measured(house)}
    assert found == {("patch", lower(spec).fingerprint())}


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("sample", "field"),
    [
        ({"network": "nasbench201:9,9,9,9,9,9", "count": 2}, "compressed[0].network[0]"),
        ({"network": "ab" * 32, "count": 2}, "compressed[0].network"),
        ({"network": "nasbench201:3,1,2,4,3,1", "count": 0}, "compressed[0].count"),
        ({"network": "nasbench201:3,1,2,4,3,1", "count": 2, "seed": -1}, "compressed[0].seed"),
        ({"network": "nasbench201:3,1,2,4,3,1", "count": 1001}, "compressed"),
        ({"network": "nasbench201:3,1,2,4,3,1"}, "compressed[0].count"),
    ],
)
def test_what_cannot_be_compressed_is_refused_by_name(house, sample, field):
    house.add_platform()
    body = {"name": "x", "platform_id": house.platform_id, "compressed": [sample]}
    answer = house.post("/campaigns", body)
    assert answer.status_code in (404, 413, 422), answer.text
    assert answer.json()["field"] == field


@pytest.mark.sqlite
def test_a_campaign_without_compressed_networks_is_found_as_before(house):
    """Its digest is the one that releases before gave it."""
    house.add_platform()
    request = CampaignRequest("plain", house.platform_id, (Sample("nasbench201", 2, 0, house.small),))
    assert house.post("/campaigns", {k: v for k, v in to_json(request).items() if k != "compressed"}).status_code == 201
    assert house.post("/campaigns", request).status_code == 200
    from leti.service.planning import _digest

    content = to_json(request)
    assert _digest(content) == _digest({name: value for name, value in content.items() if name != "compressed"})
