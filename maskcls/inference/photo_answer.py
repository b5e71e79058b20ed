"""PhotoAnswer: the prediction of one photo with the pixels behind it, shown as text and, in notebooks, as HTML."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from maskcls.core.task import ATTRIBUTES, CLASSES, FloatArray, marginals
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.resize import shrink_image
from maskcls.reporting.page_rendering import data_uri, render_template

BAR = 20  # characters of a bar of probability one
SIDE = 220  # pixels of the longer side of a picture


@dataclass(frozen=True, repr=False)
class PhotoAnswer:
    """Probabilities (18,) of one photo, its crop (H, W, 3), and where the model looked (H, W), 0 to 1, if known."""

    photo: Pixels
    crop: Pixels
    probs: FloatArray
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
        return CLASSES[self.best]

    @property
    def attributes(self) -> dict[str, dict[str, float]]:
        """The probability of each value of mask, gender and age."""
        parts = zip(ATTRIBUTES.items(), marginals(self.probs[None]), strict=True)
        return {name: dict(zip(values, part[0].tolist(), strict=True)) for (name, values), part in parts}

    @property
    def classes(self) -> list[tuple[str, float]]:
        """The classes with their probabilities, most probable first."""
        order = np.argsort(-self.probs, kind="stable")
        return [(CLASSES[i], float(self.probs[i])) for i in order]

    def __repr__(self) -> str:
        """Return the class and a bar for each value of each attribute."""
        lines = [f"{self.name} ({self.probs[self.best]:.0%})"]
        for name, values in self.attributes.items():
            for value, prob in values.items():
                lines.append(f"{name:<7}{value:<10}{'█' * round(BAR * prob):<{BAR}} {prob:6.1%}")
                name = ""
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the HTML that notebooks show: thumbnail, crop, three groups of bars."""
        return self.to_html(with_classes=False)

    def to_html(self, with_classes: bool = True) -> str:
        """Return pictures and bars as HTML, with all 18 classes or without."""
        pictures = [("photo", encode(self.photo)), ("what the model sees", encode(self.crop))]
        if self.attention is not None:
            pictures.append(("where it looked", encode(draw_attention(self.crop, self.attention))))
        values = {"answer": self, "pictures": pictures, "classes": self.classes if with_classes else []}
        return render_template("photo_answer.html.j2", values | {"note": self.note})


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
