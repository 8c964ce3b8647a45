"""Content Credentials (C2PA): sign and verify statements, embedded in a picture, about how it was made.

Needs the extra `sign` (`c2pa-python`). Nothing is fetched: no remote manifest, no OCSP answer, no time stamp.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

import portrait
from portrait.errors import PortraitError, SettingsError, one_line
from portrait.files import json_sha256, read_bytes
from portrait.images import encode_picture
from portrait.provenance.mark import GENERATED
from portrait.records.portrait import PortraitRecord

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

MAKING = "org.portrait-stylizer.making"
"""Label of the assertion with the digests of recipe, weights and pixels."""
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff"}
CROP_ACTIONS = ("c2pa.cropped", "c2pa.resized")
"""The actions on a portrait that is exported in another size."""
_OFFLINE = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


def can_sign() -> bool:
    """Whether the library for Content Credentials is installed."""
    return find_spec("c2pa") is not None


def _library() -> ModuleType:
    if not can_sign():
        raise SettingsError("Content Credentials need c2pa-python; run: pip install 'portrait-stylizer[sign]'")
    import c2pa

    module: ModuleType = c2pa
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A certificate chain and its private key, both PEM, which never appear in records, logs or messages."""

    certificates: bytes = field(repr=False)
    key: bytes = field(repr=False)
    algorithm: str

    @classmethod
    def from_files(cls, certificate: Path, key: Path) -> Signer:
        """Read a signer, and try it on a picture of one pixel, so that mistakes show before the models load.

        Args:
            certificate: PEM: the signer's certificate, then its issuers; a well-known root may be omitted.
            key: PEM, not encrypted: EC on P-256, P-384 or P-521, RSA of at least 2048 bits, or Ed25519.

        Raises:
            SettingsError: a file cannot be read, certificate and key do not match, or C2PA does not allow the certificate.
        """
        _library()
        chain, secret = read_bytes(certificate), read_bytes(key)
        signer = cls(certificates=chain, key=secret, algorithm=_algorithm(chain, secret, certificate, key))
        pixel = encode_picture(np.zeros((8, 8, 3), np.uint8), "png")
        try:
            signed = signer.embed(pixel, "png", {"claim_generator_info": [_generator()], "assertions": [_actions([])]})
            failures = read_credentials(signed, MIME["png"]).failures  # type: ignore[union-attr]
        except PortraitError as error:
            raise SettingsError(f"{certificate} cannot sign: {error}") from None
        if failures:
            raise SettingsError(f"{certificate} cannot sign: {'; '.join(failures)}")
        return signer

    def sign(self, data: bytes, kind: str, record: PortraitRecord, *, edits: Sequence[str] = ()) -> bytes:
        """Add Content Credentials to a picture file of a `kind` of `WRITE_FORMATS`; its pixels stay.

        The statement includes the SHA-256 of photo and references, the recipe's name and digest, and the digests of the
        weights and of the portrait's pixels, but no path, face, similarity or embedding. `edits` are C2PA actions after the
        portrait was made, such as c2pa.cropped.

        Raises:
            SettingsError: the file cannot be signed.
        """
        return self.embed(data, kind, manifest(record, edits))

    def embed(self, data: bytes, kind: str, statement: Mapping[str, object]) -> bytes:
        c2pa = _library()
        signed = io.BytesIO()
        info = c2pa.C2paSignerInfo(self.algorithm, self.certificates, self.key, None)
        try:
            with (
                c2pa.Context.from_dict(_OFFLINE) as context,
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(statement, context=context) as builder,
            ):
                builder.sign(signer, MIME[kind], io.BytesIO(data), signed)
        except (c2pa.C2paError, ValueError) as error:
            raise SettingsError(f"signing failed: {one_line(error)}") from None
        return signed.getvalue()


def _algorithm(chain: bytes, secret: bytes, certificate: Path, key: Path) -> str:
    """The C2PA name of the key's algorithm, after checking that the key matches the first certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise SettingsError(f"{certificate} is not a certificate in PEM") from None
    try:
        private = load_pem_private_key(secret, password=None)
    except TypeError:
        raise SettingsError(f"{key} is encrypted; decrypt it first, for example with: openssl pkey -in {key}") from None
    except ValueError:
        raise SettingsError(f"{key} is not a private key in PEM") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise SettingsError(f"{key} is not the key of {certificate}")
    name = _algorithm_of(private)
    if not name:
        raise SettingsError(f"{key}: C2PA signs with EC (P-256, P-384, P-521), RSA or Ed25519 keys, not with this one")
    return name


def _algorithm_of(private: PrivateKeyTypes) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ec.EllipticCurvePrivateKey):
        return _CURVES.get(private.curve.name, "")
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    return "ed25519" if isinstance(private, ed25519.Ed25519PrivateKey) else ""


# What is stated ----------------------------------------------------------------------------------------------------


def manifest(record: PortraitRecord, edits: Sequence[str] = ()) -> dict[str, object]:
    """The manifest to sign: how the picture was made, by digests alone."""
    photos = [record.input, *record.input.references]
    labels = ["photo", *(f"reference-{n}" for n in range(1, len(photos)))]
    ingredients = [
        {"title": label, "label": label, "relationship": "inputTo", "instance_id": f"sha256:{photo.sha256}"}
        for label, photo in zip(labels, photos, strict=True)
    ]
    making = {
        "recipe": {"name": record.recipe, "alg": "sha256", "hash": recipe_sha256(record)},
        "weights": [{"name": n, "alg": "sha256", "hash": h} for n, h in sorted(record.weights.items())],
        "pixels": {"alg": "sha256", "hash": record.picture.pixels_sha256},
    }
    edited = ["c2pa.edited"] if record.background is not None or record.frame == "full" else []
    return {
        "claim_generator_info": [_generator()],
        "title": f"{record.style} portrait",
        "ingredients": ingredients,
        "assertions": [_actions(labels, [*edited, *edits]), {"label": MAKING, "data": making, "created": True}],
    }


def recipe_sha256(record: PortraitRecord) -> str:
    """SHA-256 of everything that determined the picture: recipe, style, prompts, knobs, seed, sampler, and weights' digests."""
    attempt = record.chosen_attempt
    making = {name: getattr(record, name) for name in ("recipe", "style", "prompt", "negative_prompt", "sampler")}
    making |= {"knobs": asdict(attempt.knobs), "seed": attempt.seed, "weights": record.weights}
    return json_sha256(making)


def _actions(ingredients: Sequence[str], edits: Sequence[str] = ()) -> dict[str, object]:
    created = {"action": "c2pa.created", "digitalSourceType": GENERATED, "softwareAgent": _generator()}
    if ingredients:
        created["parameters"] = {"ingredientIds": [*ingredients]}
    later = [{"action": name, "softwareAgent": _generator()} for name in edits]
    return {"label": "c2pa.actions.v2", "data": {"actions": [created, *later]}, "created": True}


def _generator() -> dict[str, str]:
    return {"name": "portrait", "version": portrait.__version__}


# What is read ------------------------------------------------------------------------------------------------------


Text = Annotated[str, BeforeValidator(str)]
"""Any value as text, since pictures of other tools are read too."""


class _Stated(BaseModel):
    """A part of c2pa's JSON: the keys that are read of it, most of which are optional in the standard."""

    model_config = ConfigDict(frozen=True)


class _Action(_Stated):
    action: Text = "?"
    digital_source_type: Text = Field("", alias="digitalSourceType")


class _Actions(_Stated):
    actions: tuple[_Action, ...] = ()


class _Ingredient(_Stated):
    title: Text = "?"
    instance_id: Text = ""


class _NamedDigest(_Stated):
    name: Text = "?"
    hash: Text = ""


class _Making(_Stated):
    """Recipe and weights by their digests, as portrait states them."""

    recipe: _NamedDigest
    weights: tuple[object, ...]


class _Assertion(_Stated):
    label: Text = ""
    data: object = {}


class _Signature(_Stated):
    common_name: str | None = None
    issuer: str | None = None


class _Manifest(_Stated):
    assertions: tuple[_Assertion, ...] = ()
    ingredients: tuple[_Ingredient, ...] = ()
    signature_info: _Signature = _Signature()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Content Credentials as read and verified.

    `state` is trusted (the signer's certificate was issued by a given anchor), intact (unchanged since it was signed, by a
    signer for whom nobody vouches) or invalid; `failures` say why. `manifest` is c2pa's JSON of the active manifest.
    """

    state: str
    failures: tuple[str, ...]
    signer: str
    manifest: dict[str, Any]

    @property
    def actions(self) -> list[_Action]:
        """The C2PA actions on the picture."""
        statements = [a.data for a in self.stated.assertions if a.label.startswith("c2pa.actions")]
        return [action for data in statements for action in _Actions.model_validate(data).actions]

    @property
    def stated(self) -> _Manifest:
        """What is read of the manifest."""
        return _Manifest.model_validate(self.manifest)

    @property
    def making(self) -> _Making | None:
        """What portrait states about its own pictures; None in pictures of other tools."""
        for assertion in self.stated.assertions:
            if assertion.label == MAKING:
                with suppress(ValidationError):
                    return _Making.model_validate(assertion.data)
        return None


def read_credentials(data: bytes, mime: str, *, anchors: bytes = b"") -> Credentials | None:
    """Read and verify the Content Credentials of a picture file of type `mime`, such as image/png; None if it has none.

    `anchors` is the PEM of the certificates that are trusted to issue signers.

    Raises:
        SettingsError: c2pa-python is not installed, or `anchors` does not contain certificates.
    """
    c2pa = _library()
    settings: dict[str, object] = {**_OFFLINE}
    if anchors:
        settings["trust"] = {"trust_anchors": anchors.decode("ascii", "replace")}
    try:
        context = c2pa.Context.from_dict(settings)
    except c2pa.C2paError as error:
        raise SettingsError(f"the trusted certificates cannot be read: {one_line(error)}") from None
    try:
        with context:
            reader = c2pa.Reader.try_create(mime, io.BytesIO(data), context=context)
            if reader is None:
                return None
            with reader:
                state = reader.get_validation_state()
                results = (reader.get_validation_results() or {}).get("activeManifest", {})
                active = reader.get_active_manifest() or {}
    except c2pa.C2paError as error:
        if type(error).__name__.strip("_") == "C2paNotSupported":
            return None
        return Credentials(state="invalid", failures=(one_line(error),), signer="", manifest={})
    failures = tuple(f"{entry['code']}: {entry.get('explanation', '')}" for entry in results.get("failure", ()))
    signature = _Manifest.model_validate(active).signature_info
    signer = ", ".join(filter(None, (signature.common_name, signature.issuer)))
    word = {"Trusted": "trusted", "Valid": "intact"}.get(state or "", "invalid")
    return Credentials(
        state=word,
        failures=tuple(text for text in failures if not text.startswith("signingCredential.untrusted")),
        signer=signer,
        manifest=active,
    )
