"""`python -m benchmarks.quality.subspace`: how much of the token history SG keeps, beside the same for pure noise.

The paper takes a small i*/τ as evidence of a low-dimensional signal (Fig. 8). Here a second search is told the very
losses of the first while its directions have nothing to do with them: noise of the same size. Only what differs
between the two columns is signal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.quality.cases.subjects import Case, cases
from benchmarks.quality.errors import BenchmarkError
from benchmarks.quality.learning.methods import METHODS
from models.emoji.errors import EmojiModelError
from models.emoji.world import shipped_world
from zoodip_core.base_models.catalog import Catalog, resolve_settings
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.denoising import row_losses
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import ZoodipError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.zeroth_order.estimator import Losses
from zoodip_core.zeroth_order.search import TokenSearch

SHADOW_SEED = 1_000_003  # far from the searches' own seeds


class Shadowed:
    """A personalization, and a search that is told its losses for other directions."""

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
        """One step of both."""
        own = self.signal.search.ask()
        sample = self.signal.references.draw(
            own.image, flipped=own.flipped, timestep=own.timestep, seed=own.noise_seed
        )
        (prediction,) = self._engine.evaluate([self.signal.build_request()])
        self.signal.apply_predictions(prediction)
        self.noise.ask()
        self.noise.tell(Losses(row_losses(prediction, sample.target.expand_as(prediction))))

    def kept(self) -> tuple[float, float]:
        """i*/τ of the signal and of the noise."""
        tau = self.signal.settings.tau
        return 1 - self.signal.search.removed_dimensions / tau, 1 - self.noise.removed_dimensions / tau


def compare(
    bundle: Bundle, chosen: Sequence[Case], settings: PersonalizationSettings, updates: int
) -> list[tuple[int, float, float]]:
    """After each update of the subspace: forwards, and the mean i*/τ over cases of signal and of noise."""
    pairs = [Shadowed(bundle, case, settings) for case in chosen]
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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.subspace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--updates", type=int, default=6, help="of the subspace, each after τ steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu or cuda; CUDA where there is one")
    given = parser.parse_args(arguments)
    try:
        if given.updates < 1:
            raise BenchmarkError(f"--updates {given.updates}: allowed: 1 or more")
        chosen = cases(shipped_world(), "subjects", "report", given.subjects)
        entry, paper = Catalog.load().get("emoji"), METHODS["paper"]
        bundle = load_bundle(entry, device=given.device)
        values = dict(paper.values) | {"seed": given.seed}
        settings = resolve_settings(entry, bundle.family, paper.preset, values)
        found = compare(bundle, chosen, settings, given.updates)
    except (ZoodipError, EmojiModelError) as error:
        sys.exit(f"error: {error}")
    print("| forwards | i*/τ of the search | i*/τ of pure noise |\n| --- | --- | --- |")
    print("\n".join(f"| {forwards} | {signal:.2f} | {noise:.2f} |" for forwards, signal, noise in found))


if __name__ == "__main__":
    main()
