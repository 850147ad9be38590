"""A system that tests share, each of which leaves it well."""

from collections.abc import Iterator

import pytest

from tests.monitoring.system import System, watched


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with watched(tmp_path_factory.mktemp("system")) as made:
        yield made
