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
        threads: int,
    ) -> bool: ...

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
