"""The compiled module, from src/kernels/module.cpp. It checks shapes and trusts nothing else."""

import numpy as np

class InstructionSet:
    """The kernels compiled for one instruction set."""

    @property
    def name(self) -> str: ...
    @property
    def vector_bytes(self) -> int: ...
    def conv_forward(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        y: np.ndarray,
        winner: np.ndarray | None,
        stride_h: int,
        stride_w: int,
        pad_h: int,
        pad_w: int,
        relu: bool,
        winograd: bool,
        threads: int,
    ) -> None: ...
    def conv_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray,
        y: np.ndarray | None,
        winner: np.ndarray | None,
        dx: np.ndarray | None,
        dweight: np.ndarray,
        dbias: np.ndarray | None,
        stride_h: int,
        stride_w: int,
        pad_h: int,
        pad_w: int,
        winograd: bool,
        threads: int,
    ) -> bool: ...
    def linear_forward(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        relu: bool,
        y: np.ndarray,
        threads: int,
    ) -> None: ...
    def linear_backward(
        self,
        dy: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray,
        y: np.ndarray | None,
        dx: np.ndarray | None,
        dweight: np.ndarray,
        dbias: np.ndarray | None,
        threads: int,
    ) -> None: ...
    def max_pool_forward(
        self,
        x: np.ndarray,
        y: np.ndarray,
        winner: np.ndarray,
        kh: int,
        kw: int,
        sh: int,
        sw: int,
        ph: int,
        pw: int,
        threads: int,
    ) -> None: ...
    def max_pool_backward(
        self,
        dy: np.ndarray,
        winner: np.ndarray,
        dx: np.ndarray,
        kh: int,
        kw: int,
        sh: int,
        sw: int,
        ph: int,
        pw: int,
        threads: int,
    ) -> None: ...
    def relu_forward(self, x: np.ndarray, y: np.ndarray, threads: int) -> None: ...
    def relu_backward(
        self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int
    ) -> None: ...
    def batch_norm_forward(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        mean: np.ndarray | None,
        var: np.ndarray | None,
        eps: float,
        relu: bool,
        stats: np.ndarray,
        y: np.ndarray,
        threads: int,
    ) -> None: ...
    def batch_norm_backward(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        stats: np.ndarray,
        dy: np.ndarray,
        batch: bool,
        relu: bool,
        dx: np.ndarray,
        dweight: np.ndarray,
        dbias: np.ndarray,
        threads: int,
    ) -> None: ...
    def cross_entropy(
        self,
        scores: np.ndarray,
        y: np.ndarray,
        smoothing: float,
        dscores: np.ndarray,
        threads: int,
    ) -> float: ...
    def softmax_regression(
        self,
        x: np.ndarray,
        columns: bool,
        weight: np.ndarray,
        y: np.ndarray,
        dweight: np.ndarray,
        threads: int,
    ) -> float: ...
    def sgd_update(
        self, p: np.ndarray, g: np.ndarray, lr: float, decay: float, threads: int
    ) -> None: ...
    def momentum_update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        v: np.ndarray,
        lr: float,
        momentum: float,
        nesterov: bool,
        lr_in_velocity: bool,
        decay: float,
        threads: int,
    ) -> None: ...
    def rmsprop_update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        cache: np.ndarray,
        lr: float,
        alpha: float,
        eps: float,
        eps_inside_root: bool,
        decay: float,
        threads: int,
    ) -> None: ...
    def adagrad_update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        cache: np.ndarray,
        lr: float,
        eps: float,
        decay: float,
        threads: int,
    ) -> None: ...
    def adam_update(
        self,
        p: np.ndarray,
        g: np.ndarray,
        m: np.ndarray,
        v: np.ndarray,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        step: int,
        coupled: float,
        decoupled: float,
        threads: int,
    ) -> None: ...

class Workspace:
    """Blocks of memory on loan."""

    def __init__(self, limit: int) -> None: ...
    @property
    def lent(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def peak(self) -> int: ...
    def empty(self, shape: tuple[int, ...], code: str) -> np.ndarray: ...
    def clear(self) -> None: ...

def instruction_sets() -> list[InstructionSet]: ...
