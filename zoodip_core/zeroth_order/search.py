"""Algorithm 1 as a search with `ask()` and `tell()`: the caller evaluates the model.

    while not search.done:
        proposal = search.ask()
        search.tell(Losses(measure(proposal)))

Source: arXiv:2503.14868v1, Alg. 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.errors import InvalidCheckpointError, LossNotFiniteError
from zoodip_core.zeroth_order.adam import Moments, ZOAdam
from zoodip_core.zeroth_order.directions import DIRECTIONS
from zoodip_core.zeroth_order.estimator import DIVISORS, ESTIMATORS, gradient_estimate
from zoodip_core.zeroth_order.image_sampling import IMAGE_SAMPLING
from zoodip_core.zeroth_order.measured_values import MEASUREMENTS, Derivatives, Losses
from zoodip_core.zeroth_order.proposal import Proposal
from zoodip_core.zeroth_order.search_space import FULL, SearchSpace
from zoodip_core.zeroth_order.state import check_space, check_state, saved_coordinates
from zoodip_core.zeroth_order.subspace import SUBSPACES
from zoodip_core.zeroth_order.timesteps import TIMESTEPS

S = TypeVar("S", bound="TokenSearch")


class TokenSearch:
    """Search for one token by Algorithm 1.

    It holds the coordinates u of θ, Adam's moments, the history of u and the random generator. The caller evaluates
    the model.

    Args:
        theta: Start, flat float32 on the CPU; copied. The caller concatenates several vectors, or SDXL's pair of
            768 and 1,280 dimensions; they are searched jointly with one history and one subspace.
        settings: Settings of Algorithm 1, with the seed of the generator.
        images: Number of reference images to sample from.
        flip: Whether to mirror an image with probability 1/2; only the published script does.
        alphas_cumprod: ᾱ_t of the model. Required by timesteps="snr"; otherwise it only bounds t_high.
        space: The space to search; Algorithm 1 runs on its coordinates.

    Raises:
        InvalidSettingsError: t_high exceeds the number of timesteps.
    """

    def __init__(
        self,
        theta: Float[Tensor, " d"],
        settings: SearchSettings,
        *,
        images: int,
        flip: bool = False,
        alphas_cumprod: Float[Tensor, " timesteps"] | None = None,
        space: SearchSpace = FULL,
    ) -> None:
        if theta.ndim != 1 or theta.dtype != torch.float32 or theta.device.type != "cpu":
            raise AssertionError(
                f"theta: got {theta.dtype} {tuple(theta.shape)}; expected flat float32 on the CPU"
            )
        if images < 1:
            raise AssertionError(f"images: got {images}; expected at least 1")
        self._settings = settings
        self._flip = flip
        self._image_sampling = IMAGE_SAMPLING[settings.image_sampling](images, settings.seed)
        self._timesteps = TIMESTEPS[settings.timesteps].from_settings(settings, alphas_cumprod)
        self._estimator = ESTIMATORS[settings.estimator]
        self._measurement = MEASUREMENTS[settings.derivative]
        self._adam = ZOAdam.from_settings(settings)
        self._space = space
        self._u = space.start(theta)
        self._subspace = SUBSPACES[settings.subspace].from_settings(len(self._u), settings)
        self._moments = Moments.zeros(self._u)
        self._step = 0
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._generator_before = self._generator.get_state()  # state before the pending proposal
        self._pending: tuple[Proposal, Tensor] | None = None

    @property
    def step(self) -> int:
        """Number of completed steps."""
        return self._step

    @property
    def done(self) -> bool:
        """Whether all L steps are completed."""
        return self._step >= self._settings.steps  # Alg. 1 l.2

    @property
    def theta(self) -> Float[Tensor, " d"]:
        """Copy of the current token."""
        return self._space.embed(self._u).clone()

    @property
    def forwards_per_step(self) -> int:
        """Number of candidates of one proposal: U-Net evaluations of a step."""
        return self._estimator.forwards(self._settings.n)

    @property
    def removed_dimensions(self) -> int:
        """Number of directions that Subspace Gradient currently removes (Fig. 8)."""
        return len(self._subspace.removed)

    def ask(self) -> Proposal:
        """Return the candidates to evaluate.

        Repeated calls return the same proposal until `tell`, so a failed forward pass can be repeated.
        """
        if self._pending is None:
            if self.done:
                raise AssertionError("ask() after the search is done")
            self._pending = self._propose()
        return self._pending[0]

    def redraw(self) -> None:
        """Discard the pending proposal. The next one has other noise, directions and maybe image and timestep."""
        self._generator_before, self._pending = self._generator.get_state(), None

    def _propose(self) -> tuple[Proposal, Tensor]:
        """Draw a proposal and its directions, in the order image, mirror, timestep, noise seed, directions."""
        generator, settings = self._generator, self._settings
        image = self._image_sampling.sample(self._step, generator)  # Alg. 1 l.3
        flipped = self._flip and self._draw(2) == 1
        timestep = self._timesteps.sample(self._step, generator)  # Alg. 1 l.4
        noise_seed = self._draw(2**63 - 1)
        directions = self._draw_directions(self._estimator.direction_count(settings.n), generator)
        candidates = self._estimator.candidates(self._u, directions, settings.mu)
        return Proposal(self._space.embed(candidates), image, flipped, timestep, noise_seed), directions

    def _draw_directions(self, count: int, generator: torch.Generator) -> Float[Tensor, "drawn d"]:
        return DIRECTIONS[self._settings.directions](count, len(self._u), generator)

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self._generator).item())

    def tell(self, measured: Losses | Derivatives) -> None:
        """Complete the step with the measurements of the pending proposal.

        Args:
            measured: `Losses` of all candidates, or `Derivatives` if the settings say derivative="residual".

        Raises:
            LossNotFiniteError: a value is NaN or infinite, or its square overflows; the state is unchanged.
        """
        if self._pending is None:
            raise AssertionError("tell() before ask()")
        self._check_measured(measured)
        self._update(measured, self._pending[1])
        self._generator_before, self._pending = self._generator.get_state(), None

    def _update(self, measured: Losses | Derivatives, directions: Float[Tensor, "drawn d"]) -> None:
        """Take the step. u changes last, so after an error the step can be repeated."""
        settings, step, tau = self._settings, self._step + 1, self._settings.tau
        derivatives = measured.derivatives(self._estimator, settings.mu)
        divisor = DIVISORS[settings.estimate_scale](settings.n, len(self._u) - self.removed_dimensions)
        along = self._estimator.derivative_directions(directions)
        g_hat = gradient_estimate(derivatives, along, divisor)  # Alg. 1 l.5
        self._check_finite(measured.values, g_hat.square())
        projected = self._subspace.project(g_hat)  # Alg. 1 l.6
        u, moments = self._adam.update(self._u, projected, self._moments, step)  # Alg. 1 l.7
        self._subspace.record(step % tau, u)  # Alg. 1 l.8
        if step % tau == 0:  # Alg. 1 l.9
            self._subspace.update()  # Alg. 1 l.10
        self._u, self._moments, self._step = u, moments, step

    def _check_finite(self, *values: Tensor) -> None:
        """Validate that all values are finite.

        Raises:
            LossNotFiniteError: a value is NaN or infinite.
        """
        if not all(one.isfinite().all() for one in values):
            raise LossNotFiniteError(
                f"the loss became NaN or infinite in step {self._step + 1}, so the search stopped"
            )

    def _check_measured(self, measured: Losses | Derivatives) -> None:
        """Validate type and number of the measured values."""
        if type(measured) is not self._measurement:
            raise AssertionError(f"this search requires {self._measurement.__name__}")
        expected = (measured.value_count(self._estimator, self._settings.n),)
        if measured.values.shape != expected:
            raise AssertionError(f"values: got shape {tuple(measured.values.shape)}; expected {expected}")

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `restore` needs, as contiguous copies for a safetensors file.

        They exclude a pending proposal: the generator state is the one before it, so `ask` draws it again.
        """
        state = {
            "step": torch.tensor(self._step),
            "theta": self._u,
            "adam.first_moment": self._moments.first,
            "adam.second_moment": self._moments.second,
            "generator": self._generator_before,
            **self._subspace.state(),
            **self._space.state(),
        }
        return {name: tensor.clone().contiguous() for name, tensor in state.items()}

    @classmethod
    def restore(
        cls: type[S],
        state: Mapping[str, Tensor],
        settings: SearchSettings,
        *,
        images: int,
        flip: bool = False,
        alphas_cumprod: Float[Tensor, " timesteps"] | None = None,
        space: SearchSpace = FULL,
    ) -> S:
        """Return a search that continues from a saved state, bit-identical to an uninterrupted search.

        Args:
            state: Tensors of `state()`; copied.
            settings: Settings of the saved search.
            images: Number of reference images, as before.
            flip: Whether to mirror images, as before.
            alphas_cumprod: ᾱ_t of the model.
            space: The space of the saved search.

        Raises:
            InvalidCheckpointError: the state is damaged, or does not match the settings or the space.
        """
        u = saved_coordinates(state)
        check_space(state, space.state())
        search = cls(u, settings, images=images, flip=flip, alphas_cumprod=alphas_cumprod, space=space)
        check_state(state, search.state(), max_removed=min(settings.tau, len(u)) - 1)
        # Clones are aligned and contiguous, so sums over them round as in the interrupted run.
        copied = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        search._step = int(copied["step"].item())
        search._u = copied["theta"]
        search._moments = Moments(copied["adam.first_moment"], copied["adam.second_moment"])
        search._subspace.load(copied)
        try:
            search._generator.set_state(copied["generator"])
        except RuntimeError as error:
            raise InvalidCheckpointError("checkpoint: the generator state is damaged") from error
        search._generator_before = copied["generator"]
        return search
