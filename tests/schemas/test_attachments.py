# SPDX-License-Identifier: Apache-2.0
"""Files into chunks and back: what comes out is what went in, or the chunk that is wrong is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.attachments import (
    DEFAULT_LIMIT,
    MAX_BYTES,
    File,
    announcement,
    check,
    chunks,
    count_of,
    joined,
    media_type_of,
    part_names,
    parts_of,
    plain_name,
    records_of,
    size_of,
)
from schemas.envelope import MAX_RECORD_BYTES
from schemas.errors import PayloadError
from schemas.forms import validated
from schemas.plain.attachment import CHUNK_BYTES, CHUNKS_PER_RECORD, MAX_CHUNKS, MAX_FILES, AttachmentAnnounced
from schemas.plain.rights import PIECE, DisclosureGranted
from schemas.sealing import seal_parts
from tests.domain import seeded
from umuhuza.examples.samples_attachment import ABOUT, file

SIZES = st.one_of(
    st.integers(9, 300),
    st.integers(0, 3).flatmap(lambda whole: st.integers(-2, 2).map(lambda off: max(9, whole * CHUNK_BYTES + off))),
)
FILES = st.lists(
    st.tuples(SIZES, st.sampled_from(["pdf", "jpg", "png"]), st.text(max_size=30)).map(lambda one: file(*one)),
    min_size=1,
    max_size=4,
)


def numbered(files: Sequence[File]) -> dict[int, bytes]:
    """As a receiver collects them: parts of records, by number."""
    found: dict[int, bytes] = {}
    for first, some in records_of(chunks(files)):
        parts = parts_of(some)
        assert tuple(parts) == part_names(first, count_of(announcement(ABOUT, files)))
        found |= {first + index: part for index, part in enumerate(parts.values())}
    return found


@given(FILES)
@settings(max_examples=60, deadline=None)
def test_what_is_put_together_is_what_was_cut_up(files: list[File]) -> None:
    check(files, DEFAULT_LIMIT)
    said = announcement(ABOUT, files)
    found = joined(said, numbered(files))
    assert [one.data for one in found] == [one.data for one in files]
    assert [one.name for one in found] == list(said.names)
    assert size_of(said) == sum(len(one.data) for one in files)
    assert validated(AttachmentAnnounced, said.model_dump()) == said


@given(FILES, st.data())
@settings(max_examples=60, deadline=None)
def test_a_chunk_that_is_missing_altered_misplaced_or_too_many_gives_no_file_and_is_named(
    files: list[File], data: st.DataObject
) -> None:
    said, parts = announcement(ABOUT, files), numbered(files)
    number = data.draw(st.sampled_from(sorted(parts)))
    wrong = data.draw(st.sampled_from(["missing", "altered", "padding", "short", "swapped", "too many"]))
    if wrong == "missing":
        del parts[number]
    elif wrong == "too many":
        parts[len(parts) + 1] = parts[number]
    elif wrong == "short":
        parts[number] = parts[number][:-1]
    elif wrong == "swapped":
        other = data.draw(st.sampled_from(sorted(parts)))
        if parts[other] == parts[number]:
            return
        parts[number], parts[other] = parts[other], parts[number]
    else:
        at = data.draw(st.integers(0, CHUNK_BYTES - 1))
        parts[number] = parts[number][:at] + bytes([parts[number][at] ^ 1]) + parts[number][at + 1 :]
    with pytest.raises(PayloadError) as caught:
        joined(said, parts)
    assert caught.value.code == ("attachment_incomplete" if wrong == "missing" else "payload_invalid")
    assert str(caught.value.path).startswith("said.files")


def test_the_chunk_that_is_wrong_is_named_by_file_and_place() -> None:
    files = [file(100), file(3 * CHUNK_BYTES, "png")]
    said, parts = announcement(ABOUT, files), numbered(files)
    parts[3] = parts[4]
    with pytest.raises(PayloadError) as caught:
        joined(said, parts)
    assert caught.value.path == "said.files[1].chunks[1]"


def test_a_file_is_what_its_first_bytes_say_whatever_it_is_called() -> None:
    assert media_type_of(file(9, "pdf").data) == "application/pdf"
    assert media_type_of(file(9, "jpg").data) == "image/jpeg"
    assert media_type_of(file(9, "png").data) == "image/png"
    for data in (b"", b"PK\x03\x04 a workbook", b"MZ a program", b"<svg onload=x>", b"%PD", b" %PDF-1.7"):
        assert media_type_of(data) is None
        with pytest.raises(PayloadError) as caught:
            check([file(20), File("certificat.pdf", data)], DEFAULT_LIMIT)
        assert caught.value.path == "attachments[1]"
        assert caught.value.code == ("attachment_type" if data else "payload_invalid")


def test_an_announcement_that_lies_about_the_kind_gives_no_file() -> None:
    files = [file(100, "jpg")]
    said = announcement(ABOUT, files)
    lying = said.model_copy(update={"files": (said.files[0].model_copy(update={"media_type": "application/pdf"}),)})
    with pytest.raises(PayloadError) as caught:
        joined(lying, numbered(files))
    assert (caught.value.code, caught.value.path) == ("attachment_type", "said.files[0].media_type")


def test_the_limit_is_of_all_files_together_and_no_setting_lifts_the_highest() -> None:
    check([file(600), file(400)], 1000)
    with pytest.raises(PayloadError) as caught:
        check([file(600), file(401)], 1000)
    assert (caught.value.code, caught.value.path, caught.value.expected) == ("too_large", "attachments", 1000)
    check([file(MAX_BYTES)], 2 * MAX_BYTES)
    with pytest.raises(PayloadError) as caught:
        check([file(MAX_BYTES + 1)], 2 * MAX_BYTES)
    assert caught.value.expected == MAX_BYTES
    with pytest.raises(PayloadError) as caught:
        check([file(20)] * (MAX_FILES + 1), DEFAULT_LIMIT)
    assert (caught.value.code, caught.value.expected) == ("too_large", MAX_FILES)
    with pytest.raises(PayloadError):  # fewer bytes than the limit, more chunks than there are numbers
        check([file(9), *[file(32 * CHUNK_BYTES - 8)] * 3], MAX_BYTES)


def test_as_many_chunks_as_the_size_needs_and_a_name_for_each_file() -> None:
    said = announcement(ABOUT, [file(2 * CHUNK_BYTES), file(9, "png")]).model_dump()
    one, other = said["files"]
    for change in (
        {"size": CHUNK_BYTES},
        {"chunks": one["chunks"][:1]},
        {"chunks": ("AB" * 32, "ab" * 32)},
        {"media_type": "text/html"},
        {"size": 0, "chunks": ()},
    ):
        with pytest.raises(PayloadError) as caught:
            validated(AttachmentAnnounced, {**said, "files": (one | change, other)})
        assert str(caught.value.path).startswith("files[0]")
    for wrong in (
        said | {"names": said["names"][:1]},
        said | {"about": "../../x"},
        said | {"files": ()},
        said | {"files": tuple([said["files"][0]] * (MAX_CHUNKS // 2 + 1)), "names": ("x",) * (MAX_CHUNKS // 2 + 1)},
    ):
        with pytest.raises(PayloadError):
            validated(AttachmentAnnounced, wrong)


def test_records_begin_with_odd_numbers_and_have_exactly_the_parts_that_are_left() -> None:
    assert part_names(1, 1) == ("a1",)
    assert part_names(1, 5) == part_names(3, 5) == ("a1", "a2")
    assert part_names(5, 5) == ("a1",)
    for first in (2, 4, 7, 0):
        with pytest.raises(PayloadError):
            part_names(first, 5)
    with pytest.raises(ValueError, match="too many"):
        parts_of([b"x"] * (CHUNKS_PER_RECORD + 1))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("/mnt/scans/Claire/certificat.pdf", "certificat.pdf"),
        ("C:\\Scans\\claire\\certificat.pdf", "certificat.pdf"),
        ("certi\x00fi\u202ecat.pdf\n", "certificat.pdf"),
        ("   ", "fichier"),
        ("..", ".."),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_a_name_loses_its_folders_and_what_cannot_be_shown(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_record_with_chunks_fits_the_log_and_a_disclosure_of_it_fits_a_part() -> None:
    """Else a court could be given no page of a scan."""
    parts = {"identity": b"x" * 4000, "content": b"x" * 16_000, **parts_of([b"y" * CHUNK_BYTES] * CHUNKS_PER_RECORD)}
    sealed = seal_parts(f"bi/iom/{ABOUT}", "update", parts, seeded("a record"))
    assert len(sealed.body) + 8192 < MAX_RECORD_BYTES
    pieces = -(-len(sealed.body) // PIECE)
    most = next(
        meta.max_length for meta in DisclosureGranted.model_fields["body"].metadata if hasattr(meta, "max_length")
    )
    assert pieces <= most
