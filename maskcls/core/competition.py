"""The competition's task: mask (worn, incorrect, none) × gender (male, female) × age (<30, 30–59, ≥60)."""

from __future__ import annotations

from maskcls.core.task import Attribute, Task

MASKS = ("worn", "incorrect", "none")
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")
AGE_THRESHOLDS = (30, 60)
MAX_AGE = 120  # years

MASK18 = Task((
    Attribute("mask", MASKS),
    Attribute("gender", GENDERS),
    Attribute("age", AGES, "age", AGE_THRESHOLDS, AGE_THRESHOLDS, "years", (0, MAX_AGE)),
))  # fmt: skip
