"""The soak itself, for seconds: `python -m tests.soak` takes as long as it is told."""

import pytest

from tests.benchmark.harness import open_harness
from tests.soak.report import markdown
from tests.soak.run import soak


@pytest.mark.long
async def test_a_minute_of_faults_loses_nothing_and_repeats_nothing_without_reason() -> None:
    with open_harness() as harness:
        found = await soak(harness, seconds=60, rate=100, seed=1, every=1)
    assert found.passed, markdown(found)
    assert found.lives > 1
    assert found.audit.lines > 4000
