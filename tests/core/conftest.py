"""What the tests of the core library share: each kind of table, for the suites that run over all."""

import pytest

from tests.core.subjects import SUBJECTS, Subject


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[request.param]()
