"""Convert weights of the equalized-learning-rate form into the clean form, with the same output.

The original v1 and the `bilinear` networks that GFPGAN was trained as keep unit-variance weights
and multiply them at run time (StyleGAN2's equalized learning rate), gain sqrt(2) in each leaky
ReLU, and divide each residual sum by sqrt(2). All of that is constant, so it folds into the
weights; sequential layers lose their inner numbers on the way.
"""

from __future__ import annotations

import math
import re

from torch import Tensor

from gfpgan_core.errors import WeightsError

_SQRT2 = math.sqrt(2)
_MLP_LEARNING_RATE = 0.01  # the mapping network's multiplier in every release

# Pattern, name in the clean form, gain, whether the run-time factor 1 / sqrt(fan-in) applies.
_RULES: tuple[tuple[str, str, float, bool], ...] = (
    (r"(conv_body_first|final_conv)\.0\.weight", r"\1.weight", _SQRT2, True),
    (r"(conv_body_first|final_conv)\.1\.bias", r"\1.bias", _SQRT2, False),
    (r"(conv_body_\w+\.\d+\.conv1)\.0\.weight", r"\1.weight", _SQRT2, True),
    (r"(conv_body_\w+\.\d+\.conv1)\.1\.bias", r"\1.bias", _SQRT2, False),
    # The activation's sqrt(2) and the residual sum's 1 / sqrt(2) cancel.
    (r"(conv_body_down\.\d+\.conv2)\.1\.weight", r"\1.weight", 1, True),
    (r"(conv_body_down\.\d+\.conv2)\.2\.bias", r"\1.bias", 1, False),
    (r"(conv_body_up\.\d+\.conv2)\.weight", r"\1.weight", 1, True),
    (r"(conv_body_up\.\d+\.conv2)\.activation\.bias", r"\1.bias", 1, False),
    (r"(conv_body_down\.\d+\.skip)\.1\.weight", r"\1.weight", 1 / _SQRT2, True),
    (r"(conv_body_up\.\d+\.skip)\.weight", r"\1.weight", 1 / _SQRT2, True),
    (r"(toRGB\.\d+|final_linear|condition_\w+\.\d+\.2)\.weight", r"\1.weight", 1, True),
    (r"(toRGB\.\d+|final_linear|condition_\w+\.\d+\.2)\.bias", r"\1.bias", 1, False),
    (r"(condition_\w+\.\d+\.0)\.weight", r"\1.weight", _SQRT2, True),
    (r"(condition_\w+\.\d+\.0)\.bias", r"\1.bias", _SQRT2, False),
    (r"(.*modulated_conv)\.weight", r"\1.weight", 1, True),
    (r"(.*modulation)\.weight", r"\1.weight", 1, True),
    (r"(.*modulation)\.bias", r"\1.bias", 1, False),
    # The strength of the noise: the clean StyleConv applies sqrt(2) to the convolution only.
    (r"(.*style_conv(?:1|s\.\d+))\.weight", r"\1.weight", _SQRT2, False),
    (r"(.*style_conv(?:1|s\.\d+))\.activate\.bias", r"\1.bias", _SQRT2, False),
    (r"(.*to_rgb(?:1|s\.\d+)\.bias)", r"\1", 1, False),
    (r"(.*constant_input\.weight|.*noises\.noise\d+)", r"\1", 1, False),
)


def is_equalized(state: dict[str, Tensor]) -> bool:
    """Return whether a generator's or decoder's state dict is of the form that `to_clean` takes."""
    return "conv_body_first.0.weight" in state or "style_conv1.activate.bias" in state


def to_clean(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the clean form's names and values; the input isn't modified.

    Raises:
        WeightsError: a name or a shape that the form doesn't have.
    """
    clean: dict[str, Tensor] = {}
    for name, value in state.items():
        clean_name, clean_value = _convert(name, value)
        if clean_name in clean:
            raise WeightsError(f"{name!r} is there twice, in the equalized form and the clean one")
        clean[clean_name] = clean_value
    return clean


def _convert(name: str, value: Tensor) -> tuple[str, Tensor]:
    if match := re.fullmatch(r"(.*style_mlp)\.(\d{1,3})\.(weight|bias)", name):
        prefix, layer, kind = match.groups()
        _require_values(name, value, 2 if kind == "weight" else 1)
        gain = _SQRT2 * _MLP_LEARNING_RATE
        if kind == "weight":
            gain /= math.sqrt(value.shape[1])
        # The clean form lists the activations as layers of their own: 1, 2, 3 -> 1, 3, 5.
        return f"{prefix}.{2 * int(layer) - 1}.{kind}", value * gain
    for pattern, clean_name, gain, scaled in _RULES:
        if match := re.fullmatch(pattern, name):
            _require_values(name, value, 2 if scaled else 1)
            if scaled:  # (out, in[, k, k]), with a leading 1 in modulated convolutions
                fan_in = math.prod(value.shape[2:] if value.ndim == 5 else value.shape[1:])
                gain /= math.sqrt(fan_in)
            if name.endswith("activate.bias"):
                value = value.reshape(1, -1, 1, 1)
            return match.expand(clean_name), value if gain == 1 else value * gain
    raise WeightsError(f"{name!r} is no weight of an equalized GFPGAN network")


def _require_values(name: str, value: Tensor, dimensions: int) -> None:
    if value.ndim < dimensions or value.numel() == 0 or not value.is_floating_point():
        raise WeightsError(
            f"{name!r} is {tuple(value.shape)} of {value.dtype}: no weight of an equalized GFPGAN"
        )
