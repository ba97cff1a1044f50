import random
from hashlib import shake_128
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.contracts import Splitter
from cdr_plugin.errors import FormatError
from cdr_rabin.plugin import RabinMethod

METHOD = RabinMethod()
POLYNOMIAL = "3da3358b4dc173"
SMALL = {"name": "rabin", "polynomial": POLYNOMIAL, "min_size": 64, "max_size": 1024, "average_bits": 7}


def lengths(splitter: Splitter, buffers: list[bytes]) -> list[int]:
    """Lengths of the blobs of one stream that comes in these buffers."""
    splitter.reset()
    result, length = [], 0
    for buffer in buffers:
        start = 0
        for end in splitter.feed(buffer):
            result.append(length + end - start)
            start, length = end, 0
        length += len(buffer) - start
    return [*result, length] if length else result


def test_cuts_are_restics() -> None:
    data = shake_128(b"chunker").digest(16 * 1024 * 1024)
    splitter = METHOD.splitter({"polynomial": POLYNOMIAL})
    expected = [2377861, 4046378, 634249, 855053, 3083594, 1210502, 1423792, 2380283, 765504]
    assert lengths(splitter, [data]) == expected
    assert lengths(splitter, [data[i : i + 1_000_003] for i in range(0, len(data), 1_000_003)]) == expected


@given(st.integers(0, 2**32), st.lists(st.integers(0, 5000), max_size=20))
def test_any_division_into_buffers_gives_the_same_blobs(seed: int, ends: list[int]) -> None:
    data = random.Random(seed).randbytes(5000)
    edges = [0, *sorted(ends), len(data)]
    splitter = METHOD.splitter(SMALL)
    whole = lengths(splitter, [data])
    assert lengths(splitter, [data[a:b] for a, b in pairwise(edges)]) == whole
    assert sum(whole) == len(data)
    assert all(64 <= length <= 1024 for length in whole[:-1])


def test_the_splitter_tells_its_limits() -> None:
    splitter = METHOD.splitter(SMALL)
    assert (splitter.min_size, splitter.max_size) == (64, 1024)
    assert lengths(splitter, [b"x" * 64]) == [64]


def test_new_groups_get_different_sound_polynomials() -> None:
    made = [METHOD.chunker_parameters({}) for _ in range(5)]
    assert len({parameters["polynomial"] for parameters in made}) == 5
    for parameters in made:
        assert dict(parameters, polynomial="") == {
            "name": "rabin",
            "polynomial": "",
            "min_size": 524288,
            "max_size": 8388608,
            "average_bits": 20,
        }
        assert METHOD.splitter(parameters).max_size == 8388608


def test_settings_of_a_new_group_are_kept_and_checked() -> None:
    settings = {"polynomial": POLYNOMIAL, "min_size": 4096, "max_size": 65536, "average_bits": 13}
    assert METHOD.chunker_parameters(settings) == {"name": "rabin", **settings}
    with pytest.raises(FormatError):
        METHOD.chunker_parameters({"min_size": 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"polynomial": "3da3358b4dc172"}, "not irreducible"),
        ({"polynomial": "1da3358b4dc173"}, "not degree 53"),
        ({"polynomial": "3DA3358B4DC173"}, "lower-case hexadecimal"),
        ({"polynomial": "0x3da3358b4dc1"}, "lower-case hexadecimal"),
        ({"polynomial": ""}, "lower-case hexadecimal"),
        ({"polynomial": "f" * 100_000}, "lower-case hexadecimal"),
        ({"polynomial": int(POLYNOMIAL, 16)}, "lower-case hexadecimal"),
        ({"polynomial": None}, "lower-case hexadecimal"),
        ({"min_size": 63}, "min_size must be a whole number from 64 to 8388608"),
        ({"min_size": True}, "min_size"),
        ({"min_size": "64"}, "min_size"),
        ({"max_size": 63}, "max_size must be a whole number from 64 to 8388608"),
        ({"max_size": 8388609}, "max_size"),
        ({"max_size": 2**70}, "max_size"),
        ({"average_bits": 0}, "average_bits must be a whole number from 1 to 32"),
        ({"average_bits": 33}, "average_bits"),
        ({"name": "buzhash"}, "name is 'buzhash', not 'rabin'"),
        ({"seed": 1}, "unknown parameter 'seed'"),
    ],
)
def test_bad_parameters_are_refused_with_their_reason(change: dict[str, object], reason: str) -> None:
    with pytest.raises(FormatError, match=f"parameters of the splitter 'rabin'.*{reason}"):
        METHOD.splitter({**SMALL, **change})


def test_a_missing_polynomial_is_refused() -> None:
    with pytest.raises(FormatError, match="polynomial"):
        METHOD.splitter({"name": "rabin"})


def test_it_encodes_nothing() -> None:
    assert METHOD.label == "rabin/1"
    assert METHOD.encoder({}) is None
    assert METHOD.decoder() is None
