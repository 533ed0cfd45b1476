"""The real predictor, with small random networks under the official versions' names.

The official files can't be part of a test. The table is replaced, and a photo's allowed size is
made small; files are fetched over HTTP from the addresses in `TEST_RELEASES`, verified, converted
and loaded as in production.
"""

from __future__ import annotations

import json
import os

from gfpgan_core import serving
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.weights import releases
from gfpgan_core.weights.releases import Release, WeightFile
from predict import Predictor

for _version, _entry in json.loads(os.environ["TEST_RELEASES"]).items():
    releases.RELEASES[_version] = Release(
        GeneratorConfig(**_entry["config"]), WeightFile(**_entry["file"])
    )

serving.MAX_PHOTO_BYTES = 8 << 20

__all__ = ["Predictor"]
