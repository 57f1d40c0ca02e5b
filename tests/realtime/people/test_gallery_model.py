"""Any sequence of changes leaves a gallery as a dictionary would be left, seen by its own and by another connection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import GalleryError
from realtime.people.gallery import Gallery
from tests.realtime.people.helpers import MODEL, reference

NAMES = st.sampled_from(["Ana", "ana", "Ben", "Cy", "김민준"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, st.lists(st.integers(0, 9), min_size=1, max_size=4)),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("merge"), NAMES, NAMES),
    ),
    max_size=12,
)

People = dict[str, tuple[str, set[int]]]
"""Key -> name as shown, photos."""


def change(gallery: Gallery, people: People, step: tuple[object, ...]) -> None:
    kind, name = step[0], str(step[1])
    key = name.casefold()
    if kind == "add":
        photos = step[2]
        assert isinstance(photos, list)
        known = people.setdefault(key, (name, set()))[1]
        assert gallery.add(name, [reference(number) for number in photos]) == len(set(photos) - known)
        known |= set(photos)
        return
    if kind == "remove":
        gallery.remove(name)
        del people[key]
        return
    new = str(step[2])
    gallery.rename(name, new, merge=kind == "merge")
    photos = people.pop(key)[1]
    if new.casefold() in people:
        people[new.casefold()][1].update(photos)
    else:
        people[new.casefold()] = (new, photos)


def refused(people: People, step: tuple[object, ...]) -> bool:
    if step[0] == "add":
        return False
    old = str(step[1]).casefold()
    if old not in people:
        return True
    return step[0] == "rename" and str(step[2]).casefold() in people.keys() - {old}


@settings(max_examples=40, deadline=None)
@given(changes=CHANGES)
def test_as_a_dictionary(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[object, ...]]) -> None:
    path = tmp_path_factory.mktemp("g") / "g.sqlite"
    people: People = {}
    with Gallery.open(path, MODEL) as gallery, Gallery.open(path, MODEL) as other:
        for step in changes:
            if refused(people, step):
                with pytest.raises(GalleryError):
                    change(gallery, {}, step)
            else:
                change(gallery, people, step)
            expected = {shown: len(photos) for shown, photos in people.values()}
            for each in (gallery, other):
                references = each.references()
                assert {person.name: person.references for person in each.people()} == expected
                assert set(references.names) == set(expected)
                means = sum(count > 1 for count in expected.values())
                assert len(references) == sum(expected.values()) + means
