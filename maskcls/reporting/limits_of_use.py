"""Limits of use on a model card: of the competition's attributes, which are read off people, and of any others."""

from __future__ import annotations

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task

PEOPLE = ("It must not be used to identify or watch people, nor for any decision about a person: access, work, "
          "insurance, health, law.")  # fmt: skip
FACES = "It answers for every picture, also one without a face or with several; no such picture was measured."
PLURALS = {"gender": "genders", "age": "ages"}  # of attributes of a person


def limits_of_use(task: Task) -> list[str]:
    """Return the limits of use that are known for any run of a task."""
    names = [attribute.name for attribute in task if is_competition(attribute)]
    if not names:
        return ["It answers for every picture, also one that shows none of its classes; no such picture was measured."]
    people = " and ".join(PLURALS[name] for name in names if name in PLURALS)
    labels = f"Its {people} are those of the labels it was trained on"
    what = f"{labels}, an appearance in a photo, not facts about a person."
    return [PEOPLE, *[what] * bool(people), FACES]


def unmeasured_groups(task: Task) -> tuple[str, str]:
    """Return what was not measured beside the groups of a table, and without any."""
    if not any(map(is_competition, task)):
        return "Only the groups above were measured.", "No groups of images were measured for this file."
    return (
        "Only the groups above were measured. Skin colour, disability, dress, cameras and light were not, unless a "
        "table names them.",
        "No groups of people were measured for this file, nor skin colour, disability, dress, cameras and light.",
    )


def is_competition(attribute: Attribute) -> bool:
    """Return True for an attribute of the competition, also one with other borders."""
    own = MASK18.values.get(attribute.name)
    return own is not None and (attribute.values == own or (attribute.is_number and MASK18[attribute.name].is_number))
