"""What of a run's outputs is stored in the notebooks."""

from nbformat.v4 import new_output

from milr.companion.reference import strip


def test_what_is_printed_in_a_row_is_one_output_wherever_it_broke():
    printed = [new_output("stream", text=text) for text in ("a\n", "b", "\n")]
    value = new_output("execute_result", {"text/plain": "3", "image/png": "x"})
    noise = new_output("stream", name="stderr", text="50 %\n")
    found = strip([*printed[:2], noise, printed[2], value, new_output("stream", text="c\n")])
    assert [one.output_type for one in found] == ["stream", "execute_result", "stream"]
    assert [found[0].text, found[2].text] == ["a\nb\n", "c\n"]
    assert found[1].data == {"text/plain": "3"}
