"""The configuration that is in force: as it was read, not as the file may be by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.agent.surroundings import stamp
from cdr_plugin.config import Config, TierConfig
from cdr_plugin.config.adopted import policy_files
from cdr_plugin.config.load import find_config, parse_config, read_text
from cdr_plugin.errors import NotEnrolledError
from cdr_plugin.unbuilt import refuse_unbuilt


@dataclass(frozen=True, slots=True)
class InForce:
    """A configuration that holds together, for the tiers that were chosen."""

    text: str
    stamp: tuple[int, ...]
    """Of the file and of the policies that tiers have adopted, from before they were read."""
    config: Config
    tiers: tuple[TierConfig, ...]

    def stamp_now(self) -> tuple[int, ...]:
        """Differs from ``stamp`` when any of them was replaced, written or removed since."""
        return _stamp(self.file, self.config)

    @property
    def file(self) -> Path:
        return self.config.path


def load(path: Path | None, names: Sequence[str]) -> InForce:
    """``path`` or the default file; ``names`` of tiers, all when empty. ConfigError, UserError; NotEnrolledError
    for a tier that was not initialised (or whose disk is not there)."""
    file = (find_config() if path is None else path).absolute()
    config = parse_config(read_text(file), file, inherit=False)
    before = _stamp(file, config)
    text = read_text(file)
    config = parse_config(text, file)
    chosen = {config.tier(name).name for name in names} or set(config.tiers)
    tiers = tuple(tier for tier in config.tiers.values() if tier.name in chosen)
    for tier in tiers:
        refuse_unbuilt(tier)
        if not tier.state.is_dir():
            raise NotEnrolledError(f"tier {tier.name}: no state in {tier.state}; run 'cdr init', or mount its disk")
    return InForce(text, before, config, tiers)


def _stamp(file: Path, config: Config) -> tuple[int, ...]:
    adopted = (path for tier in config.tiers.values() for path in policy_files(tier))
    return tuple(part for path in (file, *adopted) for part in (0, *stamp(path)))
