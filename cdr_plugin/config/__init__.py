"""Configuration: TOML in, typed and checked values out."""

from .chain import Config
from .load import load_config
from .schema import Role, TierConfig

__all__ = ["Config", "Role", "TierConfig", "load_config"]
