"""Algorithm 1 of the paper; imports torch, but no diffusion library.

Source: arXiv:2503.14868v1.
"""

from zoodip_core.zeroth_order.measured_values import Derivatives, Losses
from zoodip_core.zeroth_order.proposal import Proposal
from zoodip_core.zeroth_order.search import TokenSearch

__all__ = ["Derivatives", "Losses", "Proposal", "TokenSearch"]
