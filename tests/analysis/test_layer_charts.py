"""Charts by layer keep a size in which they can be read."""

from __future__ import annotations

import re

import numpy as np
import pytest
import vl_convert

from spacy_bert.analysis.layer_charts import SQUARE, layer_map
from spacy_bert.analysis.theme import vega_config


@pytest.mark.parametrize("layers", [2, 5, 13])
def test_squares_of_a_map_are_not_squeezed_by_axes_and_legend(layers: int) -> None:
    chart = layer_map(np.eye(layers), x="layer", y="layer", title="CKA", domain=(0.0, 1.0))
    svg: str = vl_convert.vegalite_to_svg(chart.to_dict(), config=vega_config("light"))
    width, height = SQUARE
    assert len(re.findall(rf'd="M[\d.,]+h{width}v{height}h-{width}Z"', svg)) == layers**2
