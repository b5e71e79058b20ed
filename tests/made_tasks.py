"""Tasks of several shapes: what holds for the competition's must hold for each of them."""

from __future__ import annotations

import pytest

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task

ONE = Task((Attribute("tint", ("빨강", "파랑", "짙은 풀색")),))
TWO = Task((Attribute("colour", ("red", "blue")), Attribute("glasses", ("yes", "no"))))
STAGES = Task((Attribute("crop", ("winter wheat", "rye", "oats")),
               Attribute("stage", ("early", "late"), "days", (10,), (12,), "days")), "field")  # fmt: skip
FOUR = Task(tuple(Attribute(f"part{i}", tuple(f"value {j}" for j in range(i + 2))) for i in range(4)), None)
MANY = Task((Attribute("product", tuple(f"product {i}" for i in range(200))),))
TASKS = {"mask18": MASK18, "one": ONE, "two": TWO, "stages": STAGES, "four": FOUR, "many": MANY}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
