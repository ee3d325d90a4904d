# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable, Iterator
from typing import Any

class Cell:
    value: Any
    column: int
    data_type: str

class RowDimension:
    hidden: bool

class Validation:
    sqref: Any
    formula1: str | None
    type: str | None

class Validations:
    dataValidation: list[Validation]

class Protection:
    sheet: bool

class Worksheet:
    title: str
    max_row: int
    max_column: int
    sheet_state: str
    row_dimensions: dict[int, RowDimension]
    data_validations: Validations
    protection: Protection
    def __getitem__(self, key: int) -> tuple[Cell, ...]: ...
    def cell(self, row: int, column: int, value: Any = None) -> Cell: ...
    def append(self, iterable: Iterable[Any]) -> None: ...
    def delete_rows(self, idx: int, amount: int = 1) -> None: ...
    def iter_rows(
        self, min_row: int | None = None, max_row: int | None = None, values_only: bool = False
    ) -> Iterator[tuple[Any, ...]]: ...
