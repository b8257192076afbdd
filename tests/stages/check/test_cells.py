"""Tables as plain text."""

from amble.stages.check.cells import Table


def test_a_table_is_printed_with_aligned_columns_and_its_remarks() -> None:
    table = Table("Times", ("operator", "time"), (("conv", "3 ms"), ("a\nb", "12 ms")), ("one remark",))
    assert str(table).splitlines() == ["Times", "operator  time", "conv      3 ms", "a; b      12 ms", "  one remark"]


def test_a_table_without_rows_is_its_title_and_columns() -> None:
    assert str(Table("Nothing", ("what",), ())).splitlines() == ["Nothing", "what"]
