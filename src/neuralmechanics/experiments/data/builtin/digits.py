"""The 1797 handwritten digits, 8×8 pixels, that scikit-learn ships (UCI, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import numpy as np
import torch

from neuralmechanics.experiments.data.dataset import DataSet, Split


def digits() -> DataSet:
    """1437 training and 360 test digits, classes in equal parts; grey values 0 … 16 scaled to bytes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    content = load_digits()
    images = np.round(content.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = content.target.astype(np.int64)
    parts = train_test_split(images, labels, test_size=360, random_state=0, stratify=labels)
    train_images, test_images, train_labels, test_labels = (torch.from_numpy(part) for part in parts)
    return DataSet(
        name="digits",
        train=Split(train_images, train_labels),
        test=Split(test_images, test_labels),
        classes=10,
        mean=(0.305,),
        std=(0.376,),
    )
