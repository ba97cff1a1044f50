"""Registers the reduction method ``zstd``."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import Decoder, Encoder, ReductionMethod, Settings, hookimpl


class ZstdMethod(ReductionMethod):
    """Payload ``zstd/1``: one zstd frame (RFC 8878) that is the blob, neither bases nor dictionary.

    Such a frame is also what a restic repository holds, so a top tier can store it as it came.
    Setting: ``level``, 1 to 19, default 3.
    """

    name = "zstd"
    version = 1

    def encoder(self, settings: Settings) -> Encoder:
        from .encoder import ZstdEncoder, checked_level

        return ZstdEncoder(checked_level(settings))

    def decoder(self) -> Decoder:
        from .decoder import ZstdDecoder

        return ZstdDecoder()


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [ZstdMethod()]
