"""Sorting for the plan: the k largest scores of a row; queues, first come, first served."""

import numpy as np


def largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the indices (T, k) of the k largest scores of each row, best first; ties: lower index.

    >>> largest(np.array([[1.0, 3.0, 3.0]]), 2).tolist()
    [[1, 2]]
    """
    if k == 1:
        return np.asarray(scores.argmax(axis=1))[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def stable_order(numbers: np.ndarray, highest: int) -> np.ndarray:
    """Return the stable order that sorts integers from 0 to `highest`.

    >>> stable_order(np.array([3, 0, 3]), 3).tolist()
    [1, 0, 2]
    """
    # NumPy sorts integers of up to 16 bits by radix, several times faster than wider ones.
    return np.argsort(numbers.astype(np.min_scalar_type(highest)), kind="stable")


def sort_into_queues(queue: np.ndarray,
                     num_queues: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the members, queue by queue, their positions in their queues, and the queues' lengths.

    `queue` names the queue that each joins, in order of arrival; `num_queues` stands for none.

    >>> members, position, length = sort_into_queues(np.array([1, 0, 1, 1, 2]), 2)
    >>> members.tolist(), position.tolist(), length.tolist()
    ([1, 0, 2, 3], [0, 0, 1, 2], [1, 3])
    """
    length = np.bincount(queue.ravel(), minlength=num_queues + 1)[:num_queues]
    members = stable_order(queue.ravel(), num_queues)[:length.sum()]   # those in none sort last
    first = np.repeat(length.cumsum() - length, length)
    return members, np.arange(len(members)) - first, length


def queue_positions(queue: np.ndarray, num_queues: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each one's position in its queue, shaped like `queue`, -1 for none, and the lengths.

    >>> position, length = queue_positions(np.array([1, 0, 1, 1, 2]), 2)
    >>> position.tolist(), length.tolist()
    ([0, 0, 1, 2, -1], [1, 3])
    """
    members, in_order, length = sort_into_queues(queue, num_queues)
    position = np.full(queue.shape, -1)
    position.put(members, in_order)
    return position, length
