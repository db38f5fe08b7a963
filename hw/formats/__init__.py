"""Number formats as value objects: the one definition that hardware, golden model and docs read.

A format knows its `width`, how to `decode` codes into exact values, how to `encode` values into
codes (rounding, saturating), and its exact fixed-point image: every finite code is
`image(code) * 2**exponent` with an integer image; further how its codes are ordered, which
processing elements multiply it, and whether a chip may hold it. Each file holds the formats of one
kind and registers their names; here they are put together.

A plain name such as `e4m3` is a finite-only format: every code is a number, the largest is 480.
Formats that give codes away to NaN and infinity have names of their own, see `Float.special` and
`parse`.
"""

from .base import ROUNDINGS, BlockScale, Format, product_exponent, sum_bits, term_bound
from .names import catalogue, parse

# The catalogue lists formats in the order of these imports.
# isort: split
from .integers import Bipolar, Int, Ternary

# isort: split
from . import p3109
from .floats import Float

# isort: split
from .logs import Lns, PowerSum

# isort: split
from .blocks import BlockFloat, BlockInt

__all__ = ["ROUNDINGS", "Bipolar", "BlockFloat", "BlockInt", "BlockScale", "Float", "Format",
           "Int", "Lns", "PowerSum", "Ternary", "catalogue", "p3109", "parse", "product_exponent",
           "sum_bits", "term_bound"]
