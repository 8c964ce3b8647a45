"""Why a picture was rejected, as a code and what it is about: `burned`, `identity_low:dlib`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Reason(str):
    """A reason as it is written: a code of `judge.verdict.REASONS`, and after a colon which judge, style or keep.

    It compares, hashes and prints as the text that it is. Codes of later versions are read like any other.
    """

    __slots__ = ()

    @property
    def code(self) -> str:
        """What is wrong: `identity_low` of `identity_low:dlib`."""
        return self.partition(":")[0]

    @property
    def subject(self) -> str:
        """Which judge, style or keep it is about: `dlib` of `identity_low:dlib`; empty where the code says it all."""
        return self.partition(":")[2]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read from text, written as text."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
