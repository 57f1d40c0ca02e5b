"""No secret of an address is ever printed; what is left still says which camera it is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.capture.addresses import MAX_NAME, redact_text, safe_name, scheme_of, stream_name
from realtime.capture.backoff import Backoff
from realtime.capture.source import redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://192.168.1.7:554/cam", "rtsp://192.168.1.7:554/cam"),
        ("rtsp://ana:geheim@host/cam", "rtsp://***@host/cam"),
        ("rtsp://ana@host/cam", "rtsp://***@host/cam"),
        ("rtsp://ana:p@ss/w?rd@host:8554/cam", "rtsp://***@host:8554/cam"),
        ("RTSP://ana:geheim@[fe80::1]:554/", "RTSP://***@[fe80::1]:554/"),
        ("http://host/live?token=abc&channel=2", "http://host/live?token=***&channel=2"),
        ("http://host?key=abc", "http://host?key=***"),
        ("http://host/live#access_token=abc", "http://host/live#access_token=***"),
        (
            "rtsp://host:554/user=ana&password=geheim&channel=1&stream=0.sdp",
            "rtsp://host:554/user=***&password=***&channel=1&stream=0.sdp",
        ),
        ("rtsps://10.0.0.1:7441/aBcD1234eFgH5678", "rtsps://10.0.0.1:7441/***"),
        ("rtsp://host/cam/realmonitor?channel=1&subtype=0", "rtsp://host/cam/realmonitor?channel=1&subtype=0"),
        ("http://host/birthday_2024_in_the_garden.mp4", "http://host/birthday_2024_in_the_garden.mp4"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown
    assert redact(shown) == shown


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=20).map(
    lambda text: "Zq7" + text
)


@given(secret=SECRET, user=st.sampled_from(["ana", "admin", ""]), place=st.sampled_from(["user", "query", "path"]))
def test_no_secret_survives(secret: str, user: str, place: str) -> None:
    if place == "user":
        url = f"rtsp://{user}:{secret}@camera.example:554/live"
    else:
        secret = "".join(char for char in secret if char not in "&;/#@?=")
        url = f"http://camera.example/{'live?' if place == 'query' else ''}password={secret}&channel=1"
    for text in (redact(url), stream_name(url), redact_text(f"cannot open {url} with {secret}!", url)):
        assert secret not in text
        assert "Zq7" not in text.replace("***", "")
    assert "camera.example" in stream_name(url)


def test_a_sentence_keeps_what_is_no_secret() -> None:
    assert (
        redact_text("tcp://10.0.0.1:554?timeout=5 failed", "rtsp://a:b@10.0.0.1/")
        == "tcp://10.0.0.1:554?timeout=*** failed"
    )


@given(st.text())
def test_names_are_one_short_printable_line(text: str) -> None:
    for name in (safe_name(text), stream_name("rtsp://" + text)):
        assert 0 < len(name) <= MAX_NAME
        assert name.isprintable()


@pytest.mark.parametrize(
    ("spec", "scheme"),
    [("rtsp://x", "rtsp"), ("HTTP://x", "http"), ("C:\\a.mp4", None), ("a:b.mp4", None), ("0", None)],
)
def test_scheme(spec: str, scheme: str | None) -> None:
    assert scheme_of(spec) == scheme


def test_waits_double_up_to_the_limit_and_start_again() -> None:
    backoff = Backoff(30, chance=random.Random(1))
    waits_s = [backoff.next_s() for _ in range(8)]
    for wait_s, nominal_s in zip(waits_s, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert 0.8 * nominal_s <= wait_s <= min(30, 1.2 * nominal_s)
    assert len({round(wait_s / nominal_s, 6) for wait_s, nominal_s in zip(waits_s, [1, 2, 4, 8, 16], strict=False)}) > 1
    backoff.reset()
    assert backoff.next_s() <= 1.2
