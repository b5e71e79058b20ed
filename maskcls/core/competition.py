"""The competition's task: mask (worn, incorrect, none) × gender (male, female) × age (<30, 30–59, ≥60)."""

from __future__ import annotations

from maskcls.core.errors import ConfigError
from maskcls.core.task import Attribute, Task

MASKS = ("worn", "incorrect", "none")
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")
AGE_THRESHOLDS = (30, 60)
MAX_AGE = 120  # years

MASK18 = Task((
    Attribute("mask", MASKS, per="photo"),
    Attribute("gender", GENDERS, per="group"),
    Attribute("age", AGES, "age", AGE_THRESHOLDS, AGE_THRESHOLDS, "years", (0, MAX_AGE), "group"),
))  # fmt: skip

def check_attributes(task: Task, who: str) -> None:
    """Raise ConfigError for an attribute that the competition's data does not have; other borders of age are allowed.

    `who` is the option that needs it, for the message.
    """
    for attribute in task:
        own = next((other for other in MASK18 if other.name == attribute.name), None)
        fits = own and own.source == attribute.source and (own.is_number or own.values == attribute.values)
        if not fits:
            raise ConfigError(
                f"{who} has mask ({', '.join(MASKS)}), gender ({', '.join(GENDERS)}) and age in years, "
                f"but the task has {attribute.name} ({', '.join(attribute.values[:5])}). Set data=table data.file=<csv>"
            )

