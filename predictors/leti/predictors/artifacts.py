"""Artifacts: a saved predictor as a folder of plain files, with a manifest that says what it is. Nothing is pickled.

``manifest.json`` holds the format's version, the predictor's kind, the version of LETI that wrote it, the name and
version of the package that brought the kind where it is a plugin, and the size and SHA-256 of every other file. The
SHA-256 of the manifest therefore stands for the whole content: it is what a database keeps to know an artifact again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

from leti.core.errors import ArtifactError, InvalidInput, LetiError, MissingExtra, VersionMismatch
from leti.core.prediction import Predictor
from leti.predictors.registry import PLUGINS, known_kinds, predictor_class

FORMAT_VERSION = 1
"""Version of the manifest. Artifacts of another version are refused; a new predictor is trained from the dataset."""

MANIFEST = "manifest.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def save(predictor: Predictor, folder: Path) -> str:
    """Write a predictor and its manifest into an empty or absent folder; return the SHA-256 over the content."""
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput("is not empty", field="folder", remedy="give an empty or absent folder")
    predictor.save(folder)
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": predictor.kind,
        "leti_version": _leti_version(),
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    package = PLUGINS.package(predictor.kind)
    if package:
        manifest["package"] = package
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    (folder / MANIFEST).write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def load(folder: Path, sha256: str | None = None) -> Predictor:
    """Return the predictor that :func:`save` wrote, every file checked before it is read.

    Raises :class:`~leti.core.errors.ArtifactError` where a file is missing, damaged or not what the manifest says, or
    where the content is not the one that ``sha256`` names; :class:`~leti.core.errors.VersionMismatch` for an artifact
    of another format; :class:`~leti.core.errors.MissingExtra` where the package that brought its kind is not installed.
    """
    manifest, text = _read_manifest(folder)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise VersionMismatch(
            f"the artifact has format {manifest.get('format_version')!r}, written by LETI "
            f"{manifest.get('leti_version')!r}",
            field="format_version",
            remedy=f"LETI {_leti_version()} reads format {FORMAT_VERSION}: train the predictor again",
        )
    if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
        raise ArtifactError("is not the artifact that was asked for: its SHA-256 differs", field=MANIFEST)
    kind = manifest.get("kind")
    if not isinstance(kind, str) or kind not in known_kinds():
        raise _unknown_kind(kind, manifest.get("package"))
    _check_files(folder, manifest.get("files"))
    return predictor_class(kind).load(folder)


def _read_manifest(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        text = (folder / MANIFEST).read_bytes()
        manifest = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"has no readable manifest: {error.__class__.__name__}", field=MANIFEST) from error
    if not isinstance(manifest, dict):
        raise ArtifactError("must be an object", field=MANIFEST)
    return manifest, text


def _unknown_kind(kind: object, package: object) -> LetiError:
    if isinstance(kind, str) and isinstance(package, str):
        return MissingExtra(
            f"a predictor of kind {kind[:80]!r} comes with {package[:120]}, which is not installed",
            field="kind",
            remedy="install that package, or train another predictor",
        )
    return ArtifactError(f"names an unknown kind of predictor, {str(kind)[:80]!r}", field="kind")


def _check_files(folder: Path, listed: object) -> None:
    if not isinstance(listed, dict) or not listed:
        raise ArtifactError("lists no files", field=MANIFEST)
    for name, entry in listed.items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(entry, dict):
            raise ArtifactError(f"lists a file that cannot be: {name[:80]!r}", field=MANIFEST)
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ArtifactError("is missing", field=name) from error
        if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
            raise ArtifactError("is damaged: it does not match its SHA-256", field=name)


def _leti_version() -> str:
    try:
        return importlib.metadata.version("leti")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
