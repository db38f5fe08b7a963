"""Networks of a space: what of their files counts, and how they come to a chip's formats."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from systolith.gen.importer.checks import is_quantized
from systolith.gen.importer.file import read
from systolith.gen.importer.reader import load
from systolith.gen.kit.cache import cache_folder
from systolith.gen.kit.errors import UserError
from systolith.gen.kit.files import new_file
from systolith.gen.quantize.quantize import quantize
from systolith.gen.quantize.recipe import Recipe
from systolith.hw.spec.arch import Arch

from ..code import code_hash, key_of

__all__ = ["QUANTIZE", "Net", "input_shape", "net_of"]

#: Modules whose code a quantized network depends on.
QUANTIZE = (quantize.__module__,)


@dataclass(frozen=True)
class Net:
    """A network of a space.

    Attributes
    ----------
    name : str
        In results.
    path : Path
    content : str
        A hash of the file and of the files that hold its tensors.
    recipe : Recipe or None
        How a float network is quantized, to each point's formats; None: it is quantized.
    data : Path or None
        An .npz file with held-out `images` and their `labels`, and for float networks
        `calibration` images, float32 as the network takes them; pixels of 8 bits are divided by
        255.
    data_content : str
        A hash of it.
    images : int or None
        How many of the held-out images are taken; None: all.
    """
    name: str
    path: Path
    content: str
    recipe: Recipe | None = None
    data: Path | None = None
    data_content: str = ""
    images: int | None = None

    def facts(self, arch: Arch) -> list:
        """What a hash of the network as it is on a chip consists of."""
        if self.recipe is None:
            return [self.content]
        return [self.content, repr(self.recipe_for(arch)), self.data_content]

    def recipe_for(self, arch: Arch) -> Recipe:
        assert self.recipe is not None
        return replace(self.recipe, activation=str(arch.activation), weight=str(arch.weight))

    def array(self, name: str) -> np.ndarray:
        """An array of the data file. Raises UserError."""
        assert self.data is not None
        try:
            with np.load(self.data) as file:
                array = file[name]
        except (OSError, ValueError) as error:
            raise UserError(f"{self.data}: cannot be read: {error}") from None
        except KeyError:
            raise UserError(f"{self.data}: has no array {name!r}") from None
        if name != "labels" and array.dtype == np.uint8:
            return array.astype(np.float32) / np.float32(255)
        return array

    def graph(self, arch: Arch) -> Any:
        """The network in the formats of a chip, before it is widened: a `Graph`. Raises
        UserError."""
        if self.recipe is None:
            return _loaded(self.path, self.content, arch.slope_offsets)
        key = key_of("network", self.facts(arch), code_hash(QUANTIZE, ("onnx", "numpy")))
        return _loaded(self._quantized(arch, key), key, arch.slope_offsets)

    def _quantized(self, arch, key):
        """The path of the network, quantized, which is made if it is not known."""
        path = cache_folder("networks") / f"{key}.onnx"
        if not path.is_file():
            shape = input_shape(read(self.path))
            calibration = self.array("calibration").reshape(-1, *shape)
            made = quantize(self.path, calibration, self.recipe_for(arch), source=str(self.data),
                            measure=False)
            with new_file(path) as temporary:
                onnx.save_model(made.model, temporary)
        return path


def input_shape(model: onnx.ModelProto) -> list[int]:
    """Sizes of one image of the model's input."""
    constants = {item.name for item in model.graph.initializer}
    item = next(item for item in model.graph.input if item.name not in constants)
    return [size.dim_value or 1 for size in item.type.tensor_type.shape.dim][1:]


@cache
def _loaded(path, content, offsets):
    """The network in a file of this content, which a process reads once; `offsets` as of `load`."""
    return load(path, offsets=offsets)


def net_of(name: str, path: Path, recipe: Recipe | None, data: Path | None, images: int | None,
           where: str) -> Net:
    """The `Net` of a file. `recipe` counts for float networks alone. Raises UserError."""
    content = hashlib.sha256(path.read_bytes())
    quantized = True
    try:
        model = read(path)
    except UserError:
        pass                            # what is wrong is said where it is compiled
    else:
        for tensor in model.graph.initializer:
            content.update(tensor.raw_data)
        quantized = is_quantized(model)
    if not quantized and data is None:
        raise UserError(f"{where}: network {path} is a float one; write it as {{ path = "
                        f"\"{path.name}\", data = \"data.npz\" }}, an .npz file with an array "
                        "\"calibration\"")
    return Net(name, path, content.hexdigest(), None if quantized else recipe, data,
               "" if data is None else hashlib.sha256(data.read_bytes()).hexdigest(), images)
