"""PhotoAnswer: the prediction of one photo with the pixels behind it, shown as text and, in notebooks, as HTML."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from rich.cells import cell_len, set_cell_size

from maskcls.core.task import FloatArray, Task
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.resize import shrink_image
from maskcls.reporting.page_rendering import data_uri, render_template

BAR = 20  # characters of a bar of probability one
SIDE = 220  # pixels of the longer side of a picture
MAX_BARS = 100  # of one attribute, or of the classes; of more, the most probable ones are shown
Bars = list[tuple[str, float]]  # values or classes with their probabilities


@dataclass(frozen=True, repr=False)
class PhotoAnswer:
    """Probabilities (C,) of one photo, its crop (H, W, 3), and where the model looked (H, W), 0 to 1, if known."""

    photo: Pixels
    crop: Pixels
    probs: FloatArray
    task: Task
    attention: FloatArray | None = None
    note: str = ""
    pred: int | None = None  # the predicted class, if it is not the most probable one, as after a calibration

    @property
    def best(self) -> int:
        """The predicted class: the most probable one, before a calibration."""
        return int(self.probs.argmax()) if self.pred is None else self.pred

    @property
    def name(self) -> str:
        """The name of the predicted class."""
        return self.task.classes[self.best]

    @property
    def attributes(self) -> dict[str, dict[str, float]]:
        """The probability of each value of each attribute."""
        parts = zip(self.task.values.items(), self.task.marginals(self.probs[None]), strict=True)
        return {name: dict(zip(values, part[0].tolist(), strict=True)) for (name, values), part in parts}

    @property
    def classes(self) -> Bars:
        """The classes with their probabilities, most probable first."""
        order = np.argsort(-self.probs, kind="stable")
        return [(self.task.classes[i], float(self.probs[i])) for i in order]

    @property
    def bars(self) -> dict[str, Bars]:
        """The values of each attribute with their probabilities, of many the most probable ones."""
        return {name: most_probable(list(values.items())) for name, values in self.attributes.items()}

    def __repr__(self) -> str:
        """Return the class and a bar for each value of each attribute."""
        lines, bars = [f"{self.name} ({self.probs[self.best]:.0%})"], self.bars
        width = 1 + max(cell_len(name) for name in bars)
        value_width = 1 + max(cell_len(value) for values in bars.values() for value, _ in values)
        for name, values in bars.items():
            for value, prob in values:
                texts = set_cell_size(name, width) + set_cell_size(value, value_width)
                lines.append(f"{texts}{'█' * round(BAR * prob):<{BAR}} {prob:6.1%}")
                name = ""
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the HTML that notebooks show: thumbnail, crop, a group of bars for each attribute."""
        return self.to_html(with_classes=False)

    def to_html(self, with_classes: bool = True) -> str:
        """Return pictures and bars as HTML, with the classes or without; those of one attribute are its values."""
        pictures = [("photo", encode(self.photo)), ("what the model sees", encode(self.crop))]
        if self.attention is not None:
            pictures.append(("where it looked", encode(draw_attention(self.crop, self.attention))))
        shows_classes = with_classes and len(self.task.attributes) > 1
        values = {"answer": self, "pictures": pictures, "classes": self.classes[:MAX_BARS] if shows_classes else []}
        return render_template("photo_answer.html.j2", values | {"note": self.note})


def most_probable(bars: Bars) -> Bars:
    """Return bars in their order, of more than MAX_BARS the most probable ones, highest first."""
    return bars if len(bars) <= MAX_BARS else sorted(bars, key=lambda bar: -bar[1])[:MAX_BARS]


def encode(image: Pixels) -> str:
    """Return an image as the data: URI of a JPEG of at most SIDE pixels; small crops are enlarged without smoothing."""
    factor = SIDE // max(image.shape[:2])
    big = np.repeat(np.repeat(image, factor, 0), factor, 1) if factor > 1 else shrink_image(image, SIDE)
    return data_uri("jpeg", cv2.imencode(".jpg", big[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


def draw_attention(crop: Pixels, attention: FloatArray) -> Pixels:
    """Return a crop with a map (H, W) of 0 to 1 drawn over it, from blue (0) to yellow (1)."""
    height, width = crop.shape[:2]
    smooth = cv2.resize(attention, (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.round(255 * smooth).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    return np.asarray(np.round(0.5 * crop + 0.5 * colors), np.uint8)
