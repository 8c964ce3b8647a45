"""A Bayesian linear regression of likeness and style on the knobs, with the measured curves as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from portrait.loop.response import KNOBS, Curves
from portrait.records import Knobs


class Regression:
    """What the attempts so far say about one person.

    Let y be the m outputs: likeness by each judge, and style on the face. For knobs k,
    y = level + a + sum_j c_j * effect_j(k) + e. `effect_j` are the measured curves of the recipe and style, a is this
    person's own offset, c_j how strongly knob j works for them, e the seed's noise. A priori a ~ N(0, between-people
    covariance), c ~ N(1, slope spread), e ~ N(0, residual covariance). The posterior is exact.
    """

    def __init__(self, curves: Curves) -> None:
        self._curves = curves
        # The coefficients: one level per output, then one slope per knob and output.
        outputs = len(curves.outputs)
        slopes = len(KNOBS) * outputs
        self._mean = np.concatenate([np.zeros(outputs), np.ones(slopes)])
        self._cov = np.zeros((outputs + slopes, outputs + slopes))
        self._cov[:outputs, :outputs] = curves.people
        self._cov[outputs:, outputs:] = curves.slope_spread**2 * np.eye(slopes)

    def learn(self, knobs: Knobs, outputs: Mapping[str, float]) -> None:
        """Learn the values measured with these knobs: output -> value."""
        features = self._features([knobs])[0]
        y = np.array([outputs[name] for name in self._curves.outputs]) - self._curves.level
        # The Kalman update of a linear regression: exact, one attempt at a time.
        innovation_cov = features @ self._cov @ features.T + self._curves.residual
        gain = np.linalg.solve(innovation_cov, features @ self._cov).T
        self._mean = self._mean + gain @ (y - features @ self._mean)
        self._cov = self._cov - gain @ features @ self._cov
        self._cov = (self._cov + self._cov.T) / 2  # rounding must not make it asymmetric

    def predict(self, knobs: Sequence[Knobs]) -> tuple[np.ndarray, np.ndarray]:
        """Mean (K, m) and covariance (K, m, m) of the outputs of one picture at each of K knobs."""
        features = self._features(knobs)
        mean = self._curves.level + features @ self._mean
        cov = features @ self._cov @ features.transpose(0, 2, 1) + self._curves.residual
        return mean, cov

    def _features(self, knobs: Sequence[Knobs]) -> np.ndarray:
        """(K, m, m + m d): the contribution of each coefficient (levels, then knob by knob) to each output."""
        changes = self._curves.changes(knobs)
        count, d, m = changes.shape
        features = np.zeros((count, m, m + m * d))
        diagonal = np.arange(m)
        features[:, diagonal, diagonal] = 1
        for j in range(d):
            features[:, diagonal, m + j * m + diagonal] = changes[:, j]
        return features
