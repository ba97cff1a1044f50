"""Names, heads and receipts: what lies in the open, and what comes back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.head import Head, HeadParcel, read_head, write_head
from cdr_plugin.parcel.limits import (
    MAX_HEAD_PARCELS,
    MAX_REASON_CHARS,
    MAX_RECEIPT_BLOBS,
    MAX_RECEIPT_PARCELS,
    MAX_RECEIPT_VERSIONS,
    MAX_STANDING_VERSIONS,
)
from cdr_plugin.parcel.naming import (
    Answer,
    AnswerName,
    EnrolmentName,
    HeadName,
    PartName,
    SegmentName,
    answer_name,
    enrolment_name,
    folder_id,
    head_name,
    parcel_folder,
    parse_name,
    part_name,
    segment_name,
)
from cdr_plugin.parcel.receipt import (
    ParcelReceipt,
    Receipt,
    RejectedSegment,
    VersionReceipt,
    VersionState,
    read_receipt,
    write_receipt,
)
from cdr_plugin.parcel.standing import PresentVersion, Standing, read_standing, write_standing
from tests.parcel.parties import (
    CLIENT,
    CLIENT_SEALING,
    GROUP,
    NOT_FOR_THIS_READER,
    STRANGER,
    TIER,
    reader_of_an_answer,
    with_a_flipped_byte,
)

FOLDER = folder_id(CLIENT.public, GROUP)


# --- names


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1))
def test_a_segments_name_says_parcel_and_index(parcel_id: bytes, index: int) -> None:
    name = segment_name(FOLDER, parcel_id, index)
    assert parse_name(name) == SegmentName(FOLDER, parcel_id, index)
    assert name.startswith(parcel_folder(FOLDER, parcel_id) + "/")


def test_other_names_say_what_they_are() -> None:
    assert parse_name(head_name(FOLDER)) == HeadName(FOLDER)
    for answer in Answer:
        assert parse_name(answer_name(FOLDER, answer)) == AnswerName(FOLDER, answer)
    assert parse_name(part_name(FOLDER, Answer.BASELINE, 300)) == PartName(FOLDER, Answer.BASELINE, 300)
    assert parse_name(part_name(FOLDER, Answer.DIGEST, 1)) == PartName(FOLDER, Answer.DIGEST, 1)
    request = parse_name(enrolment_name(FOLDER, b"request"))
    assert isinstance(request, EnrolmentName) and request.folder == FOLDER
    assert enrolment_name(FOLDER, b"a") != enrolment_name(FOLDER, b"b")


def test_names_tell_neither_the_client_nor_the_group() -> None:
    assert folder_id(CLIENT.public, "a") != folder_id(CLIENT.public, "b") != folder_id(STRANGER.public, "b")
    assert CLIENT.public.fingerprint.hex()[:8] not in FOLDER and GROUP not in FOLDER


@pytest.mark.parametrize(
    "name",
    [
        "",
        "clients",
        "clients/x/head",
        f"clients/{FOLDER}",
        f"clients/{FOLDER}/head/x",
        f"clients/{FOLDER.upper()}/head",
        f"clients/{FOLDER}/head\n",
        f"/clients/{FOLDER}/head",
        f"clients/{FOLDER}/../{FOLDER}/head",
        f"clients/{FOLDER}/{'0' * 32}/0000000",
        f"clients/{FOLDER}/{'0' * 32}/0000000g",
        f"clients/{FOLDER}/{'0' * 31}/00000000",
        f"clients/{FOLDER}/{'0' * 32}/00000000.tmp",
        f"clients/{FOLDER}/enrol-",
        f"answers/{FOLDER}/other",
        f"answers/{FOLDER}/baseline-",
        f"answers/{FOLDER}/baseline-0000000G",
        f"answers/{chr(0x660) * 32}/receipt",
    ],
)
def test_names_that_cdr_does_not_give_are_refused(name: str) -> None:
    with pytest.raises(FormatError, match="not a name that cdr gives"):
        parse_name(name)


@given(st.text(max_size=100))
def test_random_names_are_refused(name: str) -> None:
    with pytest.raises(FormatError):
        parse_name(name)


# --- heads

HEAD = Head(4, (HeadParcel(id=b"p" * 16, segments=3, closed=True), HeadParcel(id=b"q" * 16, segments=0, closed=False)))


def test_a_head_comes_back_with_its_signer() -> None:
    data = write_head(HEAD, CLIENT, group=GROUP, issued_s=1)
    assert read_head(data, signer=CLIENT.public, group=GROUP, now_s=2) == (CLIENT.public, HEAD)
    assert GROUP.encode() not in data


def test_an_older_or_foreign_head_is_refused() -> None:
    data = write_head(HEAD, CLIENT, group=GROUP, issued_s=1)
    with pytest.raises(AuthenticationError, match="replayed"):
        read_head(data, signer=CLIENT.public, group=GROUP, now_s=2, lowest_serial=5)
    with pytest.raises(AuthenticationError, match="signed by"):
        read_head(data, signer=STRANGER.public, group=GROUP, now_s=2)
    with pytest.raises(AuthenticationError, match="another group"):
        read_head(data, signer=CLIENT.public, group="sales", now_s=2)


def test_a_head_of_too_many_parcels_is_refused() -> None:
    parcels = [HeadParcel(id=at.to_bytes(16, "big"), segments=1, closed=True) for at in range(MAX_HEAD_PARCELS + 1)]
    data = write_head(Head(1, parcels[1:]), CLIENT, group=GROUP, issued_s=1)
    assert len(read_head(data, signer=CLIENT.public, group=GROUP, now_s=2)[1].parcels) == MAX_HEAD_PARCELS
    with pytest.raises(FormatError, match="body of head"):
        write_head(Head(1, parcels), CLIENT, group=GROUP, issued_s=1)


def test_a_head_names_a_parcel_once() -> None:
    data = write_head(Head(5, (*HEAD.parcels, HEAD.parcels[0])), CLIENT, group=GROUP, issued_s=1)
    with pytest.raises(FormatError, match="names a parcel twice"):
        read_head(data, signer=CLIENT.public, group=GROUP, now_s=2)


# --- receipts

REJECTED = RejectedSegment(index=2, object=b"o" * 32, reason="segment damaged")
RECEIPT = Receipt(
    serial=9,
    parcels=(ParcelReceipt(id=b"p" * 16, taken=3, digest=b"d" * 32, rejected=[REJECTED], missing=[1]),),
    missing=[(BlobType.DATA, BlobId(b"a" * 32)), (BlobType.TREE, BlobId(b"b" * 32))],
    versions=(
        VersionReceipt(number=7, state=VersionState.COMMITTED, record=b"r" * 32, snapshot="ab" * 32, reason=""),
        VersionReceipt(number=8, state=VersionState.INCOMPLETE, record=b"s" * 32, snapshot="", reason="2 missing"),
    ),
    committed=7,
    committed_record=b"r" * 32,
)


def written(receipt: Receipt = RECEIPT) -> bytes:
    return write_receipt(
        receipt, TIER, client=CLIENT.public, sealing=CLIENT_SEALING.public, group=GROUP, issued_s=1, expires_s=99
    )


def read(data: bytes, **change: Any) -> Receipt:
    return read_receipt(data, **reader_of_an_answer(**change))


def test_a_receipt_comes_back_to_its_client() -> None:
    assert read(written()) == RECEIPT
    assert read(written(Receipt(9))) == replace(Receipt(9), missing=[])


@pytest.mark.parametrize("change", NOT_FOR_THIS_READER)
def test_a_receipt_for_somebody_else_or_from_before_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationError, match="receipt"):
        read(written(), **change)


def test_every_flipped_byte_of_a_receipt_is_refused() -> None:
    for bad in with_a_flipped_byte(written()):
        with pytest.raises(IntegrityError):
            read(bad)


def test_the_largest_receipt_without_rejections_fits_a_document() -> None:
    parcel = replace_lists(RECEIPT.parcels[0])
    largest = Receipt(
        9,
        [parcel] * MAX_RECEIPT_PARCELS,
        [RECEIPT.missing[0]] * MAX_RECEIPT_BLOBS,
        [RECEIPT.versions[1]] * MAX_RECEIPT_VERSIONS,
    )
    data = written(largest)
    assert len(data) < MAX_DOCUMENT_BYTES
    assert len(read(data).missing) == MAX_RECEIPT_BLOBS


def replace_lists(receipt: ParcelReceipt) -> ParcelReceipt:
    return ParcelReceipt(id=receipt.id, taken=receipt.taken, digest=receipt.digest, rejected=[], missing=[])


def test_receipts_over_their_limits_are_not_written() -> None:
    too_many = Receipt(9, missing=[RECEIPT.missing[0]] * (MAX_RECEIPT_BLOBS + 1))
    wordy = RejectedSegment(index=2, object=b"o" * 32, reason="x" * (MAX_REASON_CHARS + 1))
    parcel = ParcelReceipt(id=b"p" * 16, taken=3, digest=b"", rejected=[wordy], missing=[])
    for bad in (too_many, Receipt(9, [parcel]), Receipt(9, committed_record=b"x")):
        with pytest.raises(FormatError, match=r"receipt|committed"):
            written(bad)


# --- standings

VERSIONS = tuple(PresentVersion(number, bytes((number % 251,)) * 32) for number in range(1, MAX_STANDING_VERSIONS + 1))
STANDING = Standing(9, "ab" * 32, 4, b"r" * 32, b"t" * 32, "2026-11-22T19:00:00Z", VERSIONS[:3])


def said(standing: Standing = STANDING) -> bytes:
    return write_standing(
        standing, TIER, client=CLIENT.public, sealing=CLIENT_SEALING.public, group=GROUP, issued_s=1, expires_s=99
    )


def heard(data: bytes, **change: Any) -> Standing:
    return read_standing(data, **reader_of_an_answer(**change))


@pytest.mark.parametrize("standing", [STANDING, Standing(9, ""), replace(STANDING, versions=VERSIONS)])
def test_a_standing_comes_back_to_its_client(standing: Standing) -> None:
    assert heard(said(standing)) == standing


@pytest.mark.parametrize("change", NOT_FOR_THIS_READER)
def test_a_standing_for_somebody_else_or_from_before_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(AuthenticationError, match="standing"):
        heard(said(), **change)


def test_a_receipt_is_no_standing_and_a_standing_no_receipt() -> None:
    with pytest.raises(AuthenticationError):
        heard(written())
    with pytest.raises(AuthenticationError):
        read(said())


def test_every_flipped_byte_of_a_standing_is_refused() -> None:
    for bad in with_a_flipped_byte(said()):
        with pytest.raises(IntegrityError):
            heard(bad)


@pytest.mark.parametrize(
    "bad",
    [
        replace(STANDING, number=0),
        replace(STANDING, record=b""),
        replace(STANDING, tree=b"short"),
        replace(STANDING, versions=[*VERSIONS, PresentVersion(2000, b"r" * 32)]),
    ],
)
def test_standings_that_contradict_themselves_are_not_written(bad: Standing) -> None:
    with pytest.raises(FormatError, match=r"standing|tree"):
        said(bad)


@pytest.mark.parametrize("versions", [VERSIONS[1::-1], VERSIONS[:1] * 2, [PresentVersion(0, b"r" * 32)]])
def test_lists_of_versions_that_do_not_ascend_are_refused(versions: list[PresentVersion]) -> None:
    with pytest.raises(FormatError, match="standing"):
        heard(said(replace(STANDING, versions=versions)))
