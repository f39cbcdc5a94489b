"""Pages as text: elements whose text is escaped, with everything that they show inside."""

import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Final, final

import matplotlib
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from penstock.backbones import InputError

STYLE: Final = Path(__file__).with_name("page.css")

VOID: Final = ("img", "meta", "source")
"""Elements that hold nothing and are not closed."""

NARROW_PX: Final = 640
"""Below this width of a window figures are drawn for a telephone."""


@final
@dataclass(frozen=True, slots=True)
class Html:
    """Markup; all other text is escaped before it stands in a page."""

    text: str


Part = Html | str
"""What an element holds."""

Draw = Callable[[bool], Figure]
"""Draws a figure; the argument says whether for a narrow window, about 3.6 inches wide."""


def tag(name: str, /, *inside: Part | None, **attributes: str) -> Html:
    """An element; attributes without a value are left out, as are underscores behind a name.

    >>> tag("p", "a < b, ", tag("b", "c"), class_="x").text
    '<p class="x">a &lt; b, <b>c</b></p>'
    """
    given = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items() if v}
    words = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    if name in VOID:
        return Html(f"<{name}{words}>")
    held = "".join(_text(part) for part in inside if part is not None)
    return Html(f"<{name}{words}>{held}</{name}>")


def together(*parts: Part | None) -> Html:
    """One behind the other, a line each."""
    return Html("\n".join(_text(part) for part in parts if part is not None))


@final
@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page, under a heading to which the top of the page leads."""

    name: str
    title: str
    inside: tuple[Part | None, ...]


def section(name: str, title: str, *inside: Part | None) -> Section:
    """A part of the page."""
    return Section(name, title, inside)


def items(lines: Sequence[Part]) -> Html | None:
    """A list; None without lines."""
    return tag("ul", *(tag("li", line) for line in lines)) if lines else None


def drawn(draw: Draw, alt: str, caption: str) -> Html:
    """A figure in two widths, of which a browser takes the one that fits."""
    wide, narrow = (_svg(draw(small)) for small in (False, True))
    source = tag("source", media=f"(max-width: {NARROW_PX}px)", srcset=narrow)
    picture = tag("picture", source, tag("img", src=wide, alt=alt))
    return tag("figure", picture, tag("figcaption", caption))


def picture_file(path: Path, alt: str, caption: str) -> Html:
    """A PNG that was drawn before, in its one width."""
    image = tag("img", src=_uri("image/png", path.read_bytes()), alt=alt)
    return tag("figure", tag("div", image, class_="scroll"), tag("figcaption", caption))


def small_image(pixels: Tensor, alt: str) -> Html:
    """An input [C, H, W] uint8, of one or three channels, pixel by pixel."""
    values = pixels.movedim(0, 2).numpy()
    stream = BytesIO()
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(stream, "png")
    return tag("img", src=_uri("image/png", stream.getvalue()), alt=alt)


def scrolling(table: Html, caption: str) -> Html:
    """A table that may be wider than the page, under words that are not."""
    inside = tag("div", table, class_="scroll", tabindex="0")
    return tag("figure", tag("figcaption", caption), inside)


def document(title: str, lead: str, sections: Sequence[Section], footer: Part) -> str:
    """The whole page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        Html(f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>"),
    )
    links = [tag("li", tag("a", each.title, href=f"#{each.name}")) for each in sections]
    top = tag(
        "header",
        tag("h1", title),
        tag("p", lead, class_="lead"),
        tag("nav", tag("ul", *links), aria_label="Contents"),
    )
    parts = [tag("section", tag("h2", s.title), *s.inside, id=s.name) for s in sections]
    main = tag("main", together(*parts))
    body = tag("body", together(top, main, tag("footer", tag("p", footer))))
    return f"<!doctype html>\n{tag('html', head, body, lang='en').text}\n"


def write_page(path: Path, page: str) -> None:
    """Write it beside its place, then rename, so that none is ever half there.

    Raises:
        InputError: if the place cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"the page {path} cannot be written ({error.strerror}); choose a place with --out"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _text(part: Part) -> str:
    return part.text if isinstance(part, Html) else escape(part, quote=False)


def _svg(figure: Figure) -> str:
    stream = BytesIO()
    # The same figure gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "penstock"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", stream.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
