"""The formats of IEEE P3109, by its names.

k bits with p bits of precision: a sign, k - p bits of exponent and p - 1 of mantissa, the bias one
more than IEEE 754's. The code of -0 is NaN. The extended formats (e, or no letter) have infinities
at the largest magnitude; the finite ones (f) are what ml_dtypes calls fnuz.
"""

from .floats import Float
from .names import register

__all__: list[str] = []


def _named(bits: str, precision: str, domain: str | None) -> Float:
    return Float(int(bits) - int(precision), int(precision) - 1,
                 special="fnuz" if domain == "f" else "p3109")


register(r"p3109_k(\d+)p(\d+)(?:s([ef]))?", _named, examples=("p3109_k8p3",),
         catalogue="""
             p3109_k4p2 p3109_k5p2 p3109_k6p3 p3109_k6p4 p3109_k8p1 p3109_k8p3 p3109_k8p4 p3109_k8p5
         """)
