"""The text of a callback is what its EventData says, whoever wrote that XML."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.ingest.event_body import MAX_OCTETS, event_body

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


def in_body(text: str) -> str:
    return f'<eventData><urls/><body html="true">{text}</body></eventData>'


@pytest.mark.parametrize(
    ("event_data", "expected"),
    [
        (None, None),
        ("", None),
        # Text.
        ("Please call back", "Please call back"),
        ("Please call back & ask for <Anna>", "Please call back & ask for <Anna>"),
        (" <eventData><body>x</body></eventData>", " <eventData><body>x</body></eventData>"),
        ("two\r\nlines", "two\r\nlines"),
        # The form of the vendor's example.
        (in_body(""), None),
        (in_body("Please call back"), "Please call back"),
        (in_body("  two\nlines "), "  two\nlines "),
        ("<body>Please call back</body>", "Please call back"),
        ("<a><b><body>deep</body></b></a>", "deep"),
        ("<a><body>first</body><body>second</body></a>", "first"),
        ("<a><body/><body>second</body></a>", None),
        ("<?xml version='1.0'?>\n<!-- made by hand -->\n<a><body>x</body></a>", "x"),
        ('<a xmlns="urn:example"><body>x</body></a>', "x"),
        # A driver gives text, whatever encoding it once had.
        ("<?xml version='1.0' encoding='ISO-8859-1'?><body>Grüße 🙂</body>", "Grüße 🙂"),
        # Entities.
        (in_body("a &amp; b &lt;c&gt; &quot;&apos; &#228;&#xe4;"), "a & b <c> \"' ää"),
        (in_body("<![CDATA[a & <b>]]>"), "a & <b>"),
        (in_body("<![CDATA[<!DOCTYPE html>]]>"), "<!DOCTYPE html>"),
        ("<!-- <!DOCTYPE a> --><body>x</body>", "x"),
        # Child elements.
        (in_body("one<br/>two"), "one<br/>two"),
        (in_body("<br/>"), "<br/>"),
        (in_body("<p></p>"), "<p></p>"),
        (in_body("<p><br/></p>"), "<p><br/></p>"),
        (in_body("<p>a<b><br/><br/></b></p><br/>"), "<p>a<b><br/><br/></b></p><br/>"),
        (in_body("<p><br/><!-- not said --></p>"), "<p><br/></p>"),
        (in_body("<p>/></p>"), "<p>/&gt;</p>"),
        (in_body("<p>a &amp; <b>b</b> c</p> &amp; d"), "<p>a &amp; <b>b</b> c</p> & d"),
        (in_body("<p>&#228; <![CDATA[<b>]]></p>"), "<p>ä &lt;b&gt;</p>"),
        (in_body("<p>a<!-- not said --><?php x?>b</p>"), "<p>ab</p>"),
        (
            in_body("<a b='x?a&amp;b' c='\"'>x</a>"),
            '<a b="x?a&amp;b" c="&quot;">x</a>',
        ),
        (in_body("a<body>b</body>c"), "a<body>b</body>c"),
        (in_body("<x:p>a</x:p>"), "<x:p>a</x:p>"),
        # No body.
        ("<a/>", None),
        ("<a>text</a>", None),
        ("<a><Body>x</Body></a>", None),
        ('<a body="x"/>', None),
        # Not well-formed, also where the body is over already.
        ("<", None),
        ("<3 you", None),
        ("<p>Hello<br>", None),
        ("<a><body>x</body>", None),
        ("<a><body>x</body></a><b/>", None),
        ("<a><body>x</body></b>", None),
        ("<a><body>&nbsp;</body></a>", None),
        ("<a><body>\x01</body></a>", None),
        # With a DTD.
        ("<!DOCTYPE a><a><body>x</body></a>", None),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1/a.dtd"><a><body>x</body></a>', None),
        ("<?xml version='1.0'?><!-- c --> <!DOCTYPE a><a><body>x</body></a>", None),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a><body>&x;</body></a>", None),
        ("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a><body>&x;</body></a>", None),
        ("<!DOCTYPE a [<!ENTITY % x SYSTEM 'file:///etc/passwd'> %x;]><body>x</body>", None),
        (f"<!DOCTYPE a [<!ENTITY l0 'ha'>{LAUGHS}]><a><body>&l9;</body></a>", None),
    ],
)
def test_a_body_is_the_text_of_the_first_element_of_that_name(
    event_data: str | None, expected: str | None
) -> None:
    assert event_body(event_data) == expected


@pytest.mark.parametrize("form", ["x{}", "<body>{}</body>"])
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_megabyte_is_read_and_more_is_none(form: str, letter: str) -> None:
    width = len(letter.encode())
    count, rest = divmod(MAX_OCTETS - len(form.format("").encode()), width)
    fits = form.format(letter * count + "y" * rest)
    assert len(fits.encode()) == MAX_OCTETS == 1024 * 1024
    body = event_body(fits)
    assert body is not None
    assert len(body) >= count
    assert event_body(form.format(letter * count + "y" * rest + "z")) is None


@pytest.mark.parametrize(
    "event_data",
    [
        in_body("<b/>" * 250_000),
        in_body("<b>" * 140_000 + "</b>" * 140_000),
        "<a>" * 300_000,
        "<!--" * 250_000,
        "<?x?>" * 200_000 + "<!DOCTYPE a>",
        "<" + " " * 1_000_000,
        "<a " + " ".join(f'a{n}="&lt;"' for n in range(60_000)) + "/>",
        "<a " + 'a="x" ' * 100_000 + "/>",
    ],
    ids=["empty", "nested", "open", "comments", "instructions", "blanks", "attributes", "the same"],
)
def test_a_hostile_text_costs_little(event_data: str) -> None:
    began = time.process_time()
    event_body(event_data)
    assert time.process_time() - began < 2


@given(st.text() | st.text("<>/&;!?-[]abody'\"= ").map(lambda text: f"<{text}"))
def test_no_text_is_too_odd(text: str) -> None:
    assert isinstance(event_body(text), str | None)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_text_comes_back_as_it_was_written(text: str) -> None:
    written = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert event_body(in_body(written)) == text
    assert event_body(in_body(f"<p>{written}</p>")) == f"<p>{written}</p>"
