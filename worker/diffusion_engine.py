"""Production engine: runs searches and generations on the base models of the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from weakref import WeakSet

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from worker.engine_protocol import EncodedImage, JobSearch
from worker.model_cache import ModelCache
from zoodip_core.artifact import Concept
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import InvalidCheckpointError, ZoodipError
from zoodip_core.images import decode_image, encode_png
from zoodip_core.personalization.captions import captions_per_image
from zoodip_core.personalization.concept_conversion import concept_vectors, to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject
from zoodip_core.png_metadata import GenerationFacts, encode_generated
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings

PREVIEW_SEED = 0


class DiffusionSearch:
    """Personalization on a loaded base model."""

    def __init__(self, personalization: Personalization, preview: GenerationSettings) -> None:
        self.personalization = personalization
        self._preview = preview

    @property
    def step(self) -> int:
        """Number of completed steps."""
        return self.personalization.step

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return self.personalization.done

    @property
    def rows_per_step(self) -> int:
        """Number of U-Net evaluations in one step."""
        return self.personalization.search.forwards_per_step

    @property
    def fixed_losses(self) -> Sequence[float]:
        """Validation losses: before the search, then at each measurement."""
        return self.personalization.fixed_losses

    def record_validation_loss(self) -> float:
        """Measure the validation loss, append it to `fixed_losses` and return it."""
        return self.personalization.record_validation_loss()

    def state(self) -> bytes:
        """Return the tensors of the search as a safetensors file."""
        state = self.personalization.state()
        content: bytes = save({name: tensor.contiguous() for name, tensor in state.items()})
        return content

    def preview(self) -> bytes:
        """Draw a PNG with the current token, using the code of a generation and a fixed seed."""
        personalization = self.personalization
        (drawn,) = generate(personalization.bundle, self._preview, personalization.concept_vectors)
        return encode_png(drawn.image)

    def concept(self) -> Concept:
        """Return the learned concept with its provenance."""
        return to_concept(self.personalization, self.fixed_losses[-1])


class DiffusionEngine:
    """Engine that loads each base model on first use."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._catalog = Catalog.load(settings.base_models)
        load = partial(load_bundle, device=settings.device)
        self._bundles = ModelCache(self._catalog, settings.max_bundle_mb, load)
        self._searches: WeakSet[DiffusionSearch] = WeakSet()

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """Start the search of a job, or resume it.

        Args:
            job: claimed personalization.
            images: reference images as encoded files.
            state: checkpoint as a safetensors file; None starts a new search.

        Raises:
            ZoodipError: the request does not match the base model, or the checkpoint is damaged.
        """
        bundle = self._bundle(job.base_model)
        captions = job.request["captions"]
        subject = Subject(
            token=job.token or "",
            initializer=job.request["initializer"],
            kind=job.request["kind"],
            captions=None if captions is None else tuple(captions),
        )
        decoded = [decode_image(image, name=f"reference {k}") for k, image in enumerate(images)]
        tensors = None if state is None else _tensors(state)
        personalization = Personalization.begin(
            bundle, subject, decoded, PersonalizationSettings.parse(job.request["settings"]), tensors
        )
        search = DiffusionSearch(personalization, self._preview_of(bundle, subject))
        self._searches.add(search)
        return search

    def step(self, base_model: str, searches: Sequence[JobSearch]) -> list[ZoodipError | None]:
        """Run one step of every search in one forward pass; return an error or None for each."""
        personalizations = [s.personalization for s in searches if isinstance(s, DiffusionSearch)]
        return Engine(personalizations[0].bundle).step(personalizations)

    def generate(
        self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]], before_step: Callable[[], None]
    ) -> list[EncodedImage]:
        """Draw the images of a job; their PNG metadata holds what is needed to draw them again.

        Args:
            job: claimed generation.
            concepts: database record and content of each concept in the prompt.
            before_step: called before each denoising step; an exception from it stops the generation.

        Raises:
            ZoodipError: a concept does not match the base model, or memory is exhausted.
        """
        bundle = self._bundle(job.base_model)
        settings = GenerationSettings.parse(job.request["settings"])
        vectors = concept_vectors([concept for _, concept in concepts], bundle)
        try:
            images = generate(bundle, settings, vectors, before_step=before_step)
        finally:
            self._bundles.trim(self._in_use())
        ids = {record.token: record.id for record, _ in concepts}
        return [
            EncodedImage(
                encode_generated(
                    drawn.image,
                    GenerationFacts(
                        prompt=settings.prompt,
                        seed=drawn.seed,
                        base_model=job.base_model,
                        fingerprint=bundle.fingerprint,
                        concepts=ids,
                    ),
                ),
                drawn.seed,
            )
            for drawn in images
        ]

    def gauges(self) -> dict[str, float]:
        """Return the number of loaded base models and their memory in megabytes."""
        sizes = self._bundles.sizes_mb()
        gauges = {"base_models": float(len(sizes)), "base_models_mb": sum(sizes.values())}
        if torch.cuda.is_available():
            gauges["gpu_memory_mb"] = torch.cuda.memory_reserved() / 1e6
        return gauges

    def _bundle(self, name: str) -> Bundle:
        return self._bundles.get(name, self._in_use())

    def _in_use(self) -> set[str]:
        return {search.personalization.bundle.name for search in self._searches}

    def _preview_of(self, bundle: Bundle, subject: Subject) -> GenerationSettings:
        ((caption, *_),) = captions_per_image(
            None,
            images=1,
            token=subject.token,
            kind=subject.kind,
            templates=bundle.templates.get(subject.kind),
        )
        defaults = self._catalog.get(bundle.name).generation
        return GenerationSettings.parse({**defaults, "prompt": caption, "seed": PREVIEW_SEED})


def _tensors(state: bytes) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load(state)
    except SafetensorError as error:
        raise InvalidCheckpointError(f"checkpoint: the file is damaged: {error}") from error
    return tensors
