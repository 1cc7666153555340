"""Searches and generations on a loaded base model, as jobs that the engine batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor

from worker.engine_protocol import Activity, EncodedImage
from zoodip_core.artifact import Concept
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.generation import ImageBatch
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.engine import BatchedJob, Request
from zoodip_core.errors import ContentFilteredError
from zoodip_core.personalization.concept_conversion import to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.recovery import Recovery
from zoodip_core.personalization.validation import ValidationMeasurement
from zoodip_core.png_metadata import GenerationFacts, encode_generated, encode_marked


class DiffusionSearch:
    """Personalization on a loaded base model, with its measurements and previews.

    It does one thing at a time: rows of a measurement in the forward pass of a step would change the rounding
    of a search that runs alone.
    """

    def __init__(self, personalization: Personalization, preview: GenerationSettings) -> None:
        self.personalization = personalization
        self._preview_settings = preview
        self._measurement: ValidationMeasurement | None = None
        self._preview: ImageBatch | None = None
        self._drawn: bytes | ContentFilteredError | None = None

    @property
    def bundle(self) -> Bundle:
        """Base model of the search."""
        return self.personalization.bundle

    @property
    def step(self) -> int:
        """Number of completed steps."""
        return self.personalization.step

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return self.personalization.done

    @property
    def activity(self) -> Activity:
        """Stage of the next unit of work."""
        if self._measurement is not None:
            return "measure"
        return "step" if self._preview is None else "preview"

    @property
    def rows(self) -> int:
        """Rows of the next unit of work; 0 if it decodes the preview."""
        if self._measurement is not None:
            return self._measurement.rows
        if self._preview is not None:
            return 0 if self._preview.decodes_next else min(self._preview.units, self._preview.most_rows)
        return self.personalization.search.forwards_per_step

    @property
    def cells(self) -> int:
        """Latent cells of the next unit of work."""
        if self._preview is not None:
            return max(1, self.rows) * self._preview.unit_cells
        return self.rows * self.bundle.cells

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net."""
        return self.bundle.denoiser.parameters

    @property
    def fixed_losses(self) -> Sequence[float]:
        """Validation losses: before the search, then at each measurement."""
        return self.personalization.fixed_losses

    def on_recovery(self, notify: Callable[[Recovery], None]) -> None:
        """Call `notify` whenever the search recovers from a loss that is not finite."""
        self.personalization.on_recovery = notify

    def begin_measurement(self) -> None:
        """Measure the validation loss of the current token with the next units of work."""
        self._measurement = self.personalization.begin_measurement()

    def begin_preview(self) -> None:
        """Draw with the current token in the next units of work, with the code of a generation."""
        vectors = self.personalization.concept_vectors
        self._preview = ImageBatch(self.bundle, [self._preview_settings], vectors)

    def take_preview(self) -> bytes:
        """Return the drawn preview.

        Raises:
            ContentFilteredError: the safety checker of the base model withheld it.
        """
        drawn, self._drawn = self._drawn, None
        assert drawn is not None, "the preview is drawn first"
        if isinstance(drawn, ContentFilteredError):
            raise drawn
        return drawn

    def state(self) -> bytes:
        """Return the tensors of the search as a safetensors file."""
        state = self.personalization.state()
        content: bytes = save({name: tensor.contiguous() for name, tensor in state.items()})
        return content

    def concept(self) -> Concept:
        """Return the learned concept with its provenance."""
        return to_concept(self.personalization, self.fixed_losses[-1])

    @property
    def _active(self) -> BatchedJob:
        return self._measurement or self._preview or self.personalization

    def build_request(self) -> Request | Rows:
        """Return the rows of the next unit of work."""
        return self._active.build_request()

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete the unit of work.

        Raises:
            LossNotFiniteError: a loss is NaN or infinite, and after a measurement the search cannot go back.
        """
        self._active.apply_predictions(prediction)
        if self._measurement is not None and self._measurement.done:
            self.personalization.record_measurement(self._measurement)
            self._measurement = None

    def recover(self) -> bool:
        """Prepare another attempt after a loss that is not finite. Return whether there is one."""
        return self._active.recover()

    @property
    def decodes_next(self) -> bool:
        """Whether the next unit of work decodes the preview."""
        return self._preview is not None and self._preview.decodes_next

    def decode(self) -> None:
        """Decode the preview. One that the safety checker withholds is an error of `take_preview` only."""
        assert self._preview is not None
        try:
            self._preview.decode()
        except ContentFilteredError as error:
            self._drawn = error
        else:
            self._drawn = encode_marked(self._preview.images[0].image)
        self._preview = None


class DiffusionGeneration:
    """Generation on a loaded base model. `facts` has the metadata of each prompt; all have as many images."""

    def __init__(self, bundle: Bundle, batch: ImageBatch, facts: Sequence[GenerationFacts]) -> None:
        self.bundle = bundle
        self.images: list[EncodedImage] = []
        self._batch = batch
        self._facts = facts

    @property
    def step(self) -> int:
        """Number of completed denoising steps."""
        return self._batch.step

    @property
    def done(self) -> bool:
        """Whether all images are drawn."""
        return self._batch.done

    @property
    def withheld(self) -> Sequence[int]:
        """Seeds of the images so far that the safety checker withheld."""
        return self._batch.withheld

    @property
    def units(self) -> int:
        """Rows of the current step without a prediction, or 1 for the decoding of an image."""
        return self._batch.units

    @property
    def unit_cells(self) -> int:
        """Latent cells of a unit."""
        return self._batch.unit_cells

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net."""
        return self._batch.parameters

    def limit_rows(self, most: int) -> None:
        """Request at most `most` rows in the next iteration."""
        self._batch.most_rows = most

    def build_request(self) -> Rows:
        """Return the next rows of the current step."""
        return self._batch.build_request()

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete a step, or a part of it."""
        self._batch.apply_predictions(prediction)

    def recover(self) -> bool:
        """Return false: a generation has no loss."""
        return self._batch.recover()

    @property
    def decodes_next(self) -> bool:
        """Whether the next unit of work decodes an image."""
        return self._batch.decodes_next

    def decode(self) -> None:
        """Decode one image, and encode it as PNG.

        Raises:
            ZoodipError: memory is exhausted, a pixel is NaN or infinite, or the safety checker withheld all images.
        """
        self._batch.decode()
        drawn = self._batch.drawn[-1]
        if drawn is not None:
            index = (len(self._batch.drawn) - 1) * len(self._facts) // self._batch.count
            png = encode_generated(drawn.image, replace(self._facts[index], seed=drawn.seed))
            self.images.append(EncodedImage(png, drawn.seed, index))

    def partial_image(self) -> bytes | None:
        """Return the estimate of the first image as PNG, or None if the safety checker flags it."""
        image = self._batch.partial_image()
        return None if image is None else encode_marked(image)
