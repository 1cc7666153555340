"""Algorithm 1 of the paper, in torch only: no diffusion library is imported.

Source: arXiv:2503.14868v1.
"""

from zoodip_core.zeroth_order.estimator import Derivatives, Losses
from zoodip_core.zeroth_order.search import Proposal, TokenSearch

__all__ = ["Derivatives", "Losses", "Proposal", "TokenSearch"]
