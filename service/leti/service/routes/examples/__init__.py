"""A value of each type that is sent or answered, one file a subject."""

from __future__ import annotations

from typing import Any, Final

from leti.service.routes.examples import access, datasets, farm, networks, queries, searching, tasks, training, uploads

EXAMPLES: Final[dict[type, Any]] = {
    cls: value
    for subject in (access, networks, farm, training, datasets, tasks, queries, searching, uploads)
    for cls, value in subject.EXAMPLES.items()
}
