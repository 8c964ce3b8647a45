"""The provenance in pictures, read by other tools: exiftool and c2pa's own reader."""

from __future__ import annotations

import datetime
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image, PngImagePlugin

import portrait
from portrait.api import PortraitStylizer
from portrait.cli.main import main
from portrait.errors import ImageReadError, SettingsError
from portrait.images import pixels_sha256, read_photo, write_picture
from portrait.provenance.credentials import MAKING, MIME, Signer, read_credentials, recipe_sha256
from portrait.provenance.files import encode_portrait
from portrait.provenance.inspect import inspect_picture, read_xmp
from portrait.provenance.mark import GENERATED, xmp_mark
from portrait.records.portrait import PortraitRecord, read_portrait
from portrait.studio import downloads
from portrait.studio.downloads import file_of
from portrait.studio.session import HistoryEntry
from tests.campaigns import Load, person, write_campaign, write_limits
from tests.golden_records import golden_portrait

PIXELS = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
KINDS = ["png", "jpg", "webp", "tif"]


def exiftool(path: Path) -> dict[str, Any]:
    if shutil.which("exiftool") is None:
        pytest.skip("no exiftool here (Debian: apt install libimage-exiftool-perl)")
    result = subprocess.run(["exiftool", "-json", "-G1", str(path)], capture_output=True, text=True, check=True)
    values: dict[str, Any] = json.loads(result.stdout)[0]
    return values


class Certificates:
    """A root and a signer's certificate of its own making, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = self.issue("Test root", "Test root", root_key, root_key, root=True)
        leaf = self.issue("Studio Test", "Test root", key, root_key)
        self.roots = self.write("root.pem", self.root.public_bytes(Encoding.PEM))
        self.chain = self.write("chain.pem", leaf.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM))
        self.key = self.write("key.pem", self.pem(key))
        self.root_key, self.leaf_key = root_key, key

    def write(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    @staticmethod
    def pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
        data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
        return data

    @staticmethod
    def issue(
        name: str, issuer: str, key: Any, issuer_key: Any, *, root: bool = False, days: int = 30
    ) -> x509.Certificate:
        def called(text: str) -> x509.Name:
            pairs = ((NameOID.ORGANIZATION_NAME, "Tests of portrait"), (NameOID.COMMON_NAME, text))
            return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])

        now = datetime.datetime.now(datetime.UTC)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        usage |= {"digital_signature": not root, "key_cert_sign": root, "crl_sign": root}
        builder = (
            x509.CertificateBuilder(called(issuer), called(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not root:
            parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
            builder = builder.add_extension(parent, critical=False)
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def signer(certificates: Certificates) -> Signer:
    return Signer.from_files(certificates.chain, certificates.key)


@pytest.fixture
def stylizer(tmp_path: Path) -> Callable[..., Any]:
    limits = str(write_limits(tmp_path / "limits.json"))
    loaded = PortraitStylizer(Load()(None))  # type: ignore[arg-type]
    return lambda photo, **settings: loaded.stylize(photo, "oil", thresholds=limits, max_attempts=1, **settings)


def manifest_of(data: bytes, mime: str) -> dict[str, Any]:
    """The active manifest, by c2pa's own reader."""
    with c2pa.Reader(mime, io.BytesIO(data)) as reader:
        assert reader.get_validation_state() == "Valid"
        active: dict[str, Any] = reader.get_active_manifest()
    return active


def assertion(manifest: dict[str, Any], label: str) -> Any:
    (data,) = (entry["data"] for entry in manifest["assertions"] if entry["label"] == label)
    return data


# ---- the mark


@pytest.mark.parametrize("kind", KINDS)
def test_exiftool_reads_the_mark_and_the_tool(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"p.{kind}"
    path.write_bytes(encode_portrait(PIXELS, kind, golden_portrait()))
    values = exiftool(path)
    assert values["XMP-iptcExt:DigitalSourceType"] == GENERATED
    assert values["XMP-xmp:CreatorTool"] == f"portrait {portrait.__version__}"
    parameters = values[{"png": "PNG:Parameters", "tif": "IFD0:ImageDescription"}.get(kind, "ExifIFD:UserComment")]
    assert "Steps: " in parameters
    assert not [name for name in values if name.startswith("XMP") and "Date" in name]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_read_back_in_any_script(kind: str, tmp_path: Path) -> None:
    path = write_picture(tmp_path / f"p.{kind}", PIXELS, parameters="eine Küche, 肖像\nSteps: 20, Seed: 1")
    assert inspect_picture(path).parameters == "eine Küche, 肖像\nSteps: 20, Seed: 1"


@pytest.mark.parametrize("kind", KINDS)
def test_without_metadata_only_the_mark_stays(kind: str, tmp_path: Path) -> None:
    record = golden_portrait()
    record = record.model_copy(update={"settings": replace(record.settings, no_metadata=True)})
    path = tmp_path / f"p.{kind}"
    path.write_bytes(encode_portrait(PIXELS, kind, record))
    inspection = inspect_picture(path)
    assert inspection.xmp == {"Iptc4xmpExt:DigitalSourceType": GENERATED}
    assert (inspection.parameters, inspection.texts) == ("", {})
    assert b"portrait 0" not in path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_picture_is_the_same_bytes(kind: str) -> None:
    assert encode_portrait(PIXELS, kind, golden_portrait()) == encode_portrait(PIXELS, kind, golden_portrait())


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_no_pixel_depends_on_the_mark(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"p.{kind}"
    path.write_bytes(encode_portrait(PIXELS, kind, golden_portrait()))
    assert pixels_sha256(read_photo(path).pixels) == pixels_sha256(PIXELS)


def test_python_saves_what_the_command_line_writes(stylizer: Callable[..., Any], tmp_path: Path) -> None:
    path = stylizer(person(1)).save(tmp_path / "anna.tiff")
    assert inspect_picture(path).generated
    assert "Model: mini" in inspect_picture(path).parameters


# ---- Content Credentials


@pytest.mark.parametrize("kind", KINDS)
def test_c2pas_reader_verifies_what_is_signed(kind: str, signer: Signer) -> None:
    record = golden_portrait()
    plain = encode_portrait(PIXELS, kind, record)
    signed = encode_portrait(PIXELS, kind, record, signer=signer)
    manifest = manifest_of(signed, MIME[kind])
    created = assertion(manifest, "c2pa.actions.v2")["actions"][0]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", GENERATED)
    photo = next(part for part in manifest["ingredients"] if part["title"] == "photo")
    assert len(manifest["ingredients"]) == 1 + len(record.input.references)
    assert (photo["relationship"], photo["instance_id"]) == ("inputTo", f"sha256:{record.input.sha256}")
    making = assertion(manifest, MAKING)
    assert making["pixels"]["hash"] == record.picture.pixels_sha256
    assert making["recipe"]["name"] == record.recipe
    assert {weight["name"]: weight["hash"] for weight in making["weights"]} == record.weights
    before, after = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (plain, signed))
    assert np.array_equal(before, after)


def test_a_signature_states_no_path_no_face_and_no_likeness(signer: Signer) -> None:
    record = golden_portrait().with_input_path("/home/anna/private/anna-smith.jpg")
    signed = encode_portrait(PIXELS, "png", record, signer=signer)
    text = json.dumps(manifest_of(signed, "image/png"))
    for secret in ("anna", "/home", "bbox", "kps", "similarity", "embedding", "thumbnail"):
        assert secret not in text
        assert secret.encode() not in signed


def test_another_recipe_another_digest() -> None:
    record = golden_portrait()
    digest = recipe_sha256(record)
    assert recipe_sha256(record.with_input_path("elsewhere.jpg")) == digest
    assert recipe_sha256(record.model_copy(update={"prompt": "another"})) != digest
    assert recipe_sha256(record.model_copy(update={"weights": {"unet": "0" * 64}})) != digest


def test_a_changed_picture_is_invalid_and_a_known_root_makes_it_trusted(
    signer: Signer, certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(encode_portrait(PIXELS, "png", golden_portrait(), signer=signer))
    assert main(["inspect", str(path)]) == 0
    output = capsys.readouterr().out
    assert "nobody vouches for the signer" in output
    assert "signed by: Studio Test" in output
    assert f"made by: recipe {golden_portrait().recipe} sha256:{recipe_sha256(golden_portrait())}" in output
    assert f"with: {len(golden_portrait().weights)} files of weights" in output
    assert main(["inspect", str(path), "--trust", str(certificates.roots), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["credentials"]["state"], value["generated"]) == ("trusted", True)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"IDAT") + 100
    data[at] ^= 1
    changed = read_credentials(bytes(data), "image/png")
    assert changed is not None
    assert changed.state == "invalid"
    assert "assertion.dataHash.mismatch" in changed.failures[0]


@pytest.mark.parametrize(
    "what", ["other key", "encrypted", "no key", "no certificate", "absent", "expired", "root", "rsa"]
)
def test_a_signer_that_cannot_sign_is_refused_at_once(what: str, certificates: Certificates, tmp_path: Path) -> None:
    def file(data: bytes) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.pem"
        path.write_bytes(data)
        return path

    chain, key, leaf_key = certificates.chain, certificates.key, certificates.leaf_key
    other = ec.generate_private_key(ec.SECP256R1())
    old = certificates.issue("Old", "Test root", leaf_key, certificates.root_key, days=-1).public_bytes(Encoding.PEM)
    short = rsa.generate_private_key(65537, 1024)
    weak = certificates.issue("Weak", "Test root", short, certificates.root_key).public_bytes(Encoding.PEM)
    root = certificates.root.public_bytes(Encoding.PEM)
    cases = {
        "other key": (chain, file(certificates.pem(other)), "is not the key of"),
        "encrypted": (chain, file(certificates.pem(leaf_key, BestAvailableEncryption(b"x"))), "is encrypted"),
        "no key": (chain, file(b"hello"), "is not a private key in PEM"),
        "no certificate": (file(b"hello"), key, "is not a certificate in PEM"),
        "absent": (tmp_path / "absent.pem", key, "cannot read"),
        "expired": (file(old + root), key, "cannot sign"),
        "root": (certificates.roots, file(certificates.pem(certificates.root_key)), "cannot sign"),
        "rsa": (file(weak + root), file(certificates.pem(short)), "cannot sign"),
    }
    certificate, secret, says = cases[what]
    with pytest.raises(SettingsError, match=says):
        Signer.from_files(certificate, secret)


def test_a_signer_shows_no_key(signer: Signer) -> None:
    assert "PRIVATE" not in repr(signer)
    assert repr(signer) == "Signer(algorithm='es256')"


# ---- the doors


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("stylize", "records"):
        monkeypatch.setattr(f"portrait.cli.{command}.load_loop", Load())


@pytest.mark.usefixtures("fake_models")
def test_stylize_signs_and_replay_still_finds_the_pixels(certificates: Certificates, tmp_path: Path) -> None:
    write_picture(tmp_path / "anna.png", person(1))
    limits = write_limits(tmp_path / "limits.json", 0.5)
    sign = ["--sign", str(certificates.chain), str(certificates.key)]
    words = ["stylize", str(tmp_path / "anna.png"), "--style", "oil", "--thresholds", str(limits), "-o", str(tmp_path)]
    main([*words, *sign, "--quiet"])
    (file,) = tmp_path.glob("anna-oil-1*.json")
    record = read_portrait(file.read_bytes())
    assert isinstance(record, PortraitRecord)
    assert "PRIVATE" not in file.read_text()
    assert str(certificates.folder) not in file.read_text()
    picture = file.with_suffix(".png")
    assert pixels_sha256(read_photo(picture).pixels) == record.picture.pixels_sha256
    assert (
        assertion(manifest_of(picture.read_bytes(), "image/png"), MAKING)["pixels"]["hash"]
        == record.picture.pixels_sha256
    )
    assert main(["replay", str(file)]) == 0
    for name in ("contact-sheet.jpg", f"{file.stem}-before-after.jpg"):
        assert exiftool(tmp_path / name)["XMP-iptcExt:DigitalSourceType"] == GENERATED
    with pytest.raises(SystemExit):
        main([*words, "--sign", "one"])
    assert main([*words, *sign, "--no-metadata"]) == 2


@pytest.mark.usefixtures("fake_models")
def test_no_metadata_says_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "anna.png", person(1))
    limits = str(write_limits(tmp_path / "limits.json", 0.5))
    main(["stylize", str(tmp_path / "anna.png"), "--thresholds", limits, "-o", str(tmp_path), "--no-metadata"])
    assert "the pictures say only that they are generated" in capsys.readouterr().out
    (picture,) = tmp_path.glob("anna-watercolor-1*.png")
    assert inspect_picture(picture).xmp == {"Iptc4xmpExt:DigitalSourceType": GENERATED}
    assert inspect_picture(picture).parameters == ""


def test_a_campaign_marks_its_pictures_and_signs_what_it_hands_over(
    certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from portrait.campaign.plan import read_plan
    from portrait.campaign.run import run_campaign
    from tests.campaigns import local

    plan = read_plan(write_campaign(tmp_path, people=2, styles=("oil",)))
    run = tmp_path / "run"
    run_campaign(plan, run, local())
    pictures = sorted((run / "pictures").rglob("*.png"))
    assert pictures
    assert all(exiftool(path)["XMP-iptcExt:DigitalSourceType"] == GENERATED for path in pictures)
    out = tmp_path / "delivery"
    words = [
        "campaign",
        "export",
        str(run),
        "-o",
        str(out),
        "--size",
        "original",
        "--size",
        "square",
        "--size",
        "round-256",
    ]
    assert main([*words, "--sign", str(certificates.chain), str(certificates.key)]) == 0
    files = [path for path in sorted(out.rglob("*")) if path.suffix in (".png", ".jpg")]
    assert len(files) >= 3
    for path in files:
        assert exiftool(path)["XMP-iptcExt:DigitalSourceType"] == GENERATED
        actions = assertion(manifest_of(path.read_bytes(), MIME[path.suffix[1:]]), "c2pa.actions.v2")["actions"]
        cut = ["c2pa.cropped", "c2pa.resized"] if path.stem.endswith(("square", "256")) else []
        assert [action["action"] for action in actions] == ["c2pa.created", *cut]
    capsys.readouterr()


def test_every_file_of_a_studio_download_is_marked_and_signed(
    stylizer: Callable[..., Any], signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portrait.loop.types import StylizedPortrait
    from portrait.settings import Settings

    loop = Load()(Settings())
    from portrait.images import as_photo

    (subject,) = loop.subjects(as_photo(person(1)), "auto", ())
    settings = Settings(thresholds=str(tmp_path / "limits.json"), max_attempts=1, style=("oil",))
    finished: StylizedPortrait = loop.stylize(subject, "oil", settings)
    entry = HistoryEntry(
        number=1, portrait=finished, settings=settings, photo="anna.png", has_file=True, thumbnail=finished.picture
    )
    monkeypatch.setattr(
        downloads, "CUTS", {name: downloads.CUTS[name] for name in ("story", "avatar-256", "round-256")}
    )
    picture, archive = (file_of(entry, f"anna-oil-1.{suffix}", signer) for suffix in ("png", "zip"))
    assert picture is not None
    assert archive is not None
    manifest_of(picture, "image/png")
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        names = [name for name in bundle.namelist() if not name.endswith(".json")]
        assert len(names) >= 4
        for name in names:
            file = tmp_path / name
            file.write_bytes(bundle.read(name))
            manifest_of(file.read_bytes(), MIME[file.suffix[1:]])
            assert exiftool(file)["XMP-iptcExt:DigitalSourceType"] == GENERATED


def test_the_key_of_a_job_is_what_it_was_and_another_without_metadata() -> None:
    from portrait.campaign.keys import shared_ingredients
    from portrait.settings import Settings

    assert "no_metadata" not in shared_ingredients(Settings())
    assert shared_ingredients(Settings(no_metadata=True))["no_metadata"] is True


# ---- inspect, of other tools


def test_a_picture_without_metadata_is_said_to_prove_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_picture(tmp_path / "p.jpg", PIXELS)
    assert main(["inspect", str(path)]) == 0
    assert "does not say how it was made; that proves nothing" in capsys.readouterr().out


def test_what_exiftool_wrote_is_read(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "p.png", PIXELS)
    exiftool(path)  # skips where there is none
    source = GENERATED.replace("compositeWithT", "t")
    arguments = [
        f"-XMP-iptcExt:DigitalSourceType={source}",
        "-XMP-dc:Title=Ärger",
        "-XMP-dc:Subject=a",
        "-XMP-dc:Subject=b",
    ]
    subprocess.run(["exiftool", "-q", "-overwrite_original", *arguments, str(path)], check=True)
    inspection = inspect_picture(path)
    assert inspection.source_types == ("trainedAlgorithmicMedia",)
    assert inspection.generated
    assert (inspection.xmp["dc:title"], inspection.xmp["dc:subject"]) == ("Ärger", "a; b")


def test_the_texts_of_other_generators_are_shown_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", '{"nodes": []}')
    info.add_text("parameters", "a cat\x1b[31m\nSteps: 20, Seed: 3")
    Image.fromarray(PIXELS).save(tmp_path / "p.png", pnginfo=info)
    assert main(["inspect", str(tmp_path / "p.png")]) == 0
    output = capsys.readouterr().out
    assert "Steps: 20, Seed: 3" in output
    assert 'workflow: {"nodes": []}' in output
    assert "\x1b" not in output


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
def test_a_comment_in_either_byte_order_is_the_parameters(order: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "eine Küche\nSteps: 20".encode(order)
    Image.fromarray(PIXELS).save(tmp_path / "p.webp", exif=exif)
    assert inspect_picture(tmp_path / "p.webp").parameters == "eine Küche\nSteps: 20"


def test_xmp_as_attributes_elements_and_structures_is_read() -> None:
    packet = xmp_mark().replace(
        "<Iptc4xmpExt:DigitalSourceType>",
        '<xmp:Nested rdf:parseType="Resource"><xmp:Part>x</xmp:Part></xmp:Nested><Iptc4xmpExt:DigitalSourceType>',
    )
    values = read_xmp(packet.replace('rdf:about=""', 'rdf:about="" xmp:Rating="5"', 1).encode())
    assert values["xmp:Nested/xmp:Part"] == "x"
    assert values["xmp:Rating"] == "5"
    assert values["Iptc4xmpExt:DigitalSourceType"] == GENERATED


@pytest.mark.parametrize("packet", [b"<x", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_hostile_xmp_is_named_and_not_followed(packet: bytes, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "p.jpg", xmp=packet)
    inspection = inspect_picture(tmp_path / "p.jpg")
    assert inspection.xmp == {}
    assert inspection.unread[0].startswith("XMP: ")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageReadError, match="not a picture that can be read"):
        inspect_picture(tmp_path / "p.png")
    with pytest.raises(ImageReadError, match="cannot read"):
        inspect_picture(tmp_path / "absent.png")


def test_without_the_library_signing_and_inspecting_say_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    monkeypatch.setattr("portrait.provenance.credentials.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"portrait-stylizer\[sign\]"):
        Signer.from_files(certificates.chain, certificates.key)
    assert "not read" in inspect_picture(write_picture(tmp_path / "p.png", PIXELS)).unread[0]
