"""The two subjects that one test runs on: the model and the running kernel."""

import os
from collections.abc import Iterator

import pytest

from fdproof.model import Kernel
from tests.model.linux.agents import Agents, started
from tests.model.linux.kernel import NEEDS_LINUX, RealKernel


@pytest.fixture(scope="module", autouse=True)
def agents() -> Iterator[Agents | None]:
    """The agents, for root: only root can start tasks of any user, as the model can."""
    if os.geteuid() != 0:
        yield None
        return
    with started() as agents:
        yield agents


@pytest.fixture
def real_kernel(agents: Agents | None) -> Iterator[RealKernel]:
    """The running kernel as a subject."""
    if agents is None:
        pytest.skip("needs root")
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
