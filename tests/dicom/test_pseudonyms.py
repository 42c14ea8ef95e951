from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dicom.negotiation import is_uid
from broker.dicom.pseudonyms import Pseudonyms

KEY = b"0123456789abcdef"


@given(st.text(min_size=1))
def test_a_pseudonym_is_the_same_each_time_and_another_with_another_key(original: str) -> None:
    one, again, other = Pseudonyms(KEY), Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert one.uid(original) == again.uid(original) != other.uid(original)
    assert one.patient(original) == again.patient(original) != other.patient(original)
    assert -1826 <= one.days(original) == again.days(original) <= -366
    assert is_uid(one.uid(original))
    assert not original.isascii() or len(original) < 4 or original not in one.patient(original)


def test_the_same_number_of_two_authorities_is_of_two_patients() -> None:
    names = Pseudonyms(KEY)
    assert names.patient("4711", "A") != names.patient("4711", "B")


def test_what_was_given_is_kept() -> None:
    names = Pseudonyms(KEY)
    uid, patient = names.uid("1.2.3"), names.patient("4711")
    assert names.given == {uid: ("uid", "1.2.3"), patient: ("patient", "4711")}


def test_a_short_key_is_none() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Pseudonyms(b"secret")
