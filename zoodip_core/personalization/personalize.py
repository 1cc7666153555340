"""One personalization, from reference images to a learned token."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import directional_derivatives, row_losses
from zoodip_core.diffusion.latents import encode_images
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.prompts import ConceptVectors, flatten, unflatten
from zoodip_core.engine import Engine, Request
from zoodip_core.errors import InvalidCheckpointError, LossNotFiniteError
from zoodip_core.images import fit_square
from zoodip_core.personalization.captions import captions_per_image
from zoodip_core.personalization.early_stopping import has_stalled
from zoodip_core.personalization.samples import References, Sample, candidates_request, samples_request
from zoodip_core.personalization.subject import Subject, resolve_subject
from zoodip_core.zeroth_order.estimator import Derivatives, Losses
from zoodip_core.zeroth_order.search import TokenSearch


class Personalization:
    """A search with its training data; the engine advances it as a `BatchedSearch`."""

    def __init__(
        self,
        bundle: Bundle,
        subject: Subject,
        references: References,
        settings: PersonalizationSettings,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        self.bundle = bundle
        self.subject = subject
        self.references = references
        self.settings = settings
        self.validation_set = references.validation_set(settings.fixed_rows)
        alphas = bundle.schedule.alphas_cumprod
        images = len(references.posteriors)
        if state is None:
            start = _initial_theta(bundle, subject.initializer, settings.vectors)
            self.search = TokenSearch(
                start, settings, images=images, alphas_cumprod=alphas, flip=settings.flip
            )
            self.fixed_losses = [self.measure_validation_loss()]
        else:
            state = dict(state)
            losses = state.pop("fixed_losses", None)
            if losses is None or not len(losses):
                raise InvalidCheckpointError.mismatch(
                    "checkpoint", got="no fixed_losses", expected="one or more"
                )
            self.search = TokenSearch.restore(
                state, settings, images=images, alphas_cumprod=alphas, flip=settings.flip
            )
            self.fixed_losses = [float(loss) for loss in losses]
        self._sample: Sample | None = None

    @classmethod
    def begin(
        cls,
        bundle: Bundle,
        subject: Subject,
        images: Sequence[Image.Image],
        settings: PersonalizationSettings,
        state: dict[str, Tensor] | None = None,
    ) -> Personalization:
        """Validate the request, cache the latents, free the VAE, and start the search or restore it.

        Args:
            bundle: the frozen base model; its VAE is released after encoding.
            subject: what to learn.
            images: 1 to 16 RGB images; each is cropped to its center square.
            settings: settings of the search.
            state: tensors of `state()` to resume from; None starts a new search.

        Raises:
            InvalidInputError: names the field: images, token, initializer, captions or settings.vectors.
            InvalidCheckpointError: `state` does not match the settings.
        """
        templates = bundle.templates.get(subject.kind)
        subject, _ = resolve_subject(
            subject, bundle.folder, images=len(images), vectors=settings.vectors, templates=templates
        )
        captions = captions_per_image(
            subject.captions, images=len(images), token=subject.token, kind=subject.kind, templates=templates
        )
        vectors = {subject.token: settings.vectors}
        prompts = [[bundle.prompts.tokenize(text, vectors) for text in texts] for texts in captions]
        posteriors = encode_images(bundle.vae, [fit_square(image, bundle.side_px) for image in images])
        bundle.release_vae()
        return cls(bundle, subject, References(posteriors, prompts, bundle.schedule), settings, state)

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
        target = self._sample.target
        if self.settings.derivative == "residual":
            self.search.tell(Derivatives(directional_derivatives(prediction, target, self.settings.mu)))
        else:
            self.search.tell(Losses(row_losses(prediction, target.expand_as(prediction))))

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

        Call it every `measure_every` steps.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite.
        """
        loss = self.measure_validation_loss()
        self.fixed_losses.append(loss)
        return loss

    def measure_validation_loss(self) -> float:
        """Return the validation loss: the mean over the same images, noises and timesteps each time.

        Each forward pass has as many rows as a step, so a measurement needs no more memory than the search.

        Raises:
            LossNotFiniteError: the loss is NaN or infinite.
        """
        losses = [
            self._losses(self.validation_set[k : k + self.search.forwards_per_step])
            for k in range(0, len(self.validation_set), self.search.forwards_per_step)
        ]
        loss = float(torch.cat(losses).mean())
        if not math.isfinite(loss):
            raise LossNotFiniteError(f"the validation loss is {loss} at step {self.step}")
        return loss

    def _losses(self, samples: Sequence[Sample]) -> Float[Tensor, " samples"]:
        request = samples_request(
            self.bundle.prompts, samples, self.subject.token, self.search.theta, self.settings.vectors
        )
        (prediction,) = Engine(self.bundle).evaluate([request])
        return row_losses(prediction, torch.stack([sample.target for sample in samples]))

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs for bit-identical results. Call it between steps."""
        return {
            **self.search.state(),
            "fixed_losses": torch.tensor(self.fixed_losses, dtype=torch.float64),
        }


def _initial_theta(bundle: Bundle, initializer: str, vectors: int) -> Float[Tensor, " flat"]:
    """Return the embeddings of the initializer in each text encoder: one word for all vectors, or one for each."""
    parts = []
    for encoder in bundle.prompts.encoders:
        ids = encoder.tokenizer(initializer, add_special_tokens=False).input_ids
        parts.append(encoder.table[ids].float().cpu().expand(vectors, -1))
    return flatten(parts)
