import subprocess
import sys

import pytest

from leti.core.errors import ArtifactError, InvalidInput, MissingExtra
from leti.predictors import registry


def test_kinds_stand_the_simplest_first():
    order = list(registry.PREDICTORS)
    expected = ["flops", "flops_by_memory", "linear", "lookup_table", "kernel_sum", "xgboost", "gcn", "stacked"]
    assert [kind for kind in order if kind in expected] == expected
    installed = registry.kinds()
    assert len(set(installed)) == len(installed)
    assert set(registry.default_kinds()) <= set(installed) <= set(registry.known_kinds())
    assert not any(registry.PREDICTORS[kind].costly for kind in registry.default_kinds())


@pytest.mark.parametrize("kind", ["magic", "", "../flops", "x" * 500])
def test_an_unknown_kind_is_told_what_there_is(kind):
    with pytest.raises(InvalidInput, match="flops, flops_by_memory, linear, ") as caught:
        registry.create(kind)
    assert caught.value.field == "kind"


@pytest.mark.parametrize("missing", ["numpy", "sklearn", "scipy", "xgboost"])
def test_a_missing_dependency_names_its_extra(missing, monkeypatch):
    pytest.importorskip(missing)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None if name == missing else True)
    lacking = [kind for kind, entry in registry.PREDICTORS.items() if missing in entry.needs]
    assert lacking
    assert not set(lacking) & set(registry.kinds())
    for kind in lacking:
        with pytest.raises(MissingExtra, match=rf"leti\[{registry.PREDICTORS[kind].extra}\]"):
            registry.create(kind)


def test_the_registry_imports_nothing_heavy():
    code = "import sys; from leti.predictors import registry; registry.kinds(); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("numpy", "scipy", "sklearn", "xgboost") if f"'{name}'" in loaded]


def test_an_artifact_may_not_name_files_elsewhere(tmp_path):
    pytest.importorskip("numpy", reason="needs the extra `boosting`")
    from leti.predictors import artifacts

    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "artifact"
    folder.mkdir()
    for text in (
        '{"format_version": 1, "kind": "flops", "files": {"../secret": {"sha256": "0"}}}',
        '{"format_version": 1, "kind": "flops", "files": {}}',
        '{"format_version": 1, "kind": "magic", "files": {"a": {"sha256": "0"}}}',
        '{"format_version": 1, "kind": ["flops"], "files": {"a": {"sha256": "0"}}}',
        "[]",
        "[" * 100_000,
    ):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(ArtifactError):
            artifacts.load(folder)
    with pytest.raises(ArtifactError):
        artifacts.load(tmp_path / "absent")
