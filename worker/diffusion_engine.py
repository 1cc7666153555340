"""Production engine: runs searches and generations on the base models of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakSet

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from worker.diffusion_jobs import DiffusionGeneration, DiffusionSearch
from worker.engine_protocol import JobGeneration, JobSearch
from worker.model_cache import ModelCache
from zoodip_core.artifact import Concept
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.compiled import use_compiler_cache
from zoodip_core.diffusion.dequantized import dequantized_budget_mb
from zoodip_core.diffusion.device import choose_device
from zoodip_core.diffusion.generation import ImageBatch
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.fair_shares import ACCELERATOR_OVERHEAD_WORK
from zoodip_core.images import decode_stored_image
from zoodip_core.personalization.captions import captions_per_image
from zoodip_core.personalization.concept_conversion import concept_vectors
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject
from zoodip_core.png_metadata import IMAGE_FIELDS, GenerationFacts
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.generation_limits import check_generation_limits
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings

_log = structlog.get_logger("zoodip.worker")
PREVIEW_SEED = 0


class DiffusionEngine:
    """Engine that loads each base model on first use."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._catalog = Catalog.load(settings.base_models)
        self._device = choose_device(settings.device)  # a worker with a wrong device must not claim jobs
        self._settings = settings
        self._bundles = ModelCache(
            self._catalog,
            settings.max_bundle_mb,
            self._load,
            safety_checker=settings.safety_checker,
            dequantized_budget_mb=dequantized_budget_mb(settings.dequantized_mb, self._device),
        )
        if settings.compile:
            use_compiler_cache(settings.data_dir / "compiled")
        self._jobs: WeakSet[DiffusionSearch | DiffusionGeneration] = WeakSet()

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
        decoded = [decode_stored_image(image, name=f"reference {k}") for k, image in enumerate(images)]
        tensors = None if state is None else _tensors(state)
        settings = PersonalizationSettings.parse(job.request["settings"])
        personalization = Personalization.begin(bundle, subject, decoded, settings, tensors, measured=False)
        search = DiffusionSearch(personalization, self._preview_of(bundle, subject))
        self._jobs.add(search)
        return search

    @property
    def overhead_work(self) -> int:
        """Work that takes as long as the fixed cost of a forward pass."""
        return 0 if self._device.type == "cpu" else ACCELERATOR_OVERHEAD_WORK

    def step(
        self, searches: Sequence[JobSearch], turns: Sequence[tuple[JobGeneration, int]]
    ) -> list[Exception | None]:
        """Run one unit of work of every search and some of every generation; return an error or None for each."""
        jobs: list[DiffusionSearch | DiffusionGeneration] = [
            search for search in searches if isinstance(search, DiffusionSearch)
        ]
        for generation, units in turns:
            assert isinstance(generation, DiffusionGeneration)
            generation.limit_rows(units)
            jobs.append(generation)
        return Engine(jobs[0].bundle).step(jobs)

    def begin_generation(self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]]) -> JobGeneration:
        """Start the generation of a job; the PNG metadata of its images holds what is needed to draw them again.

        Args:
            job: claimed generation.
            concepts: database record and content of each concept in the prompt.

        Raises:
            ZoodipError: a setting exceeds a limit, or a concept does not match the base model.
        """
        bundle = self._bundle(job.base_model)
        settings = GenerationSettings.parse(job.request["settings"])
        prompts = [one["text"] for one in job.request.get("prompts", [{"text": settings.prompt}])]
        check_generation_limits(settings, bundle.side_px, self._settings, prompts=len(prompts))
        vectors = concept_vectors(
            [concept for _, concept in concepts],
            bundle,
            mismatch_allowed=_checked_tokens(concepts, bundle),
        )
        facts = GenerationFacts(
            prompt=settings.prompt,
            seed=settings.seed,
            base_model=job.base_model,
            fingerprint=bundle.fingerprint,
            concepts={record.token: record.id for record, _ in concepts},
            settings=settings.model_dump(exclude=IMAGE_FIELDS),
        )
        requests = [settings.model_copy(update={"prompt": prompt}) for prompt in prompts]
        batch = ImageBatch(bundle, requests, vectors)
        generation = DiffusionGeneration(bundle, batch, [_facts_of(facts, prompt) for prompt in prompts])
        self._jobs.add(generation)
        return generation

    def gauges(self) -> dict[str, float]:
        """Return the number of loaded base models, their memory in megabytes, and rows that ran compiled."""
        sizes = self._bundles.sizes_mb()
        gauges = {
            "base_models": float(len(sizes)),
            "base_models_mb": sum(sizes.values()),
            "compiled_rows": float(self._bundles.compiled_rows()),
        }
        if self._device.type == "cuda":
            gauges["gpu_memory_mb"] = torch.cuda.memory_reserved(self._device) / 1e6
        return gauges

    def trim(self) -> None:
        """Free base models that no job uses, as far as the memory budget requires."""
        self._bundles.trim(self._in_use())

    def _load(self, entry: BaseModelEntry) -> Bundle:
        settings = self._settings
        bundle = load_bundle(
            entry,
            device=settings.device,
            max_rows=settings.max_rows,
            safety_checker=settings.safety_checker,
            dequantized_mb=settings.dequantized_mb,
            compiled=settings.compile,
        )
        if settings.safety_checker and bundle.safety_checker is None:
            _log.warning("safety_checker_missing", base_model=entry.name)
        return bundle

    def _bundle(self, name: str) -> Bundle:
        return self._bundles.get(name, self._in_use())

    def _in_use(self) -> set[str]:
        return {job.bundle.name for job in self._jobs}

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


def _facts_of(facts: GenerationFacts, prompt: str) -> GenerationFacts:
    """Return the metadata of one prompt of a set, with the concepts that its images can show."""
    texts = (prompt, facts.settings["negative_prompt"])
    shown = {token: id_ for token, id_ in facts.concepts.items() if any(token in text for text in texts)}
    return replace(facts, prompt=prompt, concepts=shown)


def _checked_tokens(concepts: Sequence[tuple[ConceptRecord, Concept]], bundle: Bundle) -> list[str]:
    """Return the tokens of concepts whose import or search was checked against the files of the base model."""
    return [concept.token for record, concept in concepts if record.fingerprint == bundle.fingerprint]


def _tensors(state: bytes) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load(state)
    except SafetensorError as error:
        raise InvalidCheckpointError(f"checkpoint: the file is damaged: {error}") from error
    return tensors
