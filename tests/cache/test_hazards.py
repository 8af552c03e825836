"""hazards/cache.md, row by row: after each step the proxy says what an uncached connection says.

The table is in hazards/rows_*.py, in the language of hazards/world.py; the number that a case begins with is its
row. What a script cannot say is in test_hazards_edges.py. Rows 36 to 39, 42 and 44 need replicas, the change
stream or Redis; row 43 is in test_flight.py and test_hazards_edges.py.
"""

from __future__ import annotations

import pytest

from tests.cache.hazards.rows_key import KEY
from tests.cache.hazards.rows_what import WHAT
from tests.cache.hazards.rows_when import WHEN
from tests.cache.hazards.world import World

TABLE = {**WHAT, **KEY, **WHEN}


FACES = ("sync", "async", "simple", "extended")
# The extended protocol takes one statement at a time.
SEVERAL = {"15 several statements"}


@pytest.mark.parametrize("face", FACES, indirect=True, scope="module")
@pytest.mark.parametrize("case", TABLE)
def test_hazard(world: World, case: str) -> None:
    if case in SEVERAL and world.face.name == "extended":
        pytest.skip("several statements in one text are a matter of the simple protocol")
    world.play(TABLE[case])
