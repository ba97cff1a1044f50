"""Registers the reduction method ``delta``."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import Decoder, Encoder, ReductionMethod, Settings, hookimpl


class DeltaMethod(ReductionMethod):
    """Payload ``delta/1``: copies from older blobs, and literals compressed by zstd.

    Settings: ``block_size``, a power of two from 512 to 65536 bytes, default 512; ``level`` of zstd for literals,
    1 to 19, default 9. Without the client's ``key`` nothing is remembered.
    """

    name = "delta"
    version = 1

    def encoder(self, settings: Settings) -> Encoder:
        from .encoder import DeltaEncoder
        from .settings import checked

        return DeltaEncoder(checked(settings))

    def decoder(self) -> Decoder:
        from .decoder import DeltaDecoder

        return DeltaDecoder()


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [DeltaMethod()]
