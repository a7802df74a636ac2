"""The proof of chainrule itself: every layer before four independent witnesses."""

from chainrule.proof.cases import CASES, Case
from chainrule.proof.verification import (
    LIMITS,
    WITNESSES,
    Finding,
    LayerProof,
    raise_if_any_failed,
    verify,
)

__all__ = [
    "CASES",
    "LIMITS",
    "WITNESSES",
    "Case",
    "Finding",
    "LayerProof",
    "raise_if_any_failed",
    "verify",
]
