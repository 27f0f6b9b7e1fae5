"""The two subjects that one test runs on: the model and the running kernel."""

from collections.abc import Iterator

import pytest

from fdproof.model import Kernel
from tests.model.linux.agents import Agents, started
from tests.model.linux.kernel import NEEDS_LINUX, RealKernel


@pytest.fixture(scope="module", autouse=True)
def agents() -> Iterator[Agents]:
    """Those who run the tasks of the running kernel."""
    with started() as agents:
        yield agents


@pytest.fixture
def real_kernel(agents: Agents) -> Iterator[RealKernel]:
    """The running kernel as a subject."""
    kernel = RealKernel(agents)
    yield kernel
    kernel.close()


@pytest.fixture(params=["model", pytest.param("linux", marks=NEEDS_LINUX)])
def kernel(request: pytest.FixtureRequest) -> Kernel | RealKernel:
    """The model, then the running kernel."""
    if request.param == "model":
        return Kernel()
    real: RealKernel = request.getfixturevalue("real_kernel")
    return real
