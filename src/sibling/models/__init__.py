"""p(x | y). One file a model; one line here for each.

A model keeps the Protocol `sibling.types.Model`: float32 (N, C, *S) and a Cond in, losses out; it
never sees bytes, file names or the modality.
"""

from __future__ import annotations

__all__ = ["MODELS"]

MODELS = {
    "gan": "sibling.models.gan:GAN",
    "vae": "sibling.models.vae:VAE",
    "translate": "sibling.models.translate:Translate",
    "bootstrap": "sibling.models.bootstrap:Bootstrap",
}
