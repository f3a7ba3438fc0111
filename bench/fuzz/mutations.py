"""Draws inputs near to good ones: bytes of a seed with some changes, the kind that crashes and people make."""

from collections.abc import Sequence

from hypothesis import strategies as st

TOKENS = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"\\", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3"),
    *(b"null", b"true", b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"1" * 400, b"\\ud800", b"\\u0000", b"&a", b"*a"),
    *(b"!!python/object:os.system", b"<<: ", b"- ", b"? ", b"|", b"---", b"%", b"~", b"../", b"{{", b"}}", b"{%"),
    *(b"[" * 2000, b'{"a":' * 2000, b"x" * 5000, b"```", b"<tool_call>", b"</tool_call>", "é∞😀".encode()),
)

_change = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 2**16), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.integers(0, 2**16), st.integers(0, 64)),
    st.tuples(st.just("repeat"), st.integers(0, 2**16), st.integers(1, 64)),
    st.tuples(st.just("insert"), st.integers(0, 2**16), st.integers(0, len(TOKENS) - 1)),
    st.tuples(st.just("replace"), st.integers(0, 2**16), st.integers(0, len(TOKENS) - 1)),
    st.tuples(st.just("end"), st.integers(0, 2**16), st.just(0)),
)


def near(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Draw a seed with up to six changes."""
    return st.builds(_changed, st.sampled_from(list(seeds)), st.lists(_change, max_size=6))


def _changed(seed: bytes, changes: Sequence[tuple[str, int, int]]) -> bytes:
    data = bytearray(seed)
    for what, place, number in changes:
        at = place % (len(data) + 1)
        if what == "flip" and at < len(data):
            data[at] ^= 1 << number
        elif what == "cut":
            del data[at : at + number]
        elif what == "repeat":
            data[at:at] = data[at : at + number] * 3
        elif what == "insert":
            data[at:at] = TOKENS[number]
        elif what == "replace":
            data[at : at + len(TOKENS[number])] = TOKENS[number]
        elif what == "end":
            del data[at:]
    return bytes(data)
