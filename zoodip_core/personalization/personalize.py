"""One personalization, from reference images to a learned token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, unflatten
from zoodip_core.engine import Engine, Request
from zoodip_core.errors import LossNotFiniteError
from zoodip_core.personalization.early_stopping import has_stalled
from zoodip_core.personalization.encoding import encode_references
from zoodip_core.personalization.initial_token import initial_token
from zoodip_core.personalization.measurements import measure
from zoodip_core.personalization.recovery import MAX_REDRAWS, Recovery, redrawn, restored
from zoodip_core.personalization.samples import References, Sample, candidates_request
from zoodip_core.personalization.search_spaces import SEARCHES, make_search_space
from zoodip_core.personalization.search_state import SearchState
from zoodip_core.personalization.subject import Subject, resolve_subject
from zoodip_core.personalization.validation import ValidationMeasurement


class Personalization:
    """A search with its training data; the engine advances it as a `BatchedJob`."""

    def __init__(
        self,
        bundle: Bundle,
        subject: Subject,
        references: References,
        settings: PersonalizationSettings,
        state: dict[str, Tensor] | None = None,
        *,
        measured: bool = True,
    ) -> None:
        self.bundle = bundle
        self.subject = subject
        self.references = references
        self.settings = settings
        self.validation_set = references.validation_set(settings.fixed_rows)
        self.on_recovery: Callable[[Recovery], None] = lambda _: None
        self._sample: Sample | None = None
        self._redraws = 0  # of the current step
        self._rate_halved = False
        start = initial_token(bundle, subject.initializer, settings.vectors)
        self._space = make_search_space(bundle, settings, start, subject, references.posteriors)
        self._search_type = SEARCHES[settings.search_space]
        if state is None:
            self.search = self._search_type(
                start,
                settings,
                images=len(references.posteriors),
                alphas_cumprod=bundle.schedule.alphas_cumprod,
                flip=settings.flip,
                space=self._space,
            )
            self.fixed_losses = [self.measure_validation_loss()] if measured else []
        else:
            self._load(state)
        self._last_state = self.state()  # that `recover` goes back to

    def _load(self, state: dict[str, Tensor]) -> None:
        """Replace the search by a saved one.

        Raises:
            InvalidCheckpointError: the state is incomplete, or from weights of another precision.
        """
        saved = SearchState.decode(state, self.bundle.precision)
        self._rate_halved = saved.rate_halved
        rate = self.settings.learning_rate / (2 if self._rate_halved else 1)
        self.search = self._search_type.restore(
            saved.search,
            self.settings.model_copy(update={"learning_rate": rate}),
            images=len(self.references.posteriors),
            alphas_cumprod=self.bundle.schedule.alphas_cumprod,
            flip=self.settings.flip,
            space=self._space,
        )
        self.fixed_losses = saved.fixed_losses

    @classmethod
    def begin(
        cls,
        bundle: Bundle,
        subject: Subject,
        images: Sequence[Image.Image],
        settings: PersonalizationSettings,
        state: dict[str, Tensor] | None = None,
        *,
        measured: bool = True,
    ) -> Personalization:
        """Validate the request, cache the latents, free the VAE, and start the search or restore it.

        Args:
            bundle: the frozen base model; its VAE is released after encoding.
            subject: what to learn.
            images: 1 to 16 RGB or RGBA images; each becomes a square as `settings.image_fit` says. The alpha of an
                image weights its loss with `settings.masked_loss`, and is dropped otherwise.
            settings: settings of the search.
            state: tensors of `state()` to resume from; None starts a new search.
            measured: whether to measure the validation loss of a new search at once. Otherwise the caller runs
                `begin_measurement` before the first step.

        Raises:
            InvalidInputError: names the field: images, token, initializer, captions or settings.vectors.
            InvalidCheckpointError: `state` does not match the settings or the precision of the base model.
        """
        templates = bundle.templates.get(subject.kind)
        subject, _ = resolve_subject(
            subject, bundle.folder, images=len(images), vectors=settings.vectors, templates=templates
        )
        references = encode_references(bundle, subject, images, settings)
        return cls(bundle, subject, references, settings, state, measured=measured)

    def build_request(self) -> Request:
        """Return the rows of the next step of Algorithm 1: one noisy sample under all candidates."""
        proposal = self.search.ask()
        self._sample = self.references.draw(
            proposal.image, flipped=proposal.flipped, timestep=proposal.timestep, seed=proposal.noise_seed
        )
        return candidates_request(
            self.bundle.prompts, self._sample, self.subject.token, proposal.candidates, self.settings.vectors
        )

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete one step of the search with the model's predictions.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite; the state is unchanged.
        """
        assert self._sample is not None, "build_request() comes first"
        self.search.tell(measure(self.settings, prediction, self._sample.target, self._sample.weight))
        self._redraws = 0

    def recover(self) -> bool:
        """Repeat a step whose loss is not finite; after three times go back to the last `state()`, once.

        A repeated step has another sample. A search that went back has other samples, and half of its learning rate.
        `on_recovery` is called each time.

        Returns:
            Whether the search can go on.
        """
        if self._redraws < MAX_REDRAWS:
            self._redraws += 1
            self.search.redraw()
            self.on_recovery(redrawn(self.step, self._redraws))
            return True
        return self._go_back()

    def _go_back(self) -> bool:
        """Restore the last state, with other samples and half the rate. Return false if that was done before."""
        if self._rate_halved:
            return False
        step = self.step
        self._load(self._last_state | {"rate_halved": torch.tensor(True)})
        self.search.ask()
        self.search.redraw()
        self._redraws = 0
        has_rate = self.settings.search_space == "full"
        self.on_recovery(restored(step, self.step, self.settings.learning_rate / 2 if has_rate else None))
        return True

    @property
    def step(self) -> int:
        """Number of completed steps."""
        return self.search.step

    @property
    def done(self) -> bool:
        """Whether the search has ended: all steps are completed, or `stop="auto"` ended it early."""
        if self.search.done or self.settings.stop == "steps":
            return self.search.done
        return has_stalled(self.fixed_losses, share=self.step / self.settings.steps)

    @property
    def fixed_loss_start(self) -> float:
        """Validation loss before the search."""
        return self.fixed_losses[0]

    @property
    def forwards(self) -> int:
        """U-Net evaluations of the search so far, without measurements of the validation loss."""
        return self.search.step * self.search.forwards_per_step

    @property
    def vectors(self) -> tuple[Float[Tensor, "vectors _"], ...]:
        """Current embedding of the token: one tensor for each text encoder."""
        return tuple(
            part[0]
            for part in unflatten(self.search.theta[None], self.settings.vectors, self.bundle.prompts.widths)
        )

    @property
    def concept_vectors(self) -> ConceptVectors:
        """Current embedding of the token, as `generate` accepts it."""
        return {self.subject.token: self.vectors}

    def record_validation_loss(self) -> float:
        """Measure the validation loss and append it to `fixed_losses`, which `stop="auto"` evaluates.

        Call it every `measure_every` steps. If the loss is not finite, the search goes back as in `recover`.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite, and the search is complete or went back before.
        """
        return self.record_measurement(self.begin_measurement().run_alone(Engine(self.bundle)))

    def measure_validation_loss(self) -> float:
        """Return the validation loss of the current token.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite.
        """
        return self.begin_measurement().run_alone(Engine(self.bundle)).loss()

    def begin_measurement(self) -> ValidationMeasurement:
        """Return a measurement of the current token, which the engine can batch with other jobs."""
        return ValidationMeasurement(
            self.bundle.prompts,
            self.validation_set,
            self.subject.token,
            self.search.theta,
            vectors=self.settings.vectors,
            rows=self.search.forwards_per_step,
        )

    def record_measurement(self, measurement: ValidationMeasurement) -> float:
        """Append the loss of a complete measurement to `fixed_losses`, as `record_validation_loss` does.

        Raises:
            LossNotFiniteError: as in `record_validation_loss`, or the search has not started.
        """
        is_first = not self.fixed_losses
        try:
            self.fixed_losses.append(measurement.loss())
        except LossNotFiniteError:
            if is_first or self.done or not self._go_back():
                raise
        if is_first:
            self._last_state = self.state()
        return self.fixed_losses[-1]

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs for bit-identical results. Call it between steps.

        `recover` goes back to the last state that this method has returned.
        """
        saved = SearchState(self.search.state(), self.fixed_losses, self._rate_halved, self.bundle.precision)
        self._last_state = saved.encode()
        return dict(self._last_state)
