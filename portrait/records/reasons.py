"""Why a picture was rejected, as a code and an optional detail: `burned`, `identity_low:dlib`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Reason(str):
    """A reason as text: a code of `judge.verdict.REASONS`, optionally followed by a colon and a judge, style or keep.

    It compares, hashes and prints as that text. Codes of later versions are accepted.
    """

    __slots__ = ()

    @property
    def code(self) -> str:
        """The code: `identity_low` of `identity_low:dlib`."""
        return self.partition(":")[0]

    @property
    def subject(self) -> str:
        """The judge, style or keep: `dlib` of `identity_low:dlib`; empty if there is none."""
        return self.partition(":")[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate from text and serialize as text."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
