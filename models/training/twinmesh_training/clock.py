"""The hour of the day inside a graph, from the two inputs that put it on a circle."""

import numpy as np

from .graph import Graph


def day_angle(g: Graph, sin: str, cos: str) -> str:
    """[N, 1] from 0 to below 2π: the day from midnight UTC on. NaN where the hour is."""
    # by the half-angle, tan(a / 2) = sin / (1 + cos): one branch less than the quotient of the two
    half = g.op("Div", sin, g.op("Max", g.op("Add", cos, g.const([[1.0]])), g.const([[1e-7]])))
    angle = g.op("Mul", g.op("Atan", half), g.const([[2.0]]))
    turn = g.op("Where", g.op("Less", angle, g.const([[0.0]])), g.const([[2 * np.pi]]), g.const([[0.0]]))
    return g.op("Add", angle, turn)


def into_pane(g: Graph, angle: str, minutes: float) -> str:
    """[N, 1] minutes since the pane of this many minutes began; a time on the border of two belongs to the later."""
    at = g.op("Mul", angle, g.const([[24 * 60 / (2 * np.pi) / minutes]]))
    # 32 bits tell the time to some hundredths of a second
    begun = g.op("Floor", g.op("Add", at, g.const([[0.06 / 60 / minutes]])))
    return g.op("Mul", g.op("Max", g.op("Sub", at, begun), g.const([[0.0]])), g.const([[minutes]]))
