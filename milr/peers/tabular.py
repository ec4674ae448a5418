"""What NIF's attributions of table features are held against; captum computes them.

Each gives a number for every feature, the mean over rows of the attribution's size for the logit of
the right class, against the mean row (0, since features are standardised). rows: (m,), their places
in the table.
"""

import numpy as np
import torch
from captum.attr import IntegratedGradients, ShapleyValues
from sklearn.feature_selection import mutual_info_classif
from torch import nn

from milr.data.tables import Split, Table
from milr.models.tabular import tensors

STEPS = 32  # of the integral
NEIGHBOURS = 3


def shapley(network: nn.Module, split: Split, rows: np.ndarray) -> np.ndarray:
    """Shapley values (d,), what SHAP approximates: exact, over all orders of the features."""
    x, y = tensors(split, rows)
    return _size(ShapleyValues(network).attribute(x, target=y))


def integrated_gradients(network: nn.Module, split: Split, rows: np.ndarray) -> np.ndarray:
    """Integrated gradients (d,) (Sundararajan et al. 2017)."""
    x, y = tensors(split, rows)
    return _size(IntegratedGradients(network).attribute(x, target=y, n_steps=STEPS))


def raw_information(table: Table, seed: int = 0) -> np.ndarray:
    """I(X_i; class) (d,) in nats by nearest neighbours, as scikit-learn estimates it."""
    return mutual_info_classif(
        table.features, table.labels, n_neighbors=NEIGHBOURS, random_state=seed
    )


def _size(values: torch.Tensor) -> np.ndarray:
    return values.detach().abs().mean(0).double().numpy()
