from __future__ import annotations

import pytest

from tests.fakes.deployment import Deployment


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()
