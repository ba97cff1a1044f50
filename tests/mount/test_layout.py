from __future__ import annotations

from cdr_plugin.mount.layout import Directory, Latest, file_name, lay_out
from tests.look.world import CountingReader
from tests.mount.world import MemoryRepository


def _paths(directory: Directory) -> list[str]:
    found = []
    for name, entry in directory.entries.items():
        path = f"{directory.path.rstrip('/')}/{name}"
        found.append(f"{path} -> {entry.target}" if isinstance(entry, Latest) else path)
        if isinstance(entry, Directory):
            found += _paths(entry)
    return found


def test_versions_stand_by_id_time_host_and_tag_as_restic_mounts_them() -> None:
    repository, tree = MemoryRepository(), CountingReader().tree()
    repository.add(tree, "2024-01-01T10:00:00.123456789+02:00", "alice")
    repository.add(tree, "2024-01-02T10:00:00Z", "bob", "x", "a/b", "x")
    assert _paths(lay_out(repository.stored)) == [
        "/ids",
        "/ids/00000000",
        "/ids/00000001",
        "/snapshots",
        "/snapshots/2024-01-01T10:00:00+02:00",
        "/snapshots/2024-01-02T10:00:00Z",
        "/snapshots/latest -> 2024-01-02T10:00:00Z",
        "/hosts",
        "/hosts/alice",
        "/hosts/alice/2024-01-01T10:00:00+02:00",
        "/hosts/alice/latest -> 2024-01-01T10:00:00+02:00",
        "/hosts/bob",
        "/hosts/bob/2024-01-02T10:00:00Z",
        "/hosts/bob/latest -> 2024-01-02T10:00:00Z",
        "/tags",
        "/tags/x",
        "/tags/x/2024-01-02T10:00:00Z",
        "/tags/x/latest -> 2024-01-02T10:00:00Z",
        "/tags/a_b",
        "/tags/a_b/2024-01-02T10:00:00Z",
        "/tags/a_b/latest -> 2024-01-02T10:00:00Z",
    ]


def test_versions_of_one_second_have_a_number_behind_their_time() -> None:
    repository, tree = MemoryRepository(), CountingReader().tree()
    for _ in range(3):
        repository.add(tree)
    snapshots = lay_out(repository.stored).folder("snapshots").entries
    assert list(snapshots)[:3] == [f"2024-01-01T10:00:00Z{number}" for number in ("", "-1", "-2")]
    link = snapshots["latest"]
    assert isinstance(link, Latest) and link.target == "2024-01-01T10:00:00Z-2"


def test_a_repository_without_versions_has_empty_folders() -> None:
    assert _paths(lay_out([])) == ["/ids", "/snapshots", "/hosts", "/tags"]


def test_a_host_or_tag_that_is_no_name_of_a_folder_becomes_one() -> None:
    assert [file_name(text) for text in ("..", ".", "", "a/b/c", "x")] == ["__", "_", "_", "a_b_c", "x"]
