"""The verdict on one tensor: its error in units of a correct kernel's rounding noise.

    z = |got - want| / sigma;  fails where max z > LIMIT, or in any block rms z > RMS_LIMIT

A block belongs to one expert: its slice of a weight, its column of the router, its tokens' rows of
x and y, or its gates. sigma is 0 where the result must be exactly 0; there only 0 passes.
"""

from dataclasses import dataclass

import numpy as np

from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import LOSSES, ROWS
from switch_np.switch.plan import Plan

LIMIT = 16.0
RMS_LIMIT = 3.0


@dataclass(frozen=True)
class TensorVerdict:
    """How one tensor compares; errors are in sigmas, and infinite where only 0 passes."""

    name: str
    ok: bool
    worst: float                    # the largest error
    rms: float                      # the largest root mean square error of a block
    at: tuple[int, ...]             # where the worst element is, what came and what is right
    got: float
    want: float
    where: str                      # its token, slot and expert
    blocks: tuple[str, ...]         # those that fail, such as "expert 3"; empty where all do

    def __str__(self) -> str:
        return self.line(", ".join(self.blocks[:4]) + ", ..." * (len(self.blocks) > 4))

    def line(self, blocks: str) -> str:
        """Return the verdict, its blocks in these words, in digits that tell `got` from `want`."""
        text = f"{self.name}: {'ok' if self.ok else 'FAIL'}, worst {self.worst:.3g} sigma" + (
            f", rms {self.rms:.3g}" if np.isfinite(self.worst) else "")
        if self.ok:
            return text
        digits = next(n for n in range(6, 18)
                      if n == 17 or f"{self.got:.{n}g}" != f"{self.want:.{n}g}")
        want = "exactly 0" if np.isinf(self.worst) else f"{self.want:.{digits}g}"
        only = f"; only {blocks}" if self.blocks else ""
        at = f", at {list(self.at)}{self.where}" if self.at else ""
        return f"{text}{at}: got {self.got:.{digits}g}, want {want}{only}"


def tensor_verdict(name: str, got: np.ndarray, want: np.ndarray, sigma: np.ndarray,
                   ref: Reference) -> TensorVerdict:
    """Return the verdict on a tensor of the shape of `want`, all of it finite."""
    if want.size == 0:
        return TensorVerdict(name, True, 0.0, 0.0, (), 0.0, 0.0, "", ())
    z = deviations(got, want, sigma)
    label, names = blocks(name, want.shape, ref)
    size, rms, bad = by_block(z, np.broadcast_to(label, z.shape), len(names))
    at = tuple(map(int, np.unravel_index(z.argmax(), z.shape)))
    listed = () if bad.sum() == np.count_nonzero(size) else tuple(
        names[b] for b in np.flatnonzero(bad))
    return TensorVerdict(name, not bad.any(), float(z.max()), float(rms.max()), at,
                         float(got[at]), float(want[at]), _where(name, at, ref), listed)


def deviations(got: np.ndarray, want: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return |got - want| / sigma; infinite where sigma is 0 and the two differ."""
    error = np.abs(got - want)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(error == 0, 0.0, error / sigma)


def by_block(z: np.ndarray, label: np.ndarray, count: int
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each block's number of elements, root mean square of z, and whether it fails.

    >>> by_block(np.array([1.0, 1.0, 20.0]), np.array([0, 0, 1]), 2)[2].tolist()
    [False, True]
    """
    label, z = label.ravel(), z.ravel()
    with np.errstate(over="ignore"):
        total = np.bincount(label, np.minimum(z, 1e150) ** 2, count)
    size = np.bincount(label, minlength=count)
    rms = np.sqrt(total / np.maximum(size, 1))
    worst = np.zeros(count)
    np.maximum.at(worst, label, z)
    return size, rms, (worst > LIMIT) | (rms > rms_limit(size))


def rms_limit(size: np.ndarray | int) -> np.ndarray:
    """Return the limit for a block of this many elements: small blocks vary more.

    >>> rms_limit(np.array([1, 10_000])).round(2).tolist()
    [15.0, 3.12]
    """
    return RMS_LIMIT * (1 + 4 / np.sqrt(np.maximum(size, 1)))


def blocks(name: str, shape: tuple[int, ...], ref: Reference) -> tuple[np.ndarray, list[str]]:
    """Return a block number per element, broadcastable to the shape, and the blocks' names."""
    e = ref.plan.load.shape[1]
    experts = [f"expert {i}" for i in range(e)]
    if name == "d_gates":
        label = np.where(ref.plan.kept, ref.plan.expert, e)
        return label, [f"gates of {expert}" for expert in experts] + ["dropped choices"]
    if by_row(name, ref):
        label = np.repeat(np.arange(e), np.diff(ref.plan.start))[:, None]
        return label, [f"rows of {expert}" for expert in experts]
    if name in ROWS:
        label = owner(ref.plan).reshape(*shape[:-1], 1)
        return label, [f"tokens of {expert}" for expert in experts] + ["dropped tokens"]
    axis = expert_axis(name, shape, e)
    if axis is None:
        return np.zeros(shape, int), ["all"]
    return np.arange(e) if axis else np.arange(e).reshape(e, *[1] * (len(shape) - 1)), experts


def by_row(name: str, ref: Reference) -> bool:
    """Whether a tensor has a row for each row of the experts, not for each token."""
    return name == "d_rows" or (name == "y" and ref.problem.alone in ("product", "dispatch"))


def expert_axis(name: str, shape: tuple[int, ...], num_experts: int) -> int | None:
    """Return the axis of a gradient that counts experts: 0, -1, or None.

    >>> expert_axis("d_w_router", (8, 4), 4), expert_axis("d_w_in", (4, 8, 16), 4)
    (-1, 0)
    """
    if name in (*ROWS, *LOSSES) or "shared" in name:
        return None
    if name in ("d_w_router", "d_b_router", "d_w_noise"):
        return -1
    return 0 if shape[:1] == (num_experts,) else None


def owner(plan: Plan) -> np.ndarray:
    """Return (T,) the first expert that keeps a token, or the number of experts for none."""
    first_T = plan.kept.argmax(axis=1)
    expert_T = np.take_along_axis(plan.expert, first_T[:, None], axis=1)[:, 0]
    return np.where(plan.kept.any(axis=1), expert_T, plan.load.shape[1])


def _where(name: str, at: tuple[int, ...], ref: Reference) -> str:
    """Return in words which token, row or expert an element belongs to."""
    plan = ref.plan
    if by_row(name, ref):
        expert = int(np.searchsorted(plan.start, at[0], side="right")) - 1
        return f" (row {at[0] - plan.start[expert]} of expert {expert})"
    if name == "d_gates":
        return f" ({describe(at[0], plan)})"
    if name in ROWS:
        token = int(np.ravel_multi_index(at[:-1], ref.y.shape[:-1]))
        return f" ({describe(token, plan)})"
    axis = expert_axis(name, ref.outputs()[name].shape, plan.load.shape[1])
    if axis is None:
        return ""
    tokens = int(plan.kept_load.sum(axis=0)[at[axis]])
    return f" (expert {at[axis]}, {tokens} token{'s' * (tokens != 1)})"


def describe(token: int, plan: Plan) -> str:
    """Return where a token went, in words.

    >>> from switch_np.switch.plan import fill
    >>> describe(1, fill(np.array([[0], [0]]), 1, capacity=1))
    'token 1, expert 0 dropped'
    """
    places = [f"expert {e} slot {s}" if s >= 0 else f"expert {e} dropped"
              for e, s in zip(plan.expert[token], plan.slot[token])]
    return f"token {token}, " + ", ".join(places)
