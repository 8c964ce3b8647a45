"""Read what a picture says about itself: XMP, the texts that generators write, Content Credentials, by any tool."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from portrait.errors import ImageReadError, one_line
from portrait.images.decode import open_picture, read_file
from portrait.images.exif import read_exif
from portrait.provenance.credentials import Credentials, can_sign, read_credentials

_PREFIXES = {
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://ns.useplus.org/ldf/xmp/1.0/": "plus",
}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXIF_IFD, _USER_COMMENT, _IMAGE_DESCRIPTION, _SOFTWARE, _XMP_TAG = 0x8769, 0x9286, 270, 305, 700
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_MAX_TEXT, _MAX_DEPTH = 1_000_000, 50
SOURCES = {
    "compositeWithTrainedAlgorithmicMedia": "a picture with parts made by a trained model (generative AI)",
    "trainedAlgorithmicMedia": "made by a trained model (generative AI)",
    "compositeSynthetic": "a composite with synthetic parts",
    "algorithmicMedia": "made by an algorithm without training",
    "algorithmicallyEnhanced": "a photo, enhanced by an algorithm",
    "digitalCapture": "taken by a camera",
    "digitalCreation": "drawn by a person with digital tools",
    "humanEdits": "edited by a person",
}
"""IPTC's DigitalSourceType codes in words."""
GENERATED_SOURCES = ("compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a picture says about itself.

    `xmp` maps names such as Iptc4xmpExt:DigitalSourceType to values, and `texts` the chunks and tags of generators to their
    text; `parameters` is the text of AUTOMATIC1111's convention. `unread` says what could not be read, and why.
    """

    path: str
    format: str
    size: tuple[int, int]
    xmp: dict[str, str]
    parameters: str
    texts: dict[str, str]
    credentials: Credentials | None
    unread: tuple[str, ...] = ()

    @property
    def source_types(self) -> tuple[str, ...]:
        """The IPTC codes stated by XMP or by the actions of intact credentials, such as trainedAlgorithmicMedia."""
        urls = [self.xmp.get("Iptc4xmpExt:DigitalSourceType", "")]
        if self.credentials is not None and self.credentials.state != "invalid":
            urls += [action.digital_source_type for action in self.credentials.actions]
        return tuple(dict.fromkeys(url.rstrip("/").rpartition("/")[2] for url in urls if url))

    @property
    def generated(self) -> bool:
        """Whether it says that a trained model was involved; if it does not, that proves nothing."""
        return any(code in GENERATED_SOURCES for code in self.source_types)

    def as_json(self) -> dict[str, object]:
        """The JSON object that `portrait inspect --json` prints."""
        return asdict(self) | {"source_types": list(self.source_types), "generated": self.generated}


def inspect_picture(path: Path, *, anchors: bytes = b"") -> Inspection:
    """Read what a picture says about itself, and verify what is signed.

    Args:
        path: JPEG, PNG, WebP, TIFF, AVIF, HEIC, GIF or BMP.
        anchors: PEM of the certificates that are trusted to issue signers.

    Raises:
        ImageReadError: the file is not a picture, damaged, or too large.
        SettingsError: `anchors` does not contain certificates.
    """
    data = read_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_picture(data, str(path))
            image.load()  # texts may follow the pixels
            packet, texts = _xmp_packet(image), _texts(image)
        except ImageReadError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            raise ImageReadError(f"{path} is not a picture that can be read: {one_line(error)}") from None
    unread: list[str] = []
    xmp: dict[str, str] = {}
    try:
        xmp = read_xmp(packet)
    except ValueError as error:
        unread.append(f"XMP: {error}")
    credentials = None
    if can_sign():
        credentials = read_credentials(data, Image.MIME.get(image.format or "", ""), anchors=anchors)
    else:
        unread.append("Content Credentials: not read; run: pip install 'portrait-stylizer[sign]'")
    return Inspection(
        path=str(path),
        format=image.format or "",
        size=image.size,
        xmp=xmp,
        parameters=texts.pop("parameters", ""),
        texts=texts,
        credentials=credentials,
        unread=tuple(unread),
    )


def _xmp_packet(image: Image.Image) -> bytes:
    for key in _XMP_KEYS:
        value = image.info.get(key)
        if value:
            return value.encode() if isinstance(value, str) else bytes(value)
    value = getattr(image, "tag_v2", {}).get(_XMP_TAG, b"")
    return value if isinstance(value, bytes) else b""


def _texts(image: Image.Image) -> dict[str, str]:
    """The texts of a PNG, the comments of other kinds, and EXIF's UserComment as `parameters` if it looks like them."""
    texts = dict(getattr(image, "text", {}))
    for key in _XMP_KEYS:
        texts.pop(key, None)
    if isinstance(comment := image.info.get("comment"), bytes | str):
        texts.setdefault("comment", comment if isinstance(comment, str) else comment.decode("utf-8", "replace"))
    exif = read_exif(image)
    if software := exif.get(_SOFTWARE):
        texts["Software"] = str(software)
    comments = {
        "UserComment": _user_comment(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)),
        "ImageDescription": _utf8(str(exif.get(_IMAGE_DESCRIPTION, ""))),
    }
    for name, comment in comments.items():
        if comment:
            texts["parameters" if "Steps: " in comment and "parameters" not in texts else name] = comment
    return {str(name): str(text)[:_MAX_TEXT] for name, text in texts.items()}


def _utf8(text: str) -> str:
    """Decode a tag that Pillow read as Latin-1 as UTF-8, which most tools write."""
    try:
        return text.encode("latin-1").decode("utf-8").strip("\0 ")
    except UnicodeError:
        return text


def _user_comment(value: object) -> str:
    """Decode EXIF's UserComment: eight bytes name its encoding. UTF-16 occurs in either byte order, regardless of the file's."""
    if isinstance(value, str):
        return value.strip("\0 ")
    if not isinstance(value, bytes):
        return ""
    code, text = value[:8], value[8:]
    if code == b"UNICODE\0":
        little = text[1:200:2].count(0) > text[0:200:2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0\ufeff ")
    return (text if code.rstrip(b"\0") in (b"ASCII", b"") else value).decode("utf-8", "replace").strip("\0 ")


def read_xmp(packet: bytes) -> dict[str, str]:
    """Read an XMP packet: values by name, such as xmp:CreatorTool; lists are joined by `; `, structures by `/`.

    Raises:
        ValueError: it is not well-formed, or has a DTD, which XMP never has.
    """
    text = packet.decode("utf-8", "replace").strip("\0\ufeff \r\n\t")
    if not text:
        return {}
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it has a DTD")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  (without a DTD there are no entities)
    except ElementTree.ParseError as error:
        raise ValueError(f"not well-formed: {error}") from None
    first = next(root.iter(f"{_RDF}Description"), None)
    if first is None:
        return {}
    names = [name for name in first.attrib if not name.startswith((_RDF, "{http://www.w3.org/XML"))]
    values = {_short(name): first.attrib[name] for name in names}
    for description in (first, *root.findall(f".//{_RDF}RDF/{_RDF}Description")[1:]):
        for child in description:
            values |= dict(_leaves(child, _short(child.tag), _MAX_DEPTH))
    return values


def _leaves(element: ElementTree.Element, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """(name, value) of every text below an XMP property."""
    resource = element.get(f"{_RDF}resource")
    if resource or not len(element):
        yield name, resource or (element.text or "").strip()
        return
    items = element.findall(f"*/{_RDF}li")
    if items and not any(map(len, items)):
        yield name, "; ".join((item.text or item.get(f"{_RDF}resource") or "").strip() for item in items)
    elif depth:
        for child in element:
            is_container = child.tag.startswith(_RDF)
            yield from _leaves(child, name if is_container else f"{name}/{_short(child.tag)}", depth - 1)


def _short(tag: str) -> str:
    """`{namespace}name` as `prefix:name`."""
    namespace, brace, name = tag[1:].partition("}")
    return f"{_PREFIXES.get(namespace, namespace)}:{name}" if brace else tag
