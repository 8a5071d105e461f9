"""The one type of a batch of vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# float32, of shape (texts, dimensions), or (dimensions,) for one.
Vectors = NDArray[np.float32]
