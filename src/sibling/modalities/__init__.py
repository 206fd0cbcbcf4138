"""What one sample is. One file a modality; one line here for each.

A modality keeps the Protocol `sibling.types.Modality`: the only place that knows bytes and value
ranges. Everything else sees float32 (N, C, *S) in [-1, 1].
"""

from __future__ import annotations

__all__ = ["MODALITIES"]

MODALITIES = {
    "image": "sibling.modalities.image:Image",
    "audio": "sibling.modalities.audio:Audio",
    "video": "sibling.modalities.video:Video",
    "text": "sibling.modalities.text:Text",
    "signal": "sibling.modalities.signal:Signal",
}
