"""`python -m benchmarks.quality.subspace`: how much of the token history SG keeps, compared with pure noise.

The paper takes a small i*/τ as evidence of a low-dimensional signal (Fig. 8). Here a second search receives the
losses of the first, although its directions are unrelated to them: noise of the same size. Only a difference between
the two columns is signal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.quality.cases.subjects import Case, make_cases
from benchmarks.quality.cli import at_least
from benchmarks.quality.learning.methods import METHODS
from benchmarks.quality.report.tables import markdown
from models.emoji.errors import EmojiModelError
from models.emoji.world import shipped_world
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import ZoodipError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.zeroth_order.measured_values import Losses
from zoodip_core.zeroth_order.search import TokenSearch

SHADOW_SEED = 1_000_003  # offset that keeps the shadow's seed apart from the searches' seeds
HEAD = ("NFE", "i*/τ of the search", "i*/τ of pure noise")


class ShadowedSearch:
    """A personalization, and a second search that receives its losses for unrelated directions."""

    def __init__(self, bundle: Bundle, case: Case, settings: PersonalizationSettings) -> None:
        self.signal = Personalization.begin(bundle, case.subject, case.references, settings)
        self.noise = TokenSearch(
            self.signal.search.theta,
            settings.model_copy(update={"seed": settings.seed + SHADOW_SEED}),
            images=len(case.references),
            alphas_cumprod=bundle.schedule.alphas_cumprod,
            flip=settings.flip,
        )
        self._engine = Engine(bundle)

    def advance(self) -> None:
        """Run one step of both searches."""
        proposal = self.signal.search.ask()
        sample = self.signal.references.draw(
            proposal.image, flipped=proposal.flipped, timestep=proposal.timestep, seed=proposal.noise_seed
        )
        (prediction,) = self._engine.evaluate([self.signal.build_request()])
        self.signal.apply_predictions(prediction)
        self.noise.ask()
        self.noise.tell(Losses(row_losses(prediction, sample.target.expand_as(prediction))))

    def kept(self) -> tuple[float, float]:
        """Return i*/τ of the signal and of the noise."""
        tau = self.signal.settings.tau
        return 1 - self.signal.search.removed_dimensions / tau, 1 - self.noise.removed_dimensions / tau


def compare(
    bundle: Bundle, chosen: Sequence[Case], settings: PersonalizationSettings, updates: int
) -> list[tuple[int, float, float]]:
    """Return for each update of the subspace: evaluations, and the mean i*/τ of signal and of noise over cases."""
    pairs = [ShadowedSearch(bundle, case, settings) for case in chosen]
    found = []
    for _ in range(updates):
        for pair in pairs:
            for _ in range(settings.tau):
                pair.advance()
        signal, noise = zip(*(pair.kept() for pair in pairs), strict=True)
        found.append((pairs[0].signal.forwards, sum(signal) / len(pairs), sum(noise) / len(pairs)))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = _parser().parse_args(arguments)
    try:
        updates = at_least(1, given.updates, "updates")
        chosen = make_cases(shipped_world(), "subjects", "test", given.subjects)
        entry, paper = Catalog.load().get("emoji"), METHODS["paper"]
        bundle = load_bundle(entry, device=given.device)
        values = dict(paper.values) | {"seed": given.seed}
        settings = resolve_settings(entry, bundle.family, paper.preset, values)
        found = compare(bundle, chosen, settings, updates)
    except (ZoodipError, EmojiModelError) as error:
        sys.exit(f"error: {error}")
    lines = [(str(forwards), f"{signal:.2f}", f"{noise:.2f}") for forwards, signal, noise in found]
    print(markdown([HEAD, *lines]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.subspace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--subjects", type=int, default=2, help="number of subjects of the test split")
    parser.add_argument("--updates", type=int, default=6, help="updates of the subspace, each after τ steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    parser.add_argument("--device", help="cpu or cuda; CUDA by default if available")
    return parser


if __name__ == "__main__":
    main()
